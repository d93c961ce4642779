"""PyTorch tensors whose values follow from their names alone, so that torch and Keras can be given the same ones."""

import zlib

import keras
import numpy as np


def draw_tensor(name, shape):
    """A tensor of a module: He-like kernels, gammas and variances away from 0 and 1, small biases and means."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    if len(shape) > 1:
        return random.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / np.prod(shape[1:])))
    if name.endswith("running_var"):
        return random.uniform(0.5, 1.5, shape).astype(np.float32)
    if name.endswith("weight"):
        return random.uniform(0.3, 0.7, shape).astype(np.float32)
    return (0.1 * random.standard_normal(shape)).astype(np.float32)


def draw_image(height, width):
    """Noise of 0..255, `[1, height, width, 3]`, the same for torch and Keras."""
    return np.random.default_rng(0).integers(0, 256, (1, height, width, 3)).astype(np.float32)


def draw_state_dict(model, module_of):
    """What torchvision's state dict of the network would hold, for the layers of `model`."""
    state = {}
    for layer in model.layers:
        if layer.weights:
            module = module_of(layer.name)
            for part, shape in _torch_shapes(layer).items():
                name = f"{module}.{part}"
                state[name] = draw_tensor(name, shape) if shape else np.int64(7)
    return state


def _torch_shapes(layer):
    if isinstance(layer, keras.layers.BatchNormalization):
        parts = ("weight", "bias", "running_mean", "running_var")
        return {**dict.fromkeys(parts, tuple(layer.gamma.shape)), "num_batches_tracked": ()}
    if isinstance(layer, keras.layers.Dense):
        inputs, outputs = layer.kernel.shape
        return {"weight": (outputs, inputs), "bias": (outputs,)}
    height, width, first, second = layer.kernel.shape
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return {"weight": (first, second, height, width)}
    bias = {} if layer.bias is None else {"bias": (second,)}
    return {"weight": (second, first, height, width), **bias}


# Our builder's arguments for each of torchvision's networks.
SHUFFLENETS = {
    "shufflenet_v2_x0_5": {"width": 0.5},
    "shufflenet_v2_x1_0": {"width": 1.0},
    "shufflenet_v2_x1_5": {"width": 1.5},
    "shufflenet_v2_x2_0": {"width": 2.0},
}
RESNETS = {f"resnet{depth}": {"depth": depth} for depth in (18, 34, 50, 101)}
MOBILENETS = {"mobilenet_v2": {"convention": "torch"}}
EFFICIENTNETS = {f"efficientnet_{size}": {"variant": size, "convention": "torch"} for size in ("b0", "b2", "b5")}
EPSILONS = {"efficientnet_b5": 1e-3}  # of torchvision's batch norms, if not PyTorch's default
CLASSES = 10
SIZES = ((64, 96), (47, 61))  # even and odd sides
SAMPLES = 32


def summarize(name, values):
    """The largest absolute value of an output `[1, ..., C]`, and some of its values, always of the same places."""
    flat = np.ravel(values)
    places = np.random.default_rng(zlib.crc32(name.encode())).integers(0, flat.size, SAMPLES)
    return np.concatenate([[np.abs(flat).max()], flat[places]])


# A Faster R-CNN of few channels on a ResNet-18, and the one that torchvision publishes: arguments of the builder, and
# proposals before and after NMS.
DETECTORS = {
    "small": {"num_classes": 3, "input_shape": (128, 192, 3), "depth": 18, "width": 8, "head_width": 16},
    "fasterrcnn_resnet50_fpn": {"num_classes": 90, "input_shape": (320, 320, 3)},
}
ODD_SIZE = (61, 139)  # of an image whose pyramid has odd sides
PROPOSALS = {"small": (60, 150), "fasterrcnn_resnet50_fpn": (1000, 1000)}
# He-like kernels make predictions of tens: boxes of all or nothing, and scores of 0 or 1.
_SCALES = {
    "rpn.head.bbox_pred.weight": 0.04,
    "rpn.head.cls_logits.weight": 0.1,
    "box_predictor.bbox_pred.weight": 0.2,
    "box_predictor.cls_score.weight": 0.5,
}


