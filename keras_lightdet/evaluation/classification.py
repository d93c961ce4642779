"""Evaluation of classifiers on a data set."""

from dataclasses import dataclass

import numpy as np

from keras_lightdet.classification import Classifier
from keras_lightdet.classification.model import DEFAULT_SIZE
from keras_lightdet.data import ClassificationData, classification_eval_batches
from keras_lightdet.evaluation.checks import check_class_names
from keras_lightdet.evaluation.confusion import confusion_matrix, divide, nan_mean
from keras_lightdet.evaluation.results import ClassResult

TOP_K = 5


@dataclass(frozen=True)
class ClassificationClass(ClassResult):
    """The result of one class; a figure without images to divide by is NaN.

    Attributes:
        name: Name of the class.
        recall: Fraction of the images of the class that are predicted as such, 0..1.
        precision: Fraction of the images predicted as the class that are of the class, 0..1.
        num_images: Images of the class.
    """

    name: str
    recall: float
    precision: float
    num_images: int


@dataclass(frozen=True)
class ClassificationResult:
    """The result of a classifier.

    Attributes:
        class_names: Names in label order.
        confusion: Int64 `[K, K]`: images by labeled (rows) and predicted class.
        num_top5: Images whose label is among the five most probable classes.
    """

    class_names: tuple[str, ...]
    confusion: np.ndarray
    num_top5: int

    @property
    def classes(self) -> tuple[ClassificationClass, ...]:
        """The results of the classes in label order."""
        correct, labeled, predicted = np.diag(self.confusion), self.confusion.sum(1), self.confusion.sum(0)
        columns = (divide(correct, labeled), divide(correct, predicted), labeled)
        rows = zip(self.class_names, *(column.tolist() for column in columns), strict=True)
        return tuple(ClassificationClass(*row) for row in rows)

    def figures(self) -> dict[str, float]:
        """Returns the top-1 and top-5 accuracy over all images, and the top-1 accuracy averaged over classes."""
        correct, labeled = np.diag(self.confusion), self.confusion.sum(1)
        return {
            "accuracy": float(divide(correct.sum(), labeled.sum())),
            "top5_accuracy": float(divide(np.int64(self.num_top5), labeled.sum())),
            "class_accuracy": nan_mean(divide(correct, labeled)),
        }


def evaluate_classification(
    model: Classifier, data: ClassificationData, batch_size: int = 32, *, image_size: int | None = None
) -> ClassificationResult:
    """Evaluates a classifier on the center crops of a data set.

    Args:
        model: The classifier.
        data: The labeled images.
        batch_size: Images per batch.
        image_size: Side of the network input in pixels; None for the model's own, or 224 if it has none.

    Raises:
        DataError: The classes of model and data differ.
    """
    check_class_names(model.class_names, data.class_names)
    num_classes = len(data.class_names)
    side = image_size or (model.input_size or DEFAULT_SIZE)[0]
    confusion, num_top5 = np.zeros((num_classes, num_classes), np.int64), 0
    for images, targets in classification_eval_batches(data, side, batch_size):
        labels, logits = np.argmax(targets, axis=-1), model.predict_on_batch(images)
        confusion += confusion_matrix(labels, np.argmax(logits, axis=-1), num_classes)
        num_top5 += int(np.sum(np.argsort(-logits, axis=-1)[:, :TOP_K] == labels[:, None]))
    return ClassificationResult(data.class_names, confusion, num_top5)
