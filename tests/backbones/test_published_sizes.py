"""Parameters, multiply-adds at 224 pixels and receptive fields, against published or hand-counted figures."""

import pytest

from keras_lightdet.analysis import cost, receptive_field
from keras_lightdet.backbones import MobileNetV2, ResNet, ShuffleNetV2, SNet, Xception39, XceptionDFANet, XceptionLight

# Parameters of "split" and of all ResNets are torchvision's published ones; those of "keep" are the authors' code's
# (1365792, 2278760, 3506720, 7402600) and 1000 biases, which their last layer lacks. Multiply-adds in millions: the
# paper's are 41, 146, 299 and 591 ("keep" meets them), SNet's 49, 146 and 535, the Xception-like net's 145. The
# authors' figures of MobileNetV2 are 6.06, 5.34, 3.47, 2.61, 1.95 and 1.66 M without the batch norms, which are 24 to
# 14 thousand, and 582, 509, 300, 209, 97 and 59 M; torchvision publishes 3504872 for width 1.
SIZES = [
    (ShuffleNetV2, {"width": 0.5}, 1_366_792, 40.48),
    (ShuffleNetV2, {"width": 1.0}, 2_278_604, 144.91),
    (ShuffleNetV2, {"width": 1.5}, 3_503_624, 295.76),
    (ShuffleNetV2, {"width": 2.0}, 7_393_996, 583.25),
    (ShuffleNetV2, {"width": 0.5, "unit": "keep"}, 1_365_792 + 1000, 40.48),
    (ShuffleNetV2, {"width": 1.0, "unit": "keep"}, 2_278_760 + 1000, 145.81),
    (ShuffleNetV2, {"width": 1.5, "unit": "keep"}, 3_506_720 + 1000, 298.97),
    (ShuffleNetV2, {"width": 2.0, "unit": "keep"}, 7_402_600 + 1000, 590.78),
    # 11 weights and, by stage, 9 multiply-adds at 56, 28, 28, 14, 14 and 7 pixels for each channel of a branch.
    (ShuffleNetV2, {"extra_depthwise": True}, 2_278_604 + 11 * (24 + 174 + 116 + 812 + 232 + 696), 149.78),
    (SNet, {"variant": "snet49"}, 875_548, 51.21),
    (SNet, {"variant": "snet146"}, 1_572_748, 161.14),
    (SNet, {"variant": "snet535"}, 4_535_144, 535.35),
    (SNet, {"variant": "snet146", "widths": (126, 252, 504)}, 1_459_975, 148.43),
    (ResNet, {"depth": 18}, 11_689_512, 1814.07),
    (ResNet, {"depth": 34}, 21_797_672, 3663.76),
    (ResNet, {"depth": 50}, 25_557_032, 4089.18),
    (ResNet, {"depth": 101}, 44_549_160, 7801.41),
    (XceptionLight, {}, 1_531_936, 143.08),
    (MobileNetV2, {"width": 1.4}, 6_108_776, 582.2),
    (MobileNetV2, {"width": 1.3}, 5_386_792, 509.37),
    (MobileNetV2, {}, 3_504_872, 300.77),
    (MobileNetV2, {"width": 0.75}, 2_636_424, 209.07),
    (MobileNetV2, {"width": 0.5}, 1_968_680, 97.13),
    (MobileNetV2, {"width": 0.35}, 1_677_128, 59.29),
    # Counted by hand from the authors' code and from table 1; the papers give costs of whole segmenters alone.
    (Xception39, {}, 556_448, 39.73),
    (XceptionDFANet, {"variant": "a"}, 358_248, 79.54),
    (XceptionDFANet, {"variant": "b"}, 209_064, 40.56),
]


def named(case):
    return "-".join([case[0].__name__, *map(str, case[1].values())])


@pytest.mark.parametrize(("build", "options", "parameters", "macs"), SIZES, ids=map(named, SIZES))
def test_classifiers_have_the_published_size(build, options, parameters, macs):
    actual = cost(build((224, 224, 3), num_classes=1000, **options))
    assert actual.trainable_parameters == parameters
    assert round(actual.macs / 1e6, 2) == macs
    assert not actual.uncounted


# Millions, from the authors' table of checkpoints.
@pytest.mark.parametrize(
    ("width", "published"), [(1.4, 6.06), (1.3, 5.34), (1.0, 3.47), (0.75, 2.61), (0.5, 1.95), (0.35, 1.66)]
)
def test_published_parameters_of_mobilenet_exclude_the_batch_norms(width, published):
    actual = cost(MobileNetV2((224, 224, 3), width=width, num_classes=1000))
    assert round(actual.parameters / 1e6, 2) == published


def test_features_are_the_classifier_without_its_head():
    for build, options, head in (
        (ShuffleNetV2, {}, 464 * 1024 + 2 * 1024 + 1025 * 1000),
        (SNet, {"variant": "snet49"}, 513 * 1000),  # its last 1x1 convolution is the paper's C5
    ):
        whole, trunk = build((64, 64, 3), num_classes=1000, **options), build((64, 64, 3), **options)
        assert cost(whole).trainable_parameters - cost(trunk).trainable_parameters == head


def test_xception39_has_the_published_cost():
    """185.5 M FLOPs at 640x360 (table 1)."""
    assert round(cost(Xception39((360, 640, 3))).macs / 1e6, 1) == 185.9


def test_fc_attention_has_the_parameters_of_a_classifier_and_a_projection():
    widths = {"a": 192, "b": 128}
    for variant, width in widths.items():
        whole, trunk = XceptionDFANet(variant=variant, num_classes=1000), XceptionDFANet(variant=variant)
        projection = 1000 * width + 2 * width
        sizes = [cost(model, (64, 64, 3)).trainable_parameters for model in (trunk, whole)]
        assert sizes[0] - sizes[1] == projection


def fields(model, *layers):
    return [receptive_field(model, layer)[0] for layer in layers]


@pytest.mark.parametrize(
    ("kernel_size", "expected"),
    [(3, [7, 15, 63, 79, 111, 303, 335, 527]), (5, [7, 23, 119, 151, 215, 599, 663, 1047])],
)
def test_larger_kernels_double_the_receptive_field(kernel_size, expected):
    units = ((2, 1), (2, 4), (3, 1), (3, 2), (3, 8), (4, 1), (4, 4))
    names = ["stem_pool", *(f"stage{stage}_block{block}_shuffle" for stage, block in units)]
    assert fields(SNet(kernel_size=kernel_size), *names) == expected


def test_extra_depthwise_convolutions_have_the_receptive_field_of_5x5_kernels():
    ends = ("stage2_block4_concat", "stage3_block8_concat", "stage4_block4_concat")
    assert fields(ShuffleNetV2(), *ends) == [63, 303, 527]
    assert fields(ShuffleNetV2(extra_depthwise=True), *ends) == [119, 599, 1047]
    assert fields(ShuffleNetV2(unit="keep"), *ends) == [63, 303, 527]


def test_receptive_fields_of_light_head_rcnn_are_those_counted_by_hand():
    small = XceptionLight()
    assert fields(small, "stage3_block8_out", "stage4_block4_out") == [303, 527]
    large = ResNet(depth=101, dilate_last=True)
    assert receptive_field(large, "stage4_block23_out") == (811, 16)
    assert receptive_field(large, "stage5_block3_out") == (1003, 16)
