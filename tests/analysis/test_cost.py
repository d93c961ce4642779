"""Costs against counts by hand, and the published ones of MobileNetV2 and RSANet."""

import keras
import pytest
from keras import layers

from keras_lightdet.analysis import cost


def one_layer(layer, shape=(8, 6, 4)):
    inputs = keras.Input(shape)
    counted = cost(keras.Model(inputs, layer(inputs)))
    assert counted.uncounted == ()
    return counted.layers[0]


@pytest.mark.parametrize(
    "layer, macs, parameters",
    [
        (layers.Conv2D(10, 3, padding="same"), 8 * 6 * 10 * 3 * 3 * 4, 3 * 3 * 4 * 10 + 10),
        (layers.Conv2D(10, 3), 6 * 4 * 10 * 3 * 3 * 4, 3 * 3 * 4 * 10 + 10),
        (
            layers.Conv2D(10, (3, 1), strides=2, padding="same", use_bias=False),
            4 * 3 * 10 * 3 * 4,
            3 * 4 * 10,
        ),
        (layers.Conv2D(6, 3, groups=2, padding="same", use_bias=False), 8 * 6 * 6 * 9 * 2, 9 * 2 * 6),
        (layers.Conv2D(5, 3, dilation_rate=2, use_bias=False), 4 * 2 * 5 * 9 * 4, 9 * 4 * 5),
        (layers.DepthwiseConv2D(3, padding="same", use_bias=False), 8 * 6 * 4 * 9, 9 * 4),
        (layers.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2), 4 * 3 * 8 * 9, 9 * 8 + 8),
        (
            layers.SeparableConv2D(7, 3, strides=2, padding="same", use_bias=False),
            4 * 3 * (4 * 9 + 4 * 7),
            9 * 4 + 4 * 7,
        ),
        (layers.Conv2DTranspose(5, 2, strides=2, use_bias=False), 8 * 6 * 4 * 4 * 5, 4 * 4 * 5),
        (layers.Dense(9), 8 * 6 * 4 * 9, 4 * 9 + 9),
        (layers.PReLU(), 0, 8 * 6 * 4),
        (layers.MaxPooling2D(2), 0, 0),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_layers_counted_by_hand(layer, macs, parameters):
    counted = one_layer(layer)
    assert (counted.macs, counted.parameters) == (macs, parameters)
    assert (counted.bn_parameters, counted.bn_statistics) == (0, 0)


def test_memory_of_a_pointwise_convolution_is_that_of_shufflenet_v2():
    counted = one_layer(layers.Conv2D(10, 1, use_bias=False))
    assert counted.memory_access == 8 * 6 * (4 + 10) + 4 * 10  # hw (c1 + c2) + c1 c2, eq. 1
    assert counted.activation_bytes == 8 * 6 * 10 * 4


def test_batch_norm_is_counted_separately():
    counted = one_layer(layers.BatchNormalization())
    assert (counted.parameters, counted.bn_parameters, counted.bn_statistics, counted.macs) == (0, 8, 8, 0)
    assert one_layer(layers.BatchNormalization(scale=False)).bn_parameters == 4


def small_net():
    """Two uses of one convolution, a residual sum, a nested model with a size of its own, and an operation."""
    images = keras.Input((None, None, 3), name="images")
    inner_in = keras.Input((None, None, 8))
    x = layers.Conv2D(16, 1, use_bias=False, name="wide")(inner_in)
    inner = keras.Model(inner_in, layers.GlobalAveragePooling2D(name="pool")(x), name="inner")
    shared = layers.Conv2D(8, 3, padding="same", use_bias=False, name="shared")
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="stem")(images)
    x = keras.ops.add(x, shared(shared(x)))
    x = inner(x)
    return keras.Model(images, layers.Dense(2, name="out")(x), name="net")


