"""SpineNets have the published cost, and networks of their search space compute what their blocks describe."""

import keras
import numpy as np
import pytest

from keras_lightdet.analysis import cost
from keras_lightdet.backbones import MobileSpineNet, SpineNet
from keras_lightdet.backbones.mobile_spinenet import MOBILE_SPINENET
from keras_lightdet.backbones.scale_permuted import Block, unused_parents
from keras_lightdet.backbones.spinenet import SPINENET

slow = pytest.mark.slow
# Parameters of the features and of the classifier of 1000 classes, and the classifier's billions of multiply-adds at
# 224 pixels. Published, in millions and billions: 22.1 and 3.5, 36.5 and 5.7, 60.5 and 9.1, 127.1 and 19.1.
SIZES = [
    pytest.param("49s", 9_089_215, 9_218_215, 1.516, id="49s", marks=slow),
    pytest.param("49", 21_831_488, 22_088_488, 3.478, id="49"),
    pytest.param("96", 36_262_976, 36_519_976, 5.724, id="96", marks=slow),
    pytest.param("143", 60_247_616, 60_504_616, 9.087, id="143", marks=slow),
    pytest.param("190", 126_587_664, 127_100_664, 19.112, id="190", marks=slow),
]
# R0-SP53 (section 5.1): only bottlenecks, and another order of scales.
R0_SP53 = [
    Block(level, "bottleneck", parents, level_is_out)
    for level, parents, level_is_out in (
        (2, (0, 1), False),
        (3, (0, 1), False),
        (3, (2, 3), False),
        (4, (2, 4), False),
        (4, (3, 5), False),
        (3, (5, 6), False),
        (5, (4, 7), False),
        (4, (4, 8), False),
        (4, (8, 9), False),
        (4, (8, 10), False),
        (3, (4, 10), True),
        (4, (6, 7), True),
        (5, (8, 13), True),
        (7, (6, 9), True),
        (6, (7, 9), True),
    )
]


def draw_images(height, width, batch=1):
    return np.random.default_rng(0).integers(0, 256, (batch, height, width, 3)).astype("float32")


@pytest.mark.parametrize(("variant", "features", "classifier", "macs"), SIZES)
def test_sizes_have_the_published_cost(variant, features, classifier, macs):
    assert cost(SpineNet((128, 128, 3), variant=variant)).trainable_parameters == features
    actual = cost(SpineNet((224, 224, 3), variant=variant, num_classes=1000))
    assert actual.trainable_parameters == classifier
    assert round(actual.macs / 1e9, 3) == macs
    assert not actual.uncounted


# Counted by hand from the released code's block list.
def test_blocks_without_children_are_added_to_the_output_of_their_level():
    stem = [(2, "bottleneck"), (2, "bottleneck")]
    assert {k + 2: extra for k, extra in enumerate(unused_parents(stem, SPINENET)) if extra} == {14: (11,)}
    assert {k + 2: extra for k, extra in enumerate(unused_parents(stem, R0_SP53)) if extra} == {13: (11,)}
    mobile_stem = [(1, "mbconv"), (2, "mbconv")]
    assert {k + 2: extra for k, extra in enumerate(unused_parents(mobile_stem, MOBILE_SPINENET)) if extra} == {
        15: (12,)
    }


@pytest.mark.parametrize(
    ("build", "options", "channels"),
    [
        (SpineNet, {"variant": "49s"}, 128),
        pytest.param(SpineNet, {"variant": "49s", "blocks": R0_SP53, "out_width": 40}, 40, marks=slow),
        (MobileSpineNet, {"variant": "49xs"}, 24),
    ],
)
def test_pyramids_of_any_size_round_up(build, options, channels):
    model = build(**options)
    for height, width in ((128, 128), (45, 200)):
        actual = {level: tuple(x.shape) for level, x in model(draw_images(height, width)).items()}
        assert actual == {
            f"P{level}": (1, -(-height // 2**level), -(-width // 2**level), channels) for level in range(3, 8)
        }


def test_a_block_sums_its_parents_at_its_own_scale():
    """Block 4, at level 3, recomputed from the weights of its layers and its parents 2 (finer) and 3 (coarser)."""
    model = SpineNet(variant="49s")
    ends = ["block2_copy1_out", "block3_copy1_out", "block4_merge", "block4_from2_match_bn", "block4_from3_match_bn"]
    ends.append("block4_from3_reduce_act")
    probe = keras.Model(model.input, [model.get_layer(name).output for name in ends])
    fine, coarse, merged, first, second, reduced = (np.array(x) for x in probe(draw_images(100, 100)))
    assert fine.shape[1] == 25
    assert coarse.shape[1] == 7
    np.testing.assert_allclose(merged, first + second, rtol=1e-5, atol=1e-5)
    repeated = reduced.repeat(2, axis=1).repeat(2, axis=2)[:, :13, :13]
    norm = model.get_layer("block4_from3_match_bn")
    expected = repeated @ np.array(model.get_layer("block4_from3_match_conv").kernel)[0, 0] / np.sqrt(1 + norm.epsilon)
    np.testing.assert_allclose(second, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("build", [pytest.param(SpineNet, marks=slow), MobileSpineNet])
def test_drop_path_rate_grows_with_the_blocks(build):
    blocks = SPINENET if build is SpineNet else MOBILE_SPINENET
    model = build(drop_path_rate=0.2)
    rates = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    expected = [0.2 * (index + 1) / len(blocks) for index in range(len(blocks))]
    np.testing.assert_allclose(sorted(rates), expected)
    block = model.get_layer("block9_copy1_drop" if build is SpineNet else "block9_drop")
    x = np.ones((200, 2, 2, 3), "float32")
    kept = np.array(block(x, training=True))
    np.testing.assert_allclose(kept, np.broadcast_to(kept[:, :1, :1, :1], kept.shape))  # whole images
    np.testing.assert_allclose(np.unique(kept), [0, 1 / (1 - block.rate)], rtol=1e-6)


@pytest.mark.parametrize(
    ("build", "variant"), [pytest.param(SpineNet, "49s", marks=slow), pytest.param(MobileSpineNet, "49xs", marks=slow)]
)
def test_a_saved_model_gives_the_same_outputs(build, variant, tmp_path):
    model = build(variant=variant, num_classes=5)
    model.save(tmp_path / "net.keras")
    pixels = draw_images(64, 96)
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "net.keras")(pixels), model(pixels))


def replace(blocks, index, **changes):
    return [*blocks[:index], blocks[index]._replace(**changes), *blocks[index + 1 :]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "50"}, r"one of \['143', '190', '49', '49s', '96'\], got '50'"),
        ({"blocks": replace(SPINENET, 3, kind="mbconv")}, "block 5 to be one of .*got 'mbconv'"),
        ({"blocks": replace(SPINENET, 3, level=8)}, "block 5 to have a level from 1 to 7, got 8"),
        ({"blocks": replace(SPINENET, 3, parents=(4, 4))}, "block 5 to have two parents"),
        ({"blocks": replace(SPINENET, 3, parents=(2, 5))}, "block 5 to have two parents"),
        ({"blocks": replace(SPINENET, 11, level=4)}, r"one output at each of the levels .*got \[4, 4, 5, 6, 7\]"),
    ],
)
def test_invalid_blocks_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SpineNet(**options)
