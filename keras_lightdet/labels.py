"""The label that all parts of segmentation agree on."""

IGNORE = 255  # pixels with this label are excluded from the loss and from evaluation
