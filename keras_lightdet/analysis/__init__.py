"""What a Keras model costs and how far it sees."""

from keras_lightdet.analysis.field import ReceptiveField, receptive_field
from keras_lightdet.analysis.model_cost import LayerCost, ModelCost, cost

__all__ = ["LayerCost", "ModelCost", "ReceptiveField", "cost", "receptive_field"]
