import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_lightdet.layers import TORCH_NORM, conv_bn_act, depthwise_bn_act
from keras_lightdet.layers.conv import StridedPointwiseConv2D


def torch_convolution(x, kernel, strides, dilation):
    """PyTorch's convolution by loops: the padding is `dilation * (side // 2)` on every side."""
    side, border = kernel.shape[0], dilation * (kernel.shape[0] // 2)
    padded = np.pad(x, ((border, border), (border, border), (0, 0)))
    reach = dilation * (side - 1) + 1
    rows, columns = ((padded.shape[axis] - reach) // strides + 1 for axis in (0, 1))
    out = np.zeros((rows, columns, kernel.shape[-1]))
    for row, column in np.ndindex(rows, columns):
        top, left = row * strides, column * strides
        patch = padded[top : top + reach : dilation, left : left + reach : dilation]
        out[row, column] = np.tensordot(patch, kernel, axes=3)
    return out


@pytest.mark.parametrize(("side", "strides", "dilation"), [(3, 2, 1), (5, 2, 1), (7, 2, 1), (3, 1, 2), (1, 2, 1)])
@pytest.mark.parametrize("size", [(8, 11), (9, 10)])
def test_symmetric_padding_is_that_of_pytorch(side, strides, dilation, size):
    random = np.random.default_rng(0)
    inputs = keras.Input((None, None, 2))
    unit = conv_bn_act(
        inputs, 3, side, strides, activation=None, name="unit", padding="symmetric", dilation=dilation, norm=TORCH_NORM
    )
    model = keras.Model(inputs, unit)
    kernel = random.normal(size=(side, side, 2, 3))
    model.get_layer("unit_conv").set_weights([kernel])
    x = random.normal(size=(*size, 2))
    expected = torch_convolution(x, kernel, strides, dilation) / np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(model(x[None])[0], expected, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [(6, 8), (5, 7)])
def test_a_strided_pointwise_convolution_takes_every_other_pixel(size, training):
    random = np.random.default_rng(0)
    inputs = keras.Input((None, None, 8))
    model = keras.Model(inputs, conv_bn_act(inputs, 3, 1, 2, activation=None, name="unit"))
    layer = model.get_layer("unit_conv")
    x = random.normal(size=(2, *size, 8)).astype("float32")
    kernel = random.normal(size=(1, 1, 8, 3)).astype("float32")
    layer.set_weights([kernel])
    np.testing.assert_allclose(layer(x, training=training), x[:, ::2, ::2] @ kernel[0, 0], atol=1e-5)


def test_gradients_of_a_strided_pointwise_convolution_are_those_of_every_other_pixel():
    random = np.random.default_rng(0)
    layer = StridedPointwiseConv2D(3, 1, 2, padding="same", use_bias=False)
    x = random.normal(size=(2, 5, 7, 8)).astype("float32")
    with tf.GradientTape() as tape:
        inputs = tf.constant(x)
        tape.watch(inputs)
        out = layer(inputs, training=True)
        loss = tf.reduce_sum(tf.square(out)) / 2
    to_kernel, to_input = tape.gradient(loss, [layer.kernel.value, inputs])
    strided, out, kernel = x[:, ::2, ::2], out.numpy(), layer.kernel.numpy()[0, 0]
    np.testing.assert_allclose(to_kernel[0, 0], np.einsum("bhwi,bhwo->io", strided, out), rtol=1e-4, atol=1e-4)
    expected = np.zeros_like(x)
    expected[:, ::2, ::2] = out @ kernel.T
    np.testing.assert_allclose(to_input, expected, atol=1e-5)


def test_symmetric_depthwise_padding_is_that_of_pytorch():
    random = np.random.default_rng(0)
    inputs = keras.Input((None, None, 2))
    model = keras.Model(
        inputs, depthwise_bn_act(inputs, 5, 2, activation=None, name="unit", padding="symmetric", norm=TORCH_NORM)
    )
    kernel = random.normal(size=(5, 5, 2, 1))
    model.get_layer("unit_conv").set_weights([kernel])
    x = random.normal(size=(8, 11, 2))
    for channel in (0, 1):
        expected = torch_convolution(x[..., [channel]], kernel[..., [channel], :], 2, 1) / np.sqrt(1 + 1e-5)
        np.testing.assert_allclose(model(x[None])[0, ..., channel : channel + 1], expected, atol=1e-5)


def test_no_layer_is_added_where_both_paddings_are_equal():
    for options in ({"kernel_size": 3}, {"kernel_size": 1, "strides": 2}, {"kernel_size": 3, "dilation": 2}):
        inputs = keras.Input((8, 8, 2))
        unit = conv_bn_act(inputs, 3, **options, activation=None, name="unit", padding="symmetric")
        kinds = [type(layer) for layer in keras.Model(inputs, unit).layers]
        assert keras.layers.ZeroPadding2D not in kinds


def test_unknown_padding_is_refused():
    with pytest.raises(ValueError, match="padding to be one of"):
        conv_bn_act(keras.Input((8, 8, 2)), 3, activation=None, name="unit", padding="valid")
