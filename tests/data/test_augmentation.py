"""Augmentation, judged by painted rectangles: the pixels decide where the box is."""

import colorsys

import numpy as np
import pytest
import tensorflow as tf
from data_trees import paint, painted_box
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_lightdet.data.augmentation import (
    AugmentSpec,
    change_colours,
    choose_window,
    crop_window,
    flip_left_right,
    jitter_window,
    pad_boxes,
    place,
    place_mosaic,
    zoom_out_window,
)
from keras_lightdet.images import resample

OBLONG = (96, 160)
BOX = (30, 12, 75, 50)
SEEDS = [(7, number) for number in range(12)]
WHOLE = tf.constant([0.0, 0.0, 1.0, 1.0])


def targets(*boxes, ignore=False, label=3):
    """Targets of the given boxes, with one row of padding."""
    count = len(boxes)
    return {
        "boxes": tf.constant([*map(list, boxes), [0, 0, 0, 0]], tf.float32),
        "labels": tf.constant([label] * count + [-1], tf.int32),
        "ignore": tf.constant([ignore] * count + [False]),
    }


def painted(box=BOX, size=OBLONG):
    return tf.constant(paint(*size, box)), targets(box)


def box_of(made):
    """The one valid box, or None."""
    valid = made["labels"].numpy() >= 0
    return made["boxes"].numpy()[valid][0] if valid.any() else None


def assert_box_covers_its_pixels(image, made, tolerance=1.0):
    pixels, box = painted_box(image), box_of(made)
    assert pixels is not None and box is not None
    np.testing.assert_allclose(box, pixels, atol=tolerance)


def test_flip_moves_the_box_with_its_pixels():
    image, made = flip_left_right(*painted())
    np.testing.assert_array_equal(box_of(made), [160 - 75, 12, 160 - 30, 50])
    np.testing.assert_array_equal(painted_box(image.numpy()), box_of(made))
    assert not made["boxes"].numpy()[1].any()


def test_the_whole_window_is_tensorflows_resize():
    image, made = place(*painted(), WHOLE, (64, 128), 0.3)
    np.testing.assert_array_equal(image, resample(painted()[0][None], (64, 128))[0])
    np.testing.assert_allclose(box_of(made), [24, 8, 60, 50 * 64 / 96], rtol=1e-6)
    assert_box_covers_its_pixels(image, made)


@pytest.mark.parametrize(
    "window",
    [
        (0.1, 0.05, 0.6, 0.9),
        (-0.5, -0.2, 1.1, 1.9),
        (-1.0, 0.0, 1.0, 1.0),
        (0.15, 0.1, 0.5, 0.55),
        (0.0, -2.0, 1.0, 1.0),
    ],
)
@pytest.mark.parametrize("size", [(64, 128), (123, 77)])
def test_a_window_moves_the_box_with_its_pixels(window, size):
    image, made = place(*painted(), tf.constant(window), size, 0.3)
    assert image.shape == (*size, 3)
    # A pixel of the picture may be several of the result.
    scale = max(size[1] / ((window[2] - window[0]) * 160), size[0] / ((window[3] - window[1]) * 96), 1)
    assert_box_covers_its_pixels(image, made, tolerance=1.0 if scale < 1.5 else scale / 2 + 0.5)


def test_outside_the_picture_is_grey():
    image, _ = place(*painted(), tf.constant([-1.0, -1.0, 1.0, 1.0]), (96, 160), 0.3)
    assert (image.numpy()[:47] == 114).all() and (image.numpy()[:, :79] == 114).all()
    assert (image.numpy()[48:, 80:] != 114).all()


@pytest.mark.parametrize("name", ["zoom_out", "jitter", "crop"])
@pytest.mark.parametrize("seed", SEEDS)
def test_every_chosen_window_moves_the_box_with_its_pixels(name, seed):
    image, made = painted()
    spec = AugmentSpec()
    relative = made["boxes"] / [160, 96, 160, 96]
    window = {
        "zoom_out": lambda: zoom_out_window(seed, spec),
        "jitter": lambda: jitter_window(seed, spec),
        "crop": lambda: crop_window(seed, relative, made["labels"] >= 0, spec),
    }[name]()
    image, made = place(image, made, window, (96, 160), 0.0)
    if painted_box(image) is None:
        assert box_of(made) is None or (box_of(made)[2:] - box_of(made)[:2]).min() < 3
    else:
        assert_box_covers_its_pixels(image, made, tolerance=1.7)


def test_windows_keep_to_their_ranges():
    spec = AugmentSpec(zoom_out_max=3.0, jitter_scale=(0.5, 2.0), jitter_aspect=1.2)
    for number in range(40):
        zoomed = zoom_out_window((1, number), spec).numpy()
        side = zoomed[2:] - zoomed[:2]
        assert 1 <= side[0] <= 3 and side[0] == pytest.approx(side[1], abs=1e-5)
        assert (zoomed[:2] <= 1e-6).all() and (zoomed[2:] >= 1 - 1e-6).all()
        jittered = jitter_window((1, number), spec).numpy()
        sides = jittered[2:] - jittered[:2]
        assert 0.5 <= 1 / np.sqrt(sides.prod()) <= 2.0 and 1 / 1.2 <= sides[0] / sides[1] <= 1.2
        for axis in (0, 1):
            inside = jittered[axis] >= -1e-6 and jittered[axis + 2] <= 1 + 1e-6
            around = jittered[axis] <= 1e-6 and jittered[axis + 2] >= 1 - 1e-6
            assert inside or around


