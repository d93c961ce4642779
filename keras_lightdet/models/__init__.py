"""Models: one paper, one file."""

from keras_lightdet.models.light_head_rcnn import LightHeadRCNN
from keras_lightdet.models.rsanet import RSANet
from keras_lightdet.models.thundernet import ThunderNet

__all__ = ["LightHeadRCNN", "RSANet", "ThunderNet"]
