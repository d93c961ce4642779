"""ShuffleNetV2 (Ma et al. 2018), and the unit that SNet shares with it."""

from collections.abc import Sequence

import keras
from keras import layers, ops

from keras_lightdet.backbones.imagenet import classifier, normalized_images, torch_conv, torch_depthwise, torch_stem

STEM_WIDTH = 24
# Channels of stages 2 to 4, and of the convolution before the classifier, for each width (table 5).
WIDTHS = {
    0.5: ((48, 96, 192), 1024),
    1.0: ((116, 232, 464), 1024),
    1.5: ((176, 352, 704), 1024),
    2.0: ((244, 488, 976), 2048),
}
REPEATS = (4, 8, 4)
UNITS = ("split", "keep")


def ShuffleNetV2(  # noqa: N802 - builders are CapWords
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    *,
    width: float = 1.0,
    unit: str = "split",
    extra_depthwise: bool = False,
    num_classes: int | None = None,
    name: str = "shufflenet_v2",
) -> keras.Model:
    """Builds ShuffleNetV2 (section 3, table 5): units that pass half of the channels on as they are.

    Args:
        input_shape: Height and width in pixels, of any size, or `None`; 3 channels, 0..255 RGB.
        width: 0.5, 1.0, 1.5 or 2.0, the paper's sizes.
        unit: "split": both branches of a unit of stride 2 give half of the channels, and every unit ends in a
            shuffle, as in torchvision, whose weights `keras_lightdet.foreign_weights` reads. "keep": the authors' form;
            the
            branch without expansion keeps its channels, and units of stride 1 start with the shuffle. This one meets
            the paper's 146, 299 and 591 M multiply-adds.
        extra_depthwise: `True` adds a 3x3 depthwise convolution before the first 1x1 of every unit: V2* of section 4,
            which sees farther and detects better.
        num_classes: `None` for features; else the classifier, whose last 1x1 convolution the features lack.
        name: Name of the model.

    Returns:
        A model: images `[B, H, W, 3]` -> `{"P3": [B, ceil(H/8), ceil(W/8), C3], "P4": .., "P5": ..}`, stages 2 to 4;
        or -> logits `[B, num_classes]`.

    Raises:
        ValueError: If an argument is none of the above.

    Reference:
        Ma et al., "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design", ECCV 2018.
    """
    if width not in WIDTHS:
        raise ValueError(f"Expected width to be one of {sorted(WIDTHS)}, got {width!r}.")
    images, x = normalized_images(input_shape, num_classes)
    widths, last_width = WIDTHS[width]
    x = torch_stem(x, STEM_WIDTH, 3)
    features = shuffle_stages(x, widths, unit=unit, kernel_size=3, extra_depthwise=extra_depthwise)
    if num_classes is None:
        return keras.Model(images, features, name=name)
    x = torch_conv(features["P5"], last_width, activation="relu", name="conv5")
    options = {"width": width, "unit": unit, "extra_depthwise": extra_depthwise}
    return classifier(images, x, num_classes, {"builder": "ShuffleNetV2", **options}, name=name)


def shuffle_stages(
    x: keras.KerasTensor, widths: Sequence[int], *, unit: str, kernel_size: int, extra_depthwise: bool = False
) -> dict[str, keras.KerasTensor]:
    """Adds stages 2 to 4, each of one unit of stride 2 and three, seven and three of stride 1.

    Args:
        x: The stem's output, at a quarter of the image's sides.
        widths: Channels of the three stages, even numbers.
        unit: "split" or "keep", see `ShuffleNetV2`.
        kernel_size: Side of the depthwise kernels, odd.
        extra_depthwise: See `ShuffleNetV2`.

    Returns:
        `{"P3": .., "P4": .., "P5": ..}`.

    Raises:
        ValueError: If an argument is none of the above.
    """
    if unit not in UNITS:
        raise ValueError(f"Expected unit to be one of {UNITS}, got {unit!r}.")
    if len(widths) != len(REPEATS) or any(width < 2 or width % 2 for width in widths):
        raise ValueError(f"Expected three even widths, got {widths!r}.")
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"Expected an odd kernel_size, got {kernel_size!r}.")
    form = {"unit": unit, "kernel_size": kernel_size, "extra_depthwise": extra_depthwise}
    features = {}
    for stage, (width, count) in enumerate(zip(widths, REPEATS, strict=True), start=2):
        x = _down_unit(x, width, **form, name=f"stage{stage}_block1")
        for block in range(2, count + 1):
            x = _unit(x, **form, name=f"stage{stage}_block{block}")
        features[f"P{stage + 1}"] = x
    return features