@pytest.mark.parametrize("minimum", [0.1, 0.3, 0.5])
def test_a_crop_overlaps_a_box_by_the_minimum(minimum):
    spec = AugmentSpec(crop_min_ious=(minimum,))
    boxes, cropped = tf.constant([[0.2, 0.3, 0.7, 0.8], [0.0, 0.0, 0.0, 0.0]]), 0
    for number in range(30):
        window = crop_window((3, number), boxes, tf.constant([True, False]), spec).numpy()
        if window.tolist() == [0, 0, 1, 1]:
            continue
        cropped += 1
        shared = np.maximum(np.minimum(window[2:], [0.7, 0.8]) - np.maximum(window[:2], [0.2, 0.3]), 0).prod()
        side = window[2:] - window[:2]
        assert shared / (0.25 + side.prod() - shared) >= minimum - 1e-5
        assert (window >= 0).all() and (window <= 1).all() and (side >= 0.3 - 1e-6).all()
        assert 0.5 < side[0] / side[1] < 2
    assert cropped > 15


def test_a_crop_without_boxes_is_the_whole_picture():
    window = crop_window((3, 1), tf.zeros([1, 4]), tf.constant([False]), AugmentSpec())
    assert window.numpy().tolist() == [0, 0, 1, 1]


def test_boxes_cut_away_are_ignored_or_gone():
    image = tf.constant(paint(100, 100, (0, 0, 1, 1)))
    boxes = targets((10, 0, 50, 40), (45, 0, 85, 40), (60, 10, 90, 20), (0, 50, 50.9, 60))
    _, made = place(image, boxes, tf.constant([0.5, 0.0, 1.0, 1.0]), (100, 50), 0.3)
    # Out of sight; 35 of 40 columns; whole; 0.9 of 50.9 columns.
    assert made["labels"].numpy().tolist() == [-1, 3, 3, -1, -1]
    assert made["ignore"].numpy().tolist() == [False] * 5
    np.testing.assert_array_equal(made["boxes"][1:3], [[0, 0, 35, 40], [10, 10, 40, 20]])
    _, made = place(image, boxes, tf.constant([0.75, 0.0, 1.0, 1.0]), (100, 25), 0.3)
    # 10 of 40 columns are less than 30 %, 15 of 30 are more.
    assert made["labels"].numpy().tolist() == [-1, 3, 3, -1, -1]
    assert made["ignore"].numpy().tolist() == [False, True, False, False, False]


def test_ignore_stays():
    _, made = place(tf.constant(paint(*OBLONG, BOX)), targets(BOX, ignore=True), WHOLE, (32, 32), 0.3)
    assert made["ignore"].numpy().tolist() == [True, False]


@settings(max_examples=40, deadline=None)
@given(
    box=st.tuples(st.floats(0, 150), st.floats(0, 90), st.floats(0.01, 160), st.floats(0.01, 96)),
    corner=st.tuples(st.floats(-2, 0.9), st.floats(-2, 0.9)),
    sides=st.tuples(st.floats(0.05, 3), st.floats(0.05, 3)),
)
def test_any_window_gives_boxes_inside_the_picture(box, corner, sides):
    x, y, width, height = box
    image = tf.zeros([96, 160, 3], tf.uint8)
    window = tf.constant([*corner, corner[0] + sides[0], corner[1] + sides[1]], tf.float32)
    made_image, made = place(image, targets((x, y, min(x + width, 160), min(y + height, 96))), window, (40, 56), 0.3)
    boxes, labels = made["boxes"].numpy(), made["labels"].numpy()
    assert made_image.shape == (40, 56, 3) and np.isfinite(boxes).all()
    assert (boxes >= 0).all() and (boxes <= [56, 40, 56, 40]).all()
    assert (boxes[labels < 0] == 0).all() and (boxes[labels >= 0, 2:] - boxes[labels >= 0, :2] >= 1).all()


