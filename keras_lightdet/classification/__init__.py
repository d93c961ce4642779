"""Image classification: the class of the models that the backbones build when `num_classes` is given."""

from keras_lightdet.classification.model import Classification, Classifier, classification_head

__all__ = ["Classification", "Classifier", "classification_head"]
