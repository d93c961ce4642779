"""ShuffleNetV2: the channel shuffle, and the flow of channels through its units."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_lightdet.backbones import ShuffleNetV2
from keras_lightdet.backbones.shufflenet_v2 import ChannelShuffle


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_groups_are_interleaved(groups):
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 12)).astype("float32")
    run = 12 // groups
    expected = np.zeros_like(x)
    for group in range(groups):
        for i in range(run):
            expected[..., i * groups + group] = x[..., group * run + i]
    np.testing.assert_array_equal(ChannelShuffle(groups)(x), expected)
    np.testing.assert_array_equal(ChannelShuffle(run)(expected), x)


@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_one_graph_shuffles_images_of_any_size(jit_compile):
    model = ShuffleNetV2(width=0.5)
    free = tf.TensorSpec((None, None, None, 3), tf.float32)
    graph = tf.function(model, input_signature=[free], jit_compile=jit_compile)
    for shape in ((2, 64, 96, 3), (1, 45, 70, 3)):
        x = np.random.default_rng(0).uniform(0, 255, shape).astype("float32")
        for level, expected in model(x).items():
            np.testing.assert_allclose(graph(x)[level], expected, atol=1e-5 * np.abs(expected).max())


def test_channels_must_be_a_multiple_of_the_groups():
    with pytest.raises(ValueError, match="5 equal groups, got 12"):
        ChannelShuffle(5)(np.zeros((1, 2, 2, 12)))


def input_and_output(model, before, after):
    """The input and the output of a unit, for a random image."""
    images = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3))
    return keras.Model(model.input, [model.get_layer(before).output, model.get_layer(after).output])(images)


def test_split_units_move_the_first_half_to_the_even_channels():
    x, y = input_and_output(ShuffleNetV2(width=0.5), "stage3_block3_shuffle", "stage3_block4_shuffle")
    np.testing.assert_array_equal(y[..., 0::2], x[..., :48])
    old, new = (np.array(z).reshape(-1, z.shape[-1]).T for z in (x, y[..., 1::2]))
    alive = [channel for channel in new if np.any(channel)]
    assert len(alive) > 24
    assert not [channel for channel in alive if np.any(np.all(channel == old, axis=1))]


def test_keep_units_move_the_even_channels_to_the_first_half():
    x, y = input_and_output(ShuffleNetV2(width=0.5, unit="keep"), "stage3_block3_concat", "stage3_block4_concat")
    np.testing.assert_array_equal(y[..., :48], x[..., 0::2])


def test_branches_of_stride_2_have_the_widths_of_their_form():
    for form, widths in (("split", (58, 58, 116, 116)), ("keep", (24, 92, 116, 116))):
        model = ShuffleNetV2(unit=form)
        names = [f"stage{stage}_block1_{unit}_conv" for stage in (2, 3) for unit in ("shortcut_project", "project")]
        assert tuple(model.get_layer(name).filters for name in names) == widths


def test_only_batch_norm_follows_a_depthwise_convolution():
    model = ShuffleNetV2(width=0.5, extra_depthwise=True)
    depthwise = [layer for layer in model.layers if isinstance(layer, keras.layers.DepthwiseConv2D)]
    assert len(depthwise) == 16 + 3 + 16
    for layer in depthwise:
        (norm,) = [node.operation for node in layer._outbound_nodes]
        (after,) = [node.operation for node in norm._outbound_nodes]
        assert isinstance(norm, keras.layers.BatchNormalization)
        assert isinstance(after, keras.layers.Conv2D)
