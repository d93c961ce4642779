"""Models: one paper, one file."""

from keras_lightdet.models.bisenet import BiSeNet
from keras_lightdet.models.dfanet import DFANet
from keras_lightdet.models.efficientdet import EfficientDet
from keras_lightdet.models.faster_rcnn import FasterRCNN
from keras_lightdet.models.light_head_rcnn import LightHeadRCNN
from keras_lightdet.models.retinanet import RetinaNet
from keras_lightdet.models.rsanet import RSANet
from keras_lightdet.models.thundernet import ThunderNet

__all__ = ["BiSeNet", "DFANet", "EfficientDet", "FasterRCNN", "LightHeadRCNN", "RSANet", "RetinaNet", "ThunderNet"]
