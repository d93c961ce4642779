"""Color changes equal their definitions, and are drawn independently with their probabilities."""

import numpy as np
import pytest
import tensorflow as tf
from augmented_groups import NO_CHANGE, augment, pixels, plan, record

from keras_lightdet.data import AugmentSpec
from keras_lightdet.data.augmentation.colors import Colors, change_colors, draw_colors

SEEDS = range(12)

# PAL's chroma axes: a rotation of NTSC's I and Q is a rotation of U and V in the other direction.
LUMA, U, V = np.array([0.299, 0.587, 0.114]), 0.492111, 0.877283


def changed_colors(pixels, turn, saturation, contrast, brightness):
    """Float64 pixels `[..., 3]` after changes of hue, saturation, contrast and brightness."""
    luma = pixels @ LUMA
    chroma = U * (pixels[..., 2] - luma) + 1j * V * (pixels[..., 0] - luma)
    chroma = saturation * np.exp(1j * turn) * chroma
    red, blue = luma + chroma.imag / V, luma + chroma.real / U
    green = (luma - LUMA[0] * red - LUMA[2] * blue) / LUMA[1]
    turned = np.stack([red, green, blue], axis=-1)
    return 127.5 + contrast * (turned - 127.5) + 255 * brightness


def drawn_amounts(matrix, shift):
    """Recovers the drawn amounts: contrast and brightness from two grays, hue and saturation from one color."""
    matrix, shift = np.float64(matrix), np.float64(shift)
    black, white, red = (np.float64(pixel) @ matrix + shift for pixel in ([0] * 3, [255] * 3, [255, 0, 0]))
    contrast = (white - black).mean() / 255
    brightness = (black.mean() - 127.5 * (1 - contrast)) / 255
    before, after = (
        U * (pixel[2] - pixel @ LUMA) + 1j * V * (pixel[0] - pixel @ LUMA) for pixel in (np.float64([255, 0, 0]), red)
    )
    return np.angle(after / before), abs(after / before) / contrast, contrast, brightness


def random_images(seed, size=(24, 32)):
    images = np.random.default_rng(seed).integers(0, 256, (4, *size, 3), dtype=np.uint8)
    return [(image, record(image)) for image in images]


@pytest.mark.parametrize("extent", [(8, 9), (5, 7)])  # a multiple of four pixels, and not
def test_change_colors_multiplies_by_the_matrix(extent):
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 255, (*extent, 3)).astype(np.float32)
    colors = Colors(rng.normal(size=(3, 3)).astype(np.float32), np.float32(3.5))
    expected = image.astype(float) @ colors.matrix.astype(float) + 3.5
    np.testing.assert_allclose(change_colors(tf.constant(image), colors), expected, rtol=1e-5, atol=1e-3)


def test_color_changes_of_zero_keep_the_pixels():
    group = random_images(0)
    image_plan, _ = plan(0, group, (24, 32), color=1.0, **NO_CHANGE)
    for image, (before, _) in zip(pixels(image_plan, group, (24, 32)), group, strict=True):
        assert np.abs(image.astype(int) - before).max() <= 1


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue", "all"])
def test_each_color_change_equals_its_definition(name, flip):
    most = {"brightness": 0.1, "contrast": 0.3, "saturation": 0.5, "hue": 0.05}
    most = most if name == "all" else {**NO_CHANGE, name: most[name]}
    limits = [2 * np.pi * most["hue"], most["saturation"], most["contrast"], most["brightness"]]
    drawn = []
    for seed in SEEDS:
        group = random_images(seed)
        image_plan, _ = plan(seed, group, (24, 32), color=1.0, flip=flip, **most)
        for index, image in enumerate(pixels(image_plan, group, (24, 32))):
            amounts = drawn_amounts(image_plan.colors.matrix[index], image_plan.colors.shift[index])
            expected = changed_colors(np.float64(group[index][0]), *amounts)
            expected = np.clip(expected[:, ::-1] if flip else expected, 0, 255)
            # 0.5 is due to rounding, the rest to the three digits of the published chroma axes.
            assert np.abs(image - expected).max() < 0.9
            drawn.append(np.abs(np.array(amounts) - [0, 1, 1, 0]))
    # Within the limits, and close to them in some images.
    assert (np.max(drawn, axis=0) <= np.array(limits) + 2e-3).all()
    assert (np.max(drawn, axis=0) >= np.array(limits) * 0.9 - 1e-6).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_hue_and_saturation_keep_the_luma_and_gray(seed):
    pixel, changed = np.uint8([150, 110, 90]), 0
    for color, changes in ((pixel, {"saturation": 0.5}), (pixel, {"hue": 0.05}), ((90, 90, 90), {"hue": 0.5})):
        image = np.full([4, 4, 3], color, np.uint8)
        for after, _ in augment(seed, [(image, record(image))] * 4, (4, 4), color=1.0, **{**NO_CHANGE, **changes}):
            assert after[0, 0] @ LUMA == pytest.approx(np.array(color) @ LUMA, abs=1)
            assert np.abs(after.astype(int) - image).max() <= 1 or np.ptp(color) > 0
            changed += np.abs(after.astype(int) - image).max() > 2
    assert changed >= 4


def test_color_changes_are_independent_of_each_other_and_between_images():
    colors = draw_colors(np.random.default_rng(0), 400, AugmentSpec())
    drawn = np.array([drawn_amounts(*pair) for pair in zip(*colors, strict=True)]).T
    assert np.abs(np.corrcoef(drawn) - np.eye(4)).max() < 0.2
    spread = np.quantile(drawn, [0.25, 0.75], axis=1)
    limits = np.array([2 * np.pi * 0.03, 0.3, 0.25, 0.1])
    np.testing.assert_allclose((spread - [0, 1, 1, 0]) / limits, [[-0.5] * 4, [0.5] * 4], atol=0.15)


@pytest.mark.parametrize("shape", [{}, {"mosaic": 1.0}, {"zoom_out": 1.0}])
def test_color_is_the_probability_of_a_change(shape):
    group = random_images(1)
    same = {}
    for color in (0.0, 0.5, 1.0):
        same[color] = []
        for seed in SEEDS:
            image_plan, _ = plan(seed, group, (24, 32), color=color, **shape)
            unchanged = image_plan._replace(colored=np.zeros(4, bool))
            both = zip(pixels(image_plan, group, (24, 32)), pixels(unchanged, group, (24, 32)), strict=True)
            same[color] += [np.array_equal(*pair) for pair in both]
    assert all(same[0.0]) and not any(same[1.0])
    assert 0.3 < np.mean(same[0.5]) < 0.7
