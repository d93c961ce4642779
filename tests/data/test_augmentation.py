"""Augmentation moves boxes with their pixels: painted rectangles show where a box must be."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from augmented_groups import BOX, OBLONG, augment, painted, pixels, plan, record
from data_trees import paint, painted_box
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_lightdet.data import AugmentSpec
from keras_lightdet.data.augmentation.plan import (
    Crop,
    GroupBoxes,
    crop_windows,
    move_boxes,
    pad_boxes,
)
from keras_lightdet.data.augmentation.windows import (
    WHOLE,
    choose_window,
    crop_window,
    jitter_window,
    mosaic_tiles,
    zoom_out_window,
)
from keras_lightdet.images import resize_image

SEEDS = range(12)


def cut(image, boxes, window, size, min_visible=0.3):
    """The pixels of a window, all boxes moved with them, and which are visible and which hidden."""
    group = [(image, record(image))] * 4
    crop = crop_windows(np.array([image.shape[:2]]), np.array([window]), np.array([size]))
    crops = Crop(*(np.broadcast_to(values[0], (4, 4, *values.shape[1:])) for values in crop))
    image_plan = plan(0, group, size)[0]._replace(crops=crops)
    return pixels(image_plan, group, size)[0], *move_boxes(np.float32(boxes), crop, min_visible)


def assert_box_covers_its_pixels(image, box, tolerance=1.0):
    expected = painted_box(image)
    assert expected is not None
    np.testing.assert_allclose(box, expected, atol=tolerance)


def test_flip_moves_the_box_with_its_pixels():
    for image, targets in augment(0, [painted()] * 4, OBLONG, flip=1.0):
        np.testing.assert_array_equal(targets["boxes"], [[160 - 75, 12, 160 - 30, 50]])
        np.testing.assert_array_equal(painted_box(image), targets["boxes"][0])
        np.testing.assert_array_equal(image, painted()[0][:, ::-1])


def test_the_whole_window_equals_the_resize_of_inference():
    image, moved, _, _ = cut(painted()[0], [BOX], WHOLE, (64, 128))
    np.testing.assert_array_equal(image, resize_image(painted()[0], (64, 128)))
    np.testing.assert_allclose(moved[0], [24, 8, 60, 50 * 64 / 96], rtol=1e-6)
    assert_box_covers_its_pixels(image, moved[0])


# For the second size the positions in training differ by up to 1/64 pixel, see `images.stretch`.
@pytest.mark.parametrize(("size", "levels"), [((64, 128), 0), ((123, 77), 8)])
def test_without_augmentation_an_image_equals_that_of_inference(size, levels):
    for image, targets in augment(0, [painted()] * 4, size):
        np.testing.assert_allclose(image.astype(int), resize_image(painted()[0], size), rtol=0, atol=levels)
        scale = np.float32([size[1] / 160, size[0] / 96] * 2)
        np.testing.assert_allclose(targets["boxes"], [scale * BOX], rtol=1e-6)


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
    image, moved, visible, _ = cut(painted()[0], [BOX], window, size)
    assert visible.all()
    # One pixel of the image may become several of the result.
    scale = max(size[1] / ((window[2] - window[0]) * 160), size[0] / ((window[3] - window[1]) * 96), 1)
    assert_box_covers_its_pixels(image, moved[0], tolerance=1.0 if scale < 1.5 else scale / 2 + 0.5)


def test_outside_the_image_is_gray():
    image, *_ = cut(painted()[0], [BOX], (-1.0, -1.0, 1.0, 1.0), (96, 160))
    assert (image[:47] == 114).all() and (image[:, :79] == 114).all()
    assert (image[48:, 80:] != 114).all()


@pytest.mark.parametrize("name", ["zoom_out", "jitter", "crop"])
@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_window_moves_the_box_with_its_pixels(name, flip, seed):
    moved = 0
    for image, targets in augment(seed, [painted()] * 4, OBLONG, min_visible=0.0, **{name: 1.0, "flip": flip}):
        boxes = targets["boxes"]
        if painted_box(image) is None:
            assert not len(boxes) or (boxes[0, 2:] - boxes[0, :2]).min() < 3
            continue
        assert targets["labels"].tolist() == [3] and targets["ignore"].tolist() == [0]
        assert_box_covers_its_pixels(image, boxes[0], tolerance=1.7)
        moved += not np.array_equal(boxes, [BOX])
    assert moved or name == "crop"


def test_windows_are_drawn_from_their_ranges():
    spec = AugmentSpec(zoom_out_max=3.0, jitter_scale=(0.5, 2.0), jitter_aspect=1.2)
    rng, drawn = np.random.default_rng(1), []
    for _ in range(40):
        zoomed = np.array(zoom_out_window(rng, spec))
        side = zoomed[2:] - zoomed[:2]
        assert 1 <= side[0] <= 3 and side[0] == pytest.approx(side[1], abs=1e-5)
        assert (zoomed[:2] <= 1e-6).all() and (zoomed[2:] >= 1 - 1e-6).all()
        jittered = np.array(jitter_window(rng, spec))
        sides = jittered[2:] - jittered[:2]
        assert 0.5 <= 1 / np.sqrt(sides.prod()) <= 2.0 and 1 / 1.2 <= sides[0] / sides[1] <= 1.2
        for axis in (0, 1):
            inside = jittered[axis] >= -1e-6 and jittered[axis + 2] <= 1 + 1e-6
            around = jittered[axis] <= 1e-6 and jittered[axis + 2] >= 1 - 1e-6
            assert inside or around
        drawn.append([side[0], 1 / np.sqrt(sides.prod()), sides[0] / sides[1]])
    low, high = np.min(drawn, axis=0), np.max(drawn, axis=0)
    assert (low < [1.3, 0.6, 0.9]).all() and (high > [2.7, 1.7, 1.1]).all()


def best_iou(window, boxes):
    ious = []
    for box in boxes:
        intersection = np.maximum(np.minimum(window[2:], box[2:]) - np.maximum(window[:2], box[:2]), 0).prod()
        ious.append(intersection / ((box[2:] - box[:2]).prod() + (window[2:] - window[:2]).prod() - intersection))
    return max(ious)


@pytest.mark.parametrize("minimum", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("boxes", [[(0.2, 0.3, 0.7, 0.8)], [(0.0, 0.0, 0.02, 0.02), (0.2, 0.3, 0.7, 0.8)]])
def test_a_crop_has_the_minimum_iou_with_a_box(boxes, minimum):
    spec, rng = AugmentSpec(crop_min_ious=(minimum,)), np.random.default_rng(3)
    boxes, cropped = np.array(boxes), 0
    for _ in range(30):
        window = np.array(crop_window(rng, boxes, spec))
        if window.tolist() == [0, 0, 1, 1]:
            continue
        cropped += 1
        assert best_iou(window, boxes) >= minimum - 1e-5
        side = window[2:] - window[:2]
        assert (window >= 0).all() and (window <= 1).all() and (side >= 0.3 - 1e-6).all()
        assert 0.5 < side[0] / side[1] < 2
    assert cropped > 15


@pytest.mark.parametrize("possible", range(5))
def test_all_minimum_ious_of_a_crop_are_equally_likely(possible):
    spec, rng = (
        AugmentSpec(crop_min_ious=tuple(0.1 if n == possible else 2.0 for n in range(5))),
        np.random.default_rng(4),
    )
    cropped = [crop_window(rng, np.array([[0.2, 0.2, 0.8, 0.8]]), spec) != WHOLE for _ in range(300)]
    assert 0.12 < np.mean(cropped) < 0.28


def test_a_crop_without_boxes_is_the_whole_image():
    assert crop_window(np.random.default_rng(3), np.zeros([0, 4]), AugmentSpec()) == (0, 0, 1, 1)


def test_boxes_mostly_outside_a_window_are_ignored_or_removed():
    image = paint(100, 100, (0, 0, 1, 1))
    boxes = [(10, 0, 50, 40), (45, 0, 85, 40), (60, 10, 90, 20), (0, 50, 50.9, 60)]
    _, moved, visible, hidden = cut(image, boxes, (0.5, 0.0, 1.0, 1.0), (100, 50))
    # Outside; 35 of 40 columns; inside; 0.9 of 50.9 columns.
    assert visible.tolist() == [False, True, True, False]
    assert hidden[visible].tolist() == [False, False]
    np.testing.assert_array_equal(moved[1:3], [[0, 0, 35, 40], [10, 10, 40, 20]])
    _, _, visible, hidden = cut(image, boxes, (0.75, 0.0, 1.0, 1.0), (100, 25))
    # 10 of 40 columns are less than 30 %, 15 of 30 are more.
    assert visible.tolist() == [False, True, True, False]
    assert hidden[visible].tolist() == [True, False]


@pytest.mark.parametrize("name", ["jitter", "crop", "mosaic"])
@pytest.mark.parametrize("min_visible", [0.0, 0.3, 0.7])
def test_a_box_that_is_mostly_hidden_is_ignored(name, min_visible):
    boxes = np.float32([(0, 10, 60, 50), (70, 0, 140, 30), (100, 40, 160, 96), (20, 60, 90, 96), (40, 30, 110, 70)])
    image, counts = paint(*OBLONG, BOX), [0, 0]
    records = [dataclasses.replace(record(image, *boxes), labels=np.arange(5) + 5 * index) for index in range(4)]
    options = {name: 1.0, "min_visible": min_visible, "crop_min_ious": (0.1,), "max_boxes": 20}
    for seed in range(25):
        image_plan, targets = plan(seed, [(image, labeled) for labeled in records], OBLONG, **options)
        for index, tile in np.argwhere(targets["sources"] >= 0):
            # Only what lies outside the visible part of the image is hidden.
            low, extent = (values[index, tile, 1::-1] for values in (image_plan.crops.begin, image_plan.crops.extent))
            visible = np.maximum(np.minimum(boxes[:, 2:], low + extent) - np.maximum(boxes[:, :2], low), 0)
            share = visible.prod(axis=-1) / (boxes[:, 2:] - boxes[:, :2]).prod(axis=-1)
            for label, ignore in zip(targets["labels"][index], targets["ignore"][index], strict=True):
                if label // 5 == targets["sources"][index, tile] and abs(share[label % 5] - min_visible) > 1e-5:
                    assert ignore == (share[label % 5] < min_visible)
                    counts[ignore] += 1
    assert counts[0] > 100 and (counts[1] > 20 if min_visible else counts[1] == 0)


def test_ignored_boxes_stay_ignored():
    group = [painted(ignore=index == 2) for index in range(4)]
    ignored = [targets["ignore"].tolist() for _, targets in augment(0, group, (32, 32), flip=1.0)]
    assert ignored == [[0], [0], [1], [0]]


@settings(max_examples=40, deadline=None)
@given(
    box=st.tuples(st.floats(0, 150), st.floats(0, 90), st.floats(0.01, 160), st.floats(0.01, 96)),
    corner=st.tuples(st.floats(-2, 0.9), st.floats(-2, 0.9)),
    sides=st.tuples(st.floats(0.05, 3), st.floats(0.05, 3)),
)
def test_boxes_of_any_window_lie_inside_the_image(box, corner, sides):
    x, y, width, height = box
    image = np.zeros([96, 160, 3], np.uint8)
    window = (*corner, corner[0] + sides[0], corner[1] + sides[1])
    result, moved, visible, _ = cut(image, [(x, y, min(x + width, 160), min(y + height, 96))], window, (40, 56))
    assert set(np.unique(result)) <= {0, 114} and np.isfinite(moved).all()
    assert (moved >= 0).all() and (moved <= [56, 40, 56, 40]).all()
    assert (moved[visible, 2:] - moved[visible, :2] >= 1).all()


def test_boxes_of_less_than_a_pixel_are_removed():
    image = paint(*OBLONG, BOX)
    group = [(image, record(image, (0, 0, 0.9, 90), (20, 8, 21, 58), BOX, (70, 10, 130, 10.9)))] * 4
    _, targets = plan(0, group, OBLONG, max_boxes=3)
    np.testing.assert_array_equal(targets["boxes"], [[BOX, (20, 8, 21, 58), (0, 0, 0, 0)]] * 4)
    assert targets["labels"].tolist() == [[3, 3, -1]] * 4


def colorful_images():
    """Four images of different sizes, each with one rectangle of a different brightness."""
    group = []
    for number, size in enumerate([(96, 160), (120, 80), (64, 64), (50, 200)]):
        box = (size[1] // 5, size[0] // 4, size[1] * 3 // 5, size[0] * 3 // 4)
        image = paint(*size, box, value=120 + 40 * number)
        group.append((image, record(image, box, label=number)))
    return group


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_mosaic_moves_all_boxes_with_their_pixels(flip, seed):
    options = {"mosaic": 1.0, "min_visible": 0.0, "flip": flip}
    for image, targets in augment(seed, colorful_images(), (120, 160), **options):
        labels, checked = targets["labels"], 0
        for label in range(4):
            near = np.abs(image[..., 0].astype(int) - (120 + 40 * label)) < 20
            if not near.any() or not (labels == label).any():
                continue
            box = targets["boxes"][labels == label][0]
            # The edges of another rectangle pass through this brightness, but not in a solid block.
            inside = near[int(np.ceil(box[1])) + 1 : int(box[3]) - 1, int(np.ceil(box[0])) + 1 : int(box[2]) - 1]
            assert inside.size == 0 or inside.mean() > 0.99
            around = near.copy()
            around[max(int(box[1]) - 2, 0) : int(box[3]) + 3, max(int(box[0]) - 2, 0) : int(box[2]) + 3] = False
            assert around.mean() < 0.02
            checked += 1
        assert checked >= 2


@pytest.mark.parametrize("seed", SEEDS)
def test_the_mosaic_center_is_in_its_range(seed):
    values = [10, 80, 150, 220]
    plain = [np.full([40, 40, 3], value, np.uint8) for value in values]
    group = [(image, record(image)) for image in plain]
    image_plan, targets = plan(seed, group, (100, 200), mosaic=1.0, mosaic_center=(0.3, 0.7))
    for index, image in enumerate(pixels(image_plan, group, (100, 200))):
        own = values[index]
        rows, columns = (image[:, 0, 0] == own).sum(), (image[0, :, 0] == own).sum()
        assert 30 <= rows <= 70 and 60 <= columns <= 140
        corners = image[[0, 0, -1, -1], [0, -1, 0, -1], 0]
        np.testing.assert_array_equal(corners, np.roll(values, -index))
        np.testing.assert_array_equal(corners, np.array(values)[targets["sources"][index]])


@pytest.mark.parametrize("extent", [(1, 40), (40, 1), (1, 1), (2, 3)])
def test_a_mosaic_of_tiny_images_has_no_gaps(extent):
    values = [10, 80, 150, 220]
    group = [(image, record(image)) for image in (np.full([*extent, 3], value, np.uint8) for value in values)]
    for seed in SEEDS:
        for image, _ in augment(seed, group, (20, 30), mosaic=1.0, mosaic_center=(0.1, 0.9)):
            assert set(np.unique(image)) == set(values)


def test_a_mosaic_shows_its_images_at_the_scale_without_mosaic_or_smaller():
    rng, sides = np.random.default_rng(5), []
    for _ in range(40):
        for tile in mosaic_tiles(rng, [1, 2, 3, 0], (100, 200), AugmentSpec()):
            window = np.array(tile.window)
            width, height = window[2:] - window[:2]
            share = np.array([tile.size[1] / 200, tile.size[0] / 100])
            assert (window >= -1e-9).all() and (window <= 1 + 1e-9).all()
            assert width / height == pytest.approx(share[0] / share[1])
            assert width >= share[0] - 1e-9
            sides.append([width / share[0], max(width, height)])
    zooms, fullest = np.array(sides).T
    assert zooms.min() < 1.05 and zooms.max() > 1.7 and fullest.max() > 0.98


def test_pad_boxes_keeps_the_largest_of_each_image():
    boxes = np.float32([(0, 0, 2, 2), (0, 0, 9, 9), (1, 1, 8, 8), (0, 0, 5, 5), (0, 0, 3, 3)])
    group = GroupBoxes(boxes, np.arange(5), np.array([1, 0, 1, 0, 0], bool), np.array([2, 0, 2, 0, 0]))
    padded = pad_boxes(group, 3, 2)
    np.testing.assert_array_equal(padded["boxes"], [boxes[[1, 3]], np.zeros([2, 4]), boxes[[2, 0]]])
    assert padded["labels"].tolist() == [[1, 3], [-1, -1], [2, 0]]
    assert padded["ignore"].tolist() == [[0, 0], [0, 0], [1, 1]]
    padded = pad_boxes(group._replace(image=np.zeros(5, int)), 1, 7)
    assert padded["labels"].tolist() == [[1, 2, 3, 4, 0, -1, -1]] and not padded["boxes"][0, 5:].any()


def test_windows_are_chosen_with_their_probabilities():
    spec, rng = AugmentSpec(zoom_out=0.25, crop=0.0, jitter=0.25), np.random.default_rng(5)
    windows = np.array([choose_window(rng, np.array([[0.2, 0.2, 0.5, 0.6]]), spec) for _ in range(400)])
    sides = windows[:, 2:] - windows[:, :2]
    whole = (windows == [0, 0, 1, 1]).all(-1)
    zoomed = ~whole & (np.abs(sides[:, 0] - sides[:, 1]) < 1e-5) & (sides[:, 0] > 1)
    assert 0.42 < whole.mean() < 0.58 and 0.18 < zoomed.mean() < 0.33


def test_flip_mosaic_and_color_are_independent_and_have_their_probabilities():
    group = [painted((1, 1, 4, 4), (8, 8))] * 4
    plans = [plan(seed, group, (8, 8), flip=0.5, mosaic=0.3, color=0.6)[0] for seed in range(150)]
    drawn = (
        np.array([(image_plan.flip, image_plan.mosaic, image_plan.colored) for image_plan in plans])
        .swapaxes(0, 1)
        .reshape(3, -1)
    )
    np.testing.assert_allclose(drawn.mean(axis=1), [0.5, 0.3, 0.6], atol=0.07)
    assert np.abs(np.corrcoef(drawn) - np.eye(3)).max() < 0.15


def test_a_plan_depends_only_on_its_arguments():
    spec = {"flip": 0.5, "jitter": 0.5, "crop": 0.5, "mosaic": 0.5, "color": 0.5}
    first, again, other = (tf.nest.flatten(plan(seed, colorful_images(), (64, 64), **spec)) for seed in (3, 3, 4))
    assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))
    assert not all(np.array_equal(*pair) for pair in zip(first, other, strict=True))


@pytest.mark.parametrize("wrong", [{"flip": 1.5}, {"mosaic": -0.1}, {"color": 1.1}, {"crop": 0.6, "jitter": 0.6}])
def test_probabilities_are_checked(wrong):
    with pytest.raises(ValueError, match="Expected"):
        AugmentSpec(**wrong)
