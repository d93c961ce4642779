"""A small segmenter with the components of the papers' segmenters, and these at a small input size."""

import keras
import numpy as np

import keras_lightdet
from keras_lightdet.backbones.imagenet import torch_conv
from keras_lightdet.labels import IGNORE
from keras_lightdet.layers import ResizeToMatch
from keras_lightdet.segmentation import SegmentationModel, predict_pixels

SIZE = (64, 96)
NAMES = ("sky", "road", "car")


def small_toy(class_names=NAMES, width=8):
    """Builds strides 2 to 8, a gate with batch norm over single pixels, an upsampled map and an auxiliary head."""
    images = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 64, -2.0)(images)
    fine = torch_conv(x, width, 3, 2, activation="relu", name="fine")
    x = torch_conv(fine, width, 3, 4, activation="relu", name="coarse")
    gate = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = keras.layers.Multiply()([x, torch_conv(gate, width, activation="sigmoid", name="gate")])
    logits = {"aux": predict_pixels(x, len(class_names), name="aux")}
    x = keras.layers.Concatenate()([fine, ResizeToMatch()(x, fine)])
    x = torch_conv(x, width, 3, activation="relu", name="head")
    network = keras.Model(images, {"logits": predict_pixels(x, len(class_names), name="head"), **logits})
    return SegmentationModel(network, class_names=class_names, input_size=SIZE, name="toy")


def small_bisenet(class_names=NAMES):
    """Builds BiSeNet with Xception39."""
    return keras_lightdet.BiSeNet(class_names=class_names, input_shape=(*SIZE, 3))


def small_dfanet(class_names=NAMES):
    """Builds DFANet B with two backbones."""
    return keras_lightdet.DFANet(class_names=class_names, input_shape=(*SIZE, 3), variant="b", backbones=2)


BUILDERS = {"toy": small_toy, "bisenet": small_bisenet, "dfanet": small_dfanet}


def random_batch(batch=4, seed=0, size=SIZE):
    """Returns images of blocks in three gray levels, which are the labels; some labels are to ignore."""
    random = np.random.default_rng(seed)
    blocks = random.integers(0, 3, (batch, size[0] // 16, size[1] // 16))
    labels = np.kron(blocks, np.ones((16, 16))).astype("uint8")
    images = np.clip(90 * labels[..., None] + random.integers(0, 40, (*labels.shape, 3)), 0, 255).astype("uint8")
    labels[:, :8] = IGNORE
    return images, {"labels": labels, "sources": np.arange(batch, dtype="int32")[:, None]}
