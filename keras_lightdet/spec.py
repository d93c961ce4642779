"""Spec: frozen dataclasses of settings that Keras can save with a model."""

import dataclasses
from typing import Any

import keras

from keras_lightdet.types import Config


class Spec:
    """Base class of the frozen dataclasses of settings; a field is a plain value or another spec."""

    def get_config(self) -> Config:
        """Returns the fields in the form Keras saves."""
        assert dataclasses.is_dataclass(self)
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        specs = {key: value for key, value in values.items() if isinstance(value, Spec)}
        return values | {key: keras.saving.serialize_keras_object(spec) for key, spec in specs.items()}

    @classmethod
    def from_config(cls, config: Config) -> "Spec":
        """Rebuilds the spec that `get_config` wrote."""
        specs = {key: value for key, value in config.items() if isinstance(value, dict)}
        return cls(**config | {key: keras.saving.deserialize_keras_object(spec) for key, spec in specs.items()})
