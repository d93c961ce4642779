"""Shared by Light-Head R-CNN and ThunderNet: the predictions of the RPN, and a second stage of one hidden layer."""

import keras
from keras import layers

from keras_lightdet.layers.ps_roi_align import PSRoIAlign

BINS = 7  # of PSRoI align along each side of a region (Li et al. 2017, section 3.2)
_STDDEV, _BOX_STDDEV = 0.01, 0.001


def predict_anchors(x: keras.KerasTensor, per_cell: int, *, name: str) -> dict[str, keras.KerasTensor]:
    """Predicts two logits and four deltas per anchor by 1x1 convolutions.

    The objectness is the difference of the two logits: its sigmoid equals their softmax.

    Args:
        x: `[B, H, W, C]`, the features of a region proposal network (RPN).
        per_cell: Anchors per cell.
        name: Prefix of the layers' names.

    Returns:
        `{"objectness" [B, H * W * per_cell], "rpn_deltas" [B, H * W * per_cell, 4]}`, float32.
    """

    def predict(depth: int, suffix: str) -> keras.KerasTensor:
        return layers.Conv2D(depth, 1, kernel_initializer=_normal(_STDDEV), name=f"{name}_{suffix}")(x)

    logits = layers.Subtract(name=f"{name}_logits")([predict(per_cell, "object"), predict(per_cell, "background")])
    return {
        "objectness": layers.Reshape((-1,), dtype="float32", name="objectness")(logits),
        "rpn_deltas": layers.Reshape((-1, 4), dtype="float32", name="rpn_deltas")(predict(4 * per_cell, "box")),
    }


def light_head(
    num_classes: int, *, width: int, channels_per_bin: int, stride: int, per_class_boxes: bool = False
) -> keras.Model:
    """Builds the second stage: position-sensitive RoI align, a hidden layer, predictions.

    Args:
        num_classes: Number of classes without the background, which is the last logit.
        width: Units of the hidden layer.
        channels_per_bin: Values that each of the 7 x 7 bins pools, from channels of its own.
        stride: Stride of the features in pixels of the network input.
        per_class_boxes: Whether each class has its own box.

    Returns:
        A model `{"features" [B, H, W, channels_per_bin * 49], "rois" [B, R, 4]}` -> `{"class_logits" [B, R,
        num_classes + 1], "box_deltas" [B, R, 4] or [B, R, num_classes, 4]}`, as `TwoStageDetector` takes it.
    """
    features = keras.Input((None, None, channels_per_bin * BINS**2), name="features")
    rois = keras.Input((None, 4), dtype="float32", name="rois")
    regions = PSRoIAlign(BINS, stride, reduce="max", border="zero", name="roi_align")(features, rois)
    outputs = _region_network(num_classes, width, channels_per_bin, per_class_boxes=per_class_boxes)(regions)
    return keras.Model({"features": features, "rois": rois}, outputs, name="roi_head")


def _region_network(num_classes: int, width: int, channels_per_bin: int, *, per_class_boxes: bool) -> keras.Model:
    regions = keras.Input((None, BINS, BINS, channels_per_bin), name="regions")
    x = layers.Reshape((-1, channels_per_bin * BINS**2), name="flatten")(regions)
    x = layers.Dense(width, activation="relu", name="hidden")(x)
    logits = layers.Dense(num_classes + 1, kernel_initializer=_normal(_STDDEV), name="regions_class")(x)
    if per_class_boxes:  # the layer's name marks its weights as those of the classes
        deltas = layers.Dense(4 * num_classes, kernel_initializer=_normal(_BOX_STDDEV), name="regions_box_class")(x)
        deltas = layers.Reshape((-1, num_classes, 4), name="regions_box")(deltas)
    else:
        deltas = layers.Dense(4, kernel_initializer=_normal(_BOX_STDDEV), name="regions_box")(x)
    return keras.Model(regions, {"class_logits": logits, "box_deltas": deltas}, name="region_network")


def _normal(stddev: float) -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=stddev)
