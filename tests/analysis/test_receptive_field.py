"""Receptive fields against published ones, and against where the gradient of one unit is not zero."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_lightdet.analysis import receptive_field
from keras_lightdet.backbones import LCNet

SIDE = 96


def measured(model, unit):
    """Height and width of the pixels that one unit of the first channel depends on, all weights being positive."""
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape, np.float32) if "kernel" in variable.path else variable)
    # Random images, so that in max pooling each input is the largest in one of them.
    reached = np.zeros((SIDE, SIDE), bool)
    rng = np.random.default_rng(0)
    for _ in range(60):
        images = tf.constant(rng.uniform(0.5, 1, (1, SIDE, SIDE, 1)).astype(np.float32))
        with tf.GradientTape() as tape:
            tape.watch(images)
            output = model(images)[0, unit, unit, 0]
        reached |= tape.gradient(output, images).numpy()[0, ..., 0] != 0
    rows, columns = np.nonzero(reached)
    return np.ptp(rows) + 1, np.ptp(columns) + 1


def chain(*net):
    inputs = keras.Input((SIDE, SIDE, 1))
    x = inputs
    for layer in net:
        x = layer(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize(
    "net, size, stride",
    [
        ([layers.Conv2D(1, 3, strides=2), layers.Conv2D(1, 3, name="last")], 7, 2),
        ([layers.Conv2D(1, 3, dilation_rate=3), layers.Conv2D(1, 5, name="last")], 11, 1),
        (
            [layers.MaxPooling2D(2), layers.DepthwiseConv2D(3), layers.AveragePooling2D(3, 2, name="last")],
            10,
            4,
        ),
        (
            [
                layers.SeparableConv2D(1, 3, strides=2),
                layers.UpSampling2D(2),
                layers.Conv2D(1, 1, name="last"),
            ],
            3,
            1,
        ),
        ([layers.Conv2D(1, 3, strides=4), layers.Conv2DTranspose(1, 4, strides=2, name="last")], 7, 2),
        (
            [layers.Conv2D(1, 3, strides=2), layers.UpSampling2D(2, interpolation="bilinear", name="last")],
            5,
            1,
        ),
        ([layers.ZeroPadding2D(2), layers.Conv2D(1, 7, strides=2), layers.ReLU(name="last")], 7, 2),
    ],
    ids=["strides", "dilation", "pools", "nearest", "transposed", "bilinear", "padding"],
)
def test_field_is_where_the_gradient_is(net, size, stride):
    model = chain(*net)
    assert receptive_field(model, "last") == (size, stride)
    assert measured(model, model.output_shape[1] // 2) == (size, size)


def test_branches_take_the_larger_field():
    inputs = keras.Input((SIDE, SIDE, 1))
    wide = layers.Conv2D(1, 3, strides=2, padding="same")(layers.Conv2D(1, 5, padding="same")(inputs))
    narrow = layers.AveragePooling2D(2, padding="same")(inputs)
    model = keras.Model(inputs, layers.Conv2D(1, 3, name="after")(keras.ops.add(wide, narrow)))
    assert receptive_field(model, "after") == (11, 2)
    assert measured(model, 20) == (11, 11)


def test_vgg16_has_the_published_receptive_field():
    model = keras.applications.VGG16(weights=None, include_top=False, input_shape=(224, 224, 3))
    assert receptive_field(model, "block5_pool") == (212, 32)
    assert receptive_field(model, "block1_conv2") == (5, 1)


def test_lcnet_by_the_name_of_a_layer():
    model = LCNet()
    fields = [
        receptive_field(model, name)
        for name in ("stage1_stem_conv", "stage3_ccm2_add", "stage4_ccm6_add", "stage5_ccm3_add")
    ]
    assert fields == [(3, 2), (103, 8), (503, 16), (919, 32)]


def test_channel_attention_makes_the_receptive_field_infinite():
    inputs = keras.Input((SIDE, SIDE, 4))
    x = layers.Conv2D(4, 3, strides=2, name="conv")(inputs)
    attention = layers.Conv2D(4, 1, name="mix")(layers.GlobalAveragePooling2D(keepdims=True, name="pool")(x))
    model = keras.Model(inputs, layers.Dense(2, name="out")(layers.Multiply(name="weighed")([x, attention])))
    assert receptive_field(model, "conv") == (3, 2)
    for name in ("pool", "mix"):
        assert receptive_field(model, name) == (math.inf, math.inf)
    for name in ("weighed", "out"):
        assert receptive_field(model, name) == (math.inf, 2)


def test_names_in_nested_models_and_unknown_ones():
    inner_in = keras.Input((None, None, 1))
    inner = keras.Model(inner_in, layers.Conv2D(1, 3, name="conv")(inner_in), name="inner")
    inputs = keras.Input((None, None, 1))
    model = keras.Model(inputs, layers.Conv2D(1, 3, name="conv")(inner(inputs)))
    assert receptive_field(model, "inner/conv") == (3, 1)
    assert receptive_field(model, "conv") == (5, 1)
    with pytest.raises(ValueError, match="got 'deconv'. Take one of inner/conv, conv"):
        receptive_field(model, "deconv")


def test_a_layer_of_an_unknown_kind_is_an_error():
    inputs = keras.Input((8, 8, 1))
    x = keras.ops.image.extract_patches(inputs, 4)
    with pytest.raises(ValueError, match="whose receptive field is known"):
        receptive_field(keras.Model(inputs, layers.ReLU(name="out")(x)), "out")
