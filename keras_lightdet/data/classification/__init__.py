"""Images of one class each."""

from keras_lightdet.data.classification.batches import classification_eval_batches, classification_train_batches
from keras_lightdet.data.classification.loading import (
    ClassificationData,
    ClassificationRecord,
    extract_imagenet,
    load_classification,
)

__all__ = [
    "ClassificationData",
    "ClassificationRecord",
    "classification_eval_batches",
    "classification_train_batches",
    "extract_imagenet",
    "load_classification",
]
