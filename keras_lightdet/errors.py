"""The errors users meet: each message names the file or argument at fault and the cure."""


class LightdetError(Exception):
    """Base of every error this package raises on purpose about files and data."""


class DataError(LightdetError, ValueError):
    """An image, an annotation file or a data set that cannot be used."""


class WeightsError(LightdetError, ValueError):
    """A weights file that is damaged, of unknown origin, or incompatible with the model."""


class CheckpointError(LightdetError, ValueError):
    """A training checkpoint that is damaged or belongs to another run."""


class ExportError(LightdetError, ValueError):
    """A .tflite file that could not be written, or that differs from the Keras model."""


class NonFiniteLossError(LightdetError, ArithmeticError):
    """A training loss that became NaN or infinite."""
