"""The label of pixels that belong to no class."""

IGNORE = 255  # neither trained on nor evaluated
