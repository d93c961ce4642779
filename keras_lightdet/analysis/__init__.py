"""The costs and receptive fields of Keras models."""

from keras_lightdet.analysis.model_cost import LayerCost, ModelCost, cost
from keras_lightdet.analysis.receptive_field import ReceptiveField, receptive_field

__all__ = ["LayerCost", "ModelCost", "ReceptiveField", "cost", "receptive_field"]