def test_small_net_counted_by_hand():
    counted = cost(small_net(), (16, 16, 3))
    rows = {layer.name: layer for layer in counted.layers}
    assert list(rows)[:3] == ["stem", "shared", "shared:2"] and list(rows)[4:] == [
        "inner/wide",
        "inner/pool",
        "out",
    ]
    assert rows["inner/wide"].output_shape == (8, 8, 16)
    assert (rows["shared"].parameters, rows["shared:2"].parameters) == (576, 0)
    assert counted.parameters == counted.trainable_parameters == 216 + 576 + 128 + 34
    assert counted.macs == 64 * 216 + 2 * 64 * 576 + 64 * 128 + 32
    # Stem, shared twice and sum of 512 elements, 1024, 16 and 2, in float32.
    assert counted.activation_bytes == 4 * (4 * 512 + 1024 + 16 + 2)
    # At the second use of "shared" its input, its output and the stem's are needed; the sum needs two and makes one;
    # "wide" needs 512 and makes 1024: 1536 elements each time. The input is 768 and gone after the stem.
    assert counted.peak_activation_bytes == 4 * 1536
    access = [768 + 512 + 216, *2 * [1024 + 576], 1536, 512 + 1024 + 128, 1024 + 16, 16 + 2 + 34]
    assert [layer.memory_access for layer in counted.layers] == access
    assert counted.uncounted == ()


def test_half_precision_has_half_the_bytes():
    inputs = keras.Input((4, 4, 2))
    model = keras.Model(inputs, layers.Conv2D(3, 1, dtype="mixed_float16")(inputs))
    assert cost(model).activation_bytes == 4 * 4 * 3 * 2


def test_counting_leaves_the_model_as_it_was():
    net = small_net()
    before = [len(layer._inbound_nodes) for layer in net.layers]
    cost(net, (16, 16, 3))
    assert [len(layer._inbound_nodes) for layer in net.layers] == before


def test_what_is_not_counted_is_named():
    inputs = keras.Input((5, 4))
    x = layers.MultiHeadAttention(2, 3, name="attention")(inputs, inputs)
    x = keras.ops.matmul(x, keras.ops.transpose(x, (0, 2, 1)))
    counted = cost(keras.Model(inputs, x))
    assert len(counted.uncounted) == 2 and counted.uncounted[0] == "attention"
    assert counted.parameters == keras.Model(inputs, x).count_params()


def test_sequential_models_and_unknown_ones():
    net = keras.Sequential([keras.Input((4, 4, 3)), layers.Conv2D(2, 1), layers.Flatten(), layers.Dense(3)])
    assert cost(net).macs == 16 * 6 + 32 * 3
    with pytest.raises(ValueError, match="functional or sequential model that is built, got 'subclassed'"):
        cost(type("Subclassed", (keras.Model,), {})(name="subclassed"))
    with pytest.raises(ValueError, match="Give input_shape"):
        cost(small_net())


def test_table_has_a_line_per_layer_and_the_totals():
    lines = cost(small_net(), (16, 16, 3)).table().splitlines()
    assert len(lines) == 1 + 7 + 1 + 2
    assert lines[1].split() == ["stem", "Conv2D", "8x8x8", "216", "0", "0.014", "2.0", "0.001"]
    assert lines[8].split()[:2] == ["total", "954"] and lines[10] == "peak of activations: 6.1 kB"


def test_mobilenet_v2_has_the_published_cost():
    model = keras.applications.MobileNetV2(weights=None)
    counted = cost(model)
    assert counted.trainable_parameters == 3_504_872
    assert counted.trainable_parameters + counted.bn_statistics == model.count_params()
    assert counted.macs == pytest.approx(300.8e6, rel=2e-4)
    assert counted.uncounted == ()


def test_rsanet_has_the_published_cost():
    from keras_lightdet.models.rsanet import RSANet

    counted = cost(RSANet())
    assert counted.parameters == pytest.approx(3.242e6, abs=500)  # Published: 3.24 M.
    assert counted.trainable_parameters == pytest.approx(3.277e6, abs=500)
    assert counted.macs == pytest.approx(1.722e9, abs=5e5)
    assert counted.uncounted == ()
