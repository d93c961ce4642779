"""Spec: frozen dataclasses of numbers that Keras can save with a model."""

import dataclasses

import keras


class Spec:
    """Base of the frozen dataclasses that hold a detector's numbers; a field is a plain value or another spec."""

    def get_config(self) -> dict:
        """Returns the fields in the form Keras saves."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            key: keras.saving.serialize_keras_object(value) if isinstance(value, Spec) else value
            for key, value in values.items()
        }

    @classmethod
    def from_config(cls, config: dict) -> "Spec":
        """Rebuilds the spec that `get_config` wrote."""
        return cls(
            **{
                key: keras.saving.deserialize_keras_object(value) if isinstance(value, dict) else value
                for key, value in config.items()
            }
        )
