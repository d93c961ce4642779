"""The Model Garden's side of the comparison: its networks, built by its own code."""

import numpy as np
import tensorflow as tf
import tf_keras
from official.vision.configs import retinanet
from official.vision.modeling import factory
from official.vision.modeling.backbones import spinenet, spinenet_mobile
from official.vision.ops import anchor, box_ops

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Of the input. Their code needs to know it: where it does not, blocks that nobody takes are lost.
SIZE = (256, 128)
SIDE = 128  # of a detector's


def normalize(image):
    return ((image / 255 - np.array(MEAN)) / np.array(STD)).astype("float32")


def build_spinenet(variant, *, mobile=False, blocks=None, activation=None, size=SIZE):
    """The backbone for levels 3 to 7."""
    specs = tf_keras.layers.InputSpec(shape=(None, *size, 3))
    module, kind = (spinenet_mobile, "SpineNetMobile") if mobile else (spinenet, "SpineNet")
    options = dict(module.SCALING_MAP[variant.upper()])
    if blocks is not None:
        options["block_specs"] = module.build_block_specs([tuple(block) for block in blocks])
    activation = activation or ("swish" if mobile else "relu")
    return getattr(module, kind)(input_specs=specs, activation=activation, **options)


def build_retinanet(variant, num_classes):
    """The detector, as the configuration of its experiment makes it."""
    mobile = variant.startswith("mobile_")
    size = variant.removeprefix("mobile_").removeprefix("spinenet")
    width = {"49xs": 24, "49s": 40 if mobile else 128, "49": 48 if mobile else 256}[size]
    config = retinanet.RetinaNet(
        num_classes=num_classes,
        anchor=retinanet.Anchor(num_scales=3, aspect_ratios=[1.0, 2.0, 0.5], anchor_size=3.0),
        head=retinanet.RetinaNetHead(num_convs=4, num_filters=width, use_separable_conv=mobile),
    )
    config.decoder.type = "identity"
    config.norm_activation.activation = "swish" if mobile else "relu"
    specs = tf_keras.layers.InputSpec(shape=(None, SIDE, SIDE, 3))
    backbone = build_spinenet(size, mobile=mobile, size=(SIDE, SIDE))
    model = factory.build_retinanet(specs, config, backbone=backbone)
    model(tf.zeros((1, SIDE, SIDE, 3)), training=True)
    return model


def stir(model):
    """Gives every batch norm statistics and scales as if it had been trained, and every layer some weight."""
    random = np.random.default_rng(0)
    for variable in model.variables:
        name, shape = variable.name.rpartition("/")[2], tuple(variable.shape)
        if name.startswith(("gamma", "moving_variance")):
            variable.assign(random.uniform(0.5, 1.5, shape))
        elif len(shape) == 1:
            variable.assign(random.uniform(-0.2, 0.2, shape))
        else:
            fan_in = np.prod(shape[:3]) if "depthwise" not in name else np.prod(shape[:2])
            variable.assign(random.normal(0, np.sqrt(1 / fan_in), shape))


def pyramid(model, image):
    """Features by level, "P3" to "P7"."""
    return {f"P{level}": np.array(x) for level, x in model(normalize(image), training=False).items()}


def answers(model, image):
    """Anchors, boxes (`[N, 4]`, xyxy pixels) and logits (`[N, K]`) of a detector, in its own order."""
    options = model.get_config()
    scores, deltas, _ = model.head(model.backbone(normalize(image), training=False))
    placed = anchor.Anchor(
        **{key: options[key] for key in ("min_level", "max_level", "num_scales", "aspect_ratios", "anchor_size")},
        image_size=image.shape[1:3],
    ).multilevel_boxes
    rows = {level: np.reshape(boxes, (-1, 4)) for level, boxes in placed.items()}
    anchors = np.concatenate(list(rows.values()))
    deltas, logits = (
        np.concatenate([np.reshape(raw[level], (len(rows[level]), -1)) for level in rows]) for raw in (deltas, scores)
    )
    boxes = np.array(box_ops.decode_boxes(tf.constant(deltas), tf.constant(anchors)))
    order = [1, 0, 3, 2]
    return anchors[:, order], boxes[:, order], logits