def _unit(x: keras.KerasTensor, *, unit: str, kernel_size: int, extra_depthwise: bool, name: str) -> keras.KerasTensor:
    """Unit of stride 1 (fig. 3c): half of the channels pass, half are worked on."""
    width = x.shape[-1]
    if unit == "keep":  # even channels pass, odd ones are worked on
        x = ChannelShuffle(width // 2, name=f"{name}_shuffle")(x)
    passed, worked = ops.split(x, 2, axis=-1)
    worked = _branch(worked, width // 2, width // 2, 1, kernel_size, extra_depthwise, name=name)
    x = layers.Concatenate(name=f"{name}_concat")([passed, worked])
    return ChannelShuffle(2, name=f"{name}_shuffle")(x) if unit == "split" else x


def _down_unit(
    x: keras.KerasTensor, width: int, *, unit: str, kernel_size: int, extra_depthwise: bool, name: str
) -> keras.KerasTensor:
    """Unit of stride 2 (fig. 3d): all channels go through both branches."""
    own = width // 2 if unit == "split" else x.shape[-1]
    if own >= width:
        raise ValueError(f"Expected {name} to have more than the {own} channels it is given, got {width}. Widen it.")
    shortcut = torch_depthwise(x, kernel_size, 2, activation=None, name=f"{name}_shortcut_depthwise")
    shortcut = torch_conv(shortcut, own, activation="relu", name=f"{name}_shortcut_project")
    worked = _branch(x, width // 2, width - own, 2, kernel_size, extra_depthwise, name=name)
    x = layers.Concatenate(name=f"{name}_concat")([shortcut, worked])
    return ChannelShuffle(2, name=f"{name}_shuffle")(x) if unit == "split" else x


def _branch(
    x: keras.KerasTensor,
    inner: int,
    width: int,
    strides: int,
    kernel_size: int,
    extra_depthwise: bool,
    *,
    name: str,
) -> keras.KerasTensor:
    """1x1, depthwise, 1x1; nothing follows a depthwise convolution but its batch norm (guideline G4)."""
    if extra_depthwise:
        x = torch_depthwise(x, activation=None, name=f"{name}_extra_depthwise")
    x = torch_conv(x, inner, activation="relu", name=f"{name}_expand")
    x = torch_depthwise(x, kernel_size, strides, activation=None, name=f"{name}_depthwise")
    return torch_conv(x, width, activation="relu", name=f"{name}_project")


@keras.saving.register_keras_serializable("keras_lightdet")
class ChannelShuffle(layers.Layer):
    """Deals the channels of `[B, H, W, C]`, in `groups` runs of `n = C / groups`, out in turn: channel `g * n + i`
    becomes channel `i * groups + g` (Zhang et al. 2018, section 3.1).

    In three dimensions, so that phones' accelerators, which take four at most, run it too.
    """

    def __init__(self, groups: int, **kwargs):
        super().__init__(**kwargs)
        self.groups = groups

    def build(self, input_shape):
        """Checks that the channels go up in groups."""
        if input_shape[-1] % self.groups:
            raise ValueError(f"Expected channels in {self.groups} equal groups, got {input_shape[-1]}.")

    def call(self, inputs):
        """Returns the channels of `inputs` in their new order."""
        _, height, width, channels = ops.shape(inputs)
        x = ops.reshape(inputs, (-1, self.groups, channels // self.groups))
        return ops.reshape(ops.transpose(x, (0, 2, 1)), (-1, height, width, channels))

    def compute_output_shape(self, input_shape):
        """The shape stays."""
        return input_shape

    def get_config(self):
        """Returns what rebuilds the layer."""
        return {**super().get_config(), "groups": self.groups}
