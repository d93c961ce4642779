"""Data and results of a classifier's run: the pre-training of a backbone."""

from keras_lightdet.classification import Classifier
from keras_lightdet.data import (
    ClassificationData,
    draw_classification_scenes,
    load_classification,
)
from keras_lightdet.evaluation import evaluate_classification
from keras_lightdet.runs.public_data import fetch_imagenet
from keras_lightdet.runs.reporting import write_scores
from keras_lightdet.runs.settings import ClassificationSettings

DEMO_CLASS_IMAGES = {"train": 200, "val": 40}  # of each class


def load_classification_splits(settings: ClassificationSettings) -> tuple[ClassificationData, ClassificationData]:
    """Returns the images to train on and those to evaluate on, and prints how many they are.

    They are drawn in a demo, read from `--data-dir` if it is set, else from ImageNet.

    Raises:
        DataError: If the data are faulty, or ImageNet cannot be prepared.
    """
    if settings.demo:
        draw_classification_scenes(settings.output_dir / "scenes", DEMO_CLASS_IMAGES, seed=settings.seed)
    folder = settings.data_folder or fetch_imagenet(settings.download_dir)
    train_data, val_data = load_classification(folder, "train"), load_classification(folder, "val")
    classes = len(train_data.class_names)
    print(f"{len(train_data)} images to train on, {len(val_data)} to evaluate on, {classes} classes")
    return train_data, val_data


def report_classification(model: Classifier, data: ClassificationData, settings: ClassificationSettings) -> None:
    """Evaluates the best weights, writes scores.json, and prints the top-1 error."""
    result = evaluate_classification(model, data, settings.batch_size, image_size=settings.side)
    write_scores({"val": result}, settings)
    print(f"best weights {settings.best_path}: top-1 error {100 * (1 - result.figures()['accuracy']):.1f} %")