def colourful_pictures():
    """Four pictures, each with one rectangle of its own brightness and of its own size."""
    pictures = []
    for number, size in enumerate([(96, 160), (120, 80), (64, 64), (50, 200)]):
        box = (size[1] // 5, size[0] // 4, size[1] * 3 // 5, size[0] * 3 // 4)
        pictures.append((tf.constant(paint(*size, box, value=120 + 40 * number)), targets(box, label=number)))
    return pictures


@pytest.mark.parametrize("seed", SEEDS)
def test_mosaic_moves_every_box_with_its_pixels(seed):
    image, made = place_mosaic(seed, colourful_pictures(), (120, 160), AugmentSpec(min_visible=0.0))
    assert image.shape == (120, 160, 3)
    labels, seen = made["labels"].numpy(), 0
    for label in range(4):
        value = 120 + 40 * label
        near = np.abs(image.numpy()[..., 0] - value) < 20
        found = painted_box(np.where(near[..., None], 255, 0).repeat(3, -1))
        if found is None or not (labels == label).any():
            continue
        box = made["boxes"].numpy()[labels == label][0]
        # Slopes between another rectangle and the ground pass through this brightness, but not in a solid block.
        inside = near[int(np.ceil(box[1])) + 1 : int(box[3]) - 1, int(np.ceil(box[0])) + 1 : int(box[2]) - 1]
        assert inside.size == 0 or inside.mean() > 0.99
        around = near.copy()
        around[max(int(box[1]) - 2, 0) : int(box[3]) + 3, max(int(box[0]) - 2, 0) : int(box[2]) + 3] = False
        assert around.mean() < 0.02
        seen += 1
    assert seen >= 2


def test_mosaic_meets_within_its_range():
    white = [(tf.fill([40, 40, 3], tf.constant(value, tf.uint8)), targets()) for value in (10, 80, 150, 220)]
    for seed in SEEDS:
        image, _ = place_mosaic(seed, white, (100, 200), AugmentSpec(mosaic_centre=(0.3, 0.7)))
        rows, columns = (image.numpy()[:, 0, 0] == 10).sum(), (image.numpy()[0, :, 0] == 10).sum()
        assert 30 <= rows <= 70 and 60 <= columns <= 140
        corners = image.numpy()[[0, 0, -1, -1], [0, -1, 0, -1], 0]
        np.testing.assert_array_equal(corners, [10, 80, 150, 220])


def test_pad_boxes_keeps_the_largest():
    made = pad_boxes(targets((0, 0, 2, 2), (0, 0, 9, 9), (0, 0, 5, 5)), 2)
    np.testing.assert_array_equal(made["boxes"], [[0, 0, 9, 9], [0, 0, 5, 5]])
    made = pad_boxes(targets((0, 0, 2, 2)), 4)
    assert made["labels"].numpy().tolist() == [3, -1, -1, -1]


def colours_of(pixel, seed=(0, 0), **changes):
    spec = AugmentSpec(**{**dict.fromkeys(("brightness", "contrast", "saturation", "hue"), 0.0), **changes})
    return change_colours(seed, tf.fill([4, 4, 3], 1.0) * tf.constant(pixel, tf.float32), spec).numpy()[0, 0]


def test_no_change_of_colour_is_none():
    for pixel in ((200, 30, 90), (0, 0, 0), (255, 255, 255), (1, 254, 128)):
        assert np.abs(colours_of(pixel).astype(int) - pixel).max() <= 1


@pytest.mark.parametrize("seed", SEEDS)
def test_each_change_of_colour_does_what_it_says(seed):
    luma = np.array([0.299, 0.587, 0.114])
    pixel = np.array([150, 110, 90])
    shifts = colours_of(pixel, seed, brightness=0.1).astype(float) - pixel
    assert np.ptp(shifts) <= 1 and np.abs(shifts).max() <= 26.5
    contrasted = colours_of(pixel, seed, contrast=0.3).astype(float) - 127.5
    factors = contrasted / (pixel - 127.5)
    assert np.ptp(factors) < 0.06 and 0.67 < factors.mean() < 1.33
    saturated = colours_of(pixel, seed, saturation=0.5).astype(float)
    assert saturated @ luma == pytest.approx(pixel @ luma, abs=1)
    assert 0.45 < np.ptp(saturated) / np.ptp(pixel) < 1.55
    turned = colours_of(pixel, seed, hue=0.05).astype(float)
    assert turned @ luma == pytest.approx(pixel @ luma, abs=1)
    turn = colorsys.rgb_to_hsv(*turned)[0] - colorsys.rgb_to_hsv(*pixel)[0]
    assert abs((turn + 0.5) % 1 - 0.5) < 0.08
    grey = colours_of((90, 90, 90), seed, hue=0.5, saturation=0.9)
    assert np.abs(grey.astype(int) - 90).max() <= 1


def test_choices_are_made_as_often_as_asked():
    spec = AugmentSpec(zoom_out=0.25, crop=0.0, jitter=0.25)
    image, made = painted()
    choose = tf.function(lambda seed: choose_window(seed, image, made, spec))
    windows = np.stack([choose(tf.constant([5, number])).numpy() for number in range(400)])
    sides = windows[:, 2:] - windows[:, :2]
    whole = (windows == [0, 0, 1, 1]).all(-1)
    zoomed = ~whole & (np.abs(sides[:, 0] - sides[:, 1]) < 1e-5) & (sides[:, 0] > 1)
    assert 0.42 < whole.mean() < 0.58 and 0.18 < zoomed.mean() < 0.33


@pytest.mark.parametrize("wrong", [{"flip": 1.5}, {"mosaic": -0.1}, {"crop": 0.6, "jitter": 0.6}])
def test_probabilities_are_checked(wrong):
    with pytest.raises(ValueError, match="Expected"):
        AugmentSpec(**wrong)