def draw_detector_tensor(name, shape):
    """As `draw_tensor`, with predictions of a few units."""
    scales = [scale for end, scale in _SCALES.items() if name.endswith(end)]
    return draw_tensor(name, shape) * np.float32(scales[0] if scales else 1.0)


ALL_ANCHORS, ALL_REGIONS = 60_000, 4_000  # more than there are: the losses then depend on no random sample


def draw_truth(height, width, num_classes, count=6):
    """Boxes `[1, count, 4]` inside an image, from small to large, and labels `[1, count]`."""
    random = np.random.default_rng(1)
    limit = np.float32([width, height])
    low = random.uniform(0, 0.5, (1, count, 2)) * limit
    sides = np.linspace(0.1, 0.5, count)[:, None] * random.uniform(0.8, 1, (1, count, 2)) * limit
    boxes = np.concatenate([low, low + sides], -1).astype(np.float32)
    return boxes, random.integers(0, num_classes, (1, count))


def draw_detector_state(layers_by_module):
    """What the state dict of torchvision's Faster R-CNN with frozen batch norms would hold."""
    state = {}
    for module, layer in layers_by_module.items():
        for part, shape in _torch_shapes(layer).items():
            if shape:
                extra = 4 if "bbox_pred" in module and "roi_heads" in module else 0  # the background's box
                name = f"{module}.{part}"
                state[name] = draw_detector_tensor(name, (shape[0] + extra, *shape[1:]))
    return state


# effdet's networks: the configuration they are changed from, what is changed, and the same for our `Variant`. The small
# ones have D3's deeper heads on B3, and D7x's six levels, deepest heads and plain sums, all of them narrow.
EFFICIENTDETS = {
    "lite0": ("tf_efficientdet_lite0", {}, None),
    "d0": ("tf_efficientdet_d0", {}, None),
    "small_d3": (
        "tf_efficientdet_d3",
        {"fpn_channels": 24, "fpn_cell_repeats": 2},
        {"backbone": "b3", "width": 24, "cells": 2, "head_repeats": 4},
    ),
    "small_d7x": (
        "tf_efficientdet_d7x",
        {"backbone_name": "tf_efficientnet_b0", "fpn_channels": 16, "fpn_cell_repeats": 2},
        {"backbone": "b0", "width": 16, "cells": 2, "head_repeats": 5, "fusion": "bifpn_sum", "coarsest": 8},
    ),
    "plain_d0": ("efficientdet_d0", {}, {"backbone": "b0", "width": 64, "cells": 3, "head_repeats": 3}),
}
# Even and odd sides. effdet computes P8 from P7 only if both sides are larger, which takes larger images. At 75 x 101
# "plain_d0" has two boxes whose scores are equal to five digits, of which its NMS keeps the other one.
EFFICIENTDET_SIZES = {
    **dict.fromkeys(EFFICIENTDETS, ((128, 192), (75, 101))),
    "small_d7x": ((256, 320), (257, 301)),
    "plain_d0": ((128, 192), (91, 133)),
}
EFFICIENTDET_TOP = 300  # pairs of box and class that NMS considers
# Predictions of a few units, for the same reason; the last batch norms of the fusion give maps of about 1.
_EFFICIENTDET_SCALES = {
    "box_net.predict.conv_pw.weight": 0.3,
    "class_net.predict.conv_pw.weight": 0.7,
}


def draw_efficientdet_tensor(name, shape):
    """As `draw_tensor`, with predictions of a few units and shares of a fusion of about 1."""
    if name.endswith("edge_weights"):
        return np.random.default_rng(zlib.crc32(name.encode())).uniform(0.5, 1.5, shape).astype(np.float32)
    return draw_tensor(name, shape) * np.float32(_EFFICIENTDET_SCALES.get(name, 1.0))


def normalized(image, variant):
    """What EfficientDet's network sees of an image of 0..255."""
    if variant.startswith("lite"):
        return (image - 127) / 128
    return (image / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])


def summarize_detector(variant, size, found):
    """Some values of the raw outputs, and the ten best detections: what golden_efficientdet.npz holds."""
    rows = {part: summarize(part, found[part]) for part in ("logits", "boxes")}
    rows |= {part: found[part][:10] for part in ("found_boxes", "found_scores", "found_labels")}
    return {f"{variant}/{size[0]}x{size[1]}/{part}": np.float32(values) for part, values in rows.items()}
