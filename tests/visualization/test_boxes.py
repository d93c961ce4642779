"""The pixels of drawn images."""

import numpy as np
import pytest
from evaluation_cases import detection_data, detections_of, record
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from keras_lightdet.errors import DataError
from keras_lightdet.visualization.boxes import IGNORED_COLOR, MIN_SIDE, class_color, draw, text_color
from keras_lightdet.visualization.predictions import draw_detection_grid, save_detection_grid

NAMES = ("cat", "dog", "zebra crossing")
GRAY = 90


def gray(width, height):
    return np.full((height, width, 3), GRAY, np.uint8)


def mask_of(image, color):
    return (np.asarray(image) == color).all(axis=2)


def extent(mask):
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def test_a_box_is_drawn_at_its_pixels_on_a_copy():
    original = gray(640, 480)
    image = draw(original, detections_of([[200, 150, 420, 300]], [0.876], [1]), NAMES)
    assert image.size == (640, 480) and image.mode == "RGB"
    assert (original == GRAY).all()
    mask = mask_of(image, class_color(1))
    x_min, y_min, x_max, y_max = extent(mask)
    assert (x_min, x_max, y_max) == (200, 420, 300)
    assert y_min < 150, "the text is above the box"
    assert not mask[160:290, 210:410].any(), "the inside is unchanged"
    line = mask[225]
    assert line[200:202].all() and line[418:420].all() and line.sum() == 4


@pytest.mark.parametrize(("width", "height"), [(640, 480), (4000, 3000), (3000, 500), (320, 2000)])
def test_lines_and_text_scale_with_the_image(width, height):
    box = [width // 4, height // 3, 3 * width // 4, 2 * height // 3]
    mask = mask_of(draw(gray(width, height), detections_of([box], [0.5], [0]), NAMES), class_color(0))
    line = mask[height // 2].sum() / 2
    label_height = box[1] - extent(mask)[1]
    assert line == max(2, round(max(width, height) / 320))
    assert 0.9 * max(width, height) / 45 < label_height < 0.04 * max(width, height) + 8


@pytest.mark.parametrize(("width", "height", "factor"), [(20, 10, 16), (100, 60, 4), (319, 200, 2), (320, 10, 1)])
def test_small_images_are_upsampled_by_a_whole_factor(width, height, factor):
    box = [width // 4, 1, width // 2, height - 1]
    image = draw(gray(width, height), detections_of([box], [0.5], [0]), NAMES)
    assert image.size == (width * factor, height * factor) and max(image.size) >= MIN_SIDE
    mask = mask_of(image, class_color(0))
    assert mask[height * factor - factor - 1, box[0] * factor : box[2] * factor].any()
    if factor > 1:
        assert extent(mask)[3] == (height - 1) * factor


corner = st.floats(-300, 900, allow_nan=False)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(corner, corner, corner, corner), max_size=8), st.integers(1, 700), st.integers(1, 700))
def test_any_box_on_any_image_is_drawn(corners, width, height):
    boxes = [[min(a, c), min(b, d), max(a, c), max(b, d)] for a, b, c, d in corners]
    image = draw(gray(width, height), detections_of(boxes, [0.5] * len(boxes), [2] * len(boxes)), NAMES)
    factor = image.width // width
    assert image.size == (width * factor, height * factor)
    if boxes:
        assert mask_of(image, class_color(2)).any()


@pytest.mark.parametrize("x", [-50, 0, 3, 320, 637, 700])
@pytest.mark.parametrize("y", [-50, 0, 3, 240, 477, 900])
def test_the_text_is_inside_the_image_for_any_box(x, y):
    def changed_pixels(x, y):
        image = draw(gray(640, 480), detections_of([[x, y, x + 1, y + 1]], [0.5], [0]), NAMES)
        return (np.asarray(image) != GRAY).any(axis=2).sum()

    # They differ by at most one pixel: that of the box, which the text may cover.
    assert abs(changed_pixels(x, y) - changed_pixels(200, 200)) <= 1


def test_the_best_detection_is_on_top_and_texts_do_not_overlap():
    boxes = [[100, 100, 300, 300], [100, 100, 300, 300], [100, 100, 300, 300]]
    image = draw(gray(640, 480), detections_of(boxes, [0.5, 0.9, 0.7], [0, 1, 2]), NAMES)
    edge = np.asarray(image)[200, 100]
    assert tuple(edge) == class_color(1)
    filled = [mask_of(image, class_color(label)).sum() for label in (0, 2)]
    assert min(filled) > 300, "the texts of the other boxes are visible"


def test_long_names_are_truncated_and_any_text_is_drawn():
    names = ("a class name that goes on and on " * 5, "two\nlines", "ö 猫")
    image = draw(gray(400, 300), detections_of([[50, 50, 90, 90]] * 3, [0.9, 0.8, 0.7], [0, 1, 2]), names)
    assert all(mask_of(image, class_color(label)).any() for label in range(3))


def test_min_score_omits_detections():
    answer = detections_of([[10, 10, 90, 90], [200, 200, 300, 300]], [0.9, 0.2], [0, 1])
    image = draw(gray(640, 480), answer, NAMES, min_score=0.3)
    assert mask_of(image, class_color(0)).any() and not mask_of(image, class_color(1)).any()


def test_ground_truth_is_dashed_and_gray_where_ignored():
    ground_truth = record([[100, 100, 300, 300], [400, 100, 600, 300]], [1, 1], ignore=[False, True])
    image = draw(gray(640, 480), detections_of([], [], []), NAMES, ground_truth=ground_truth)
    line = mask_of(image, class_color(1))[100:300, 100]
    assert 0.4 < line.mean() < 0.6
    assert extent(mask_of(image, class_color(1))) == (100, 100, 300, 300), "no text if there are detections"
    assert extent(mask_of(image, IGNORED_COLOR)) == (400, 100, 600, 300)
    alone = draw(gray(640, 480), None, NAMES, ground_truth=ground_truth)
    assert mask_of(alone, class_color(1)).sum() > mask_of(image, class_color(1)).sum()


def test_names_default_to_those_of_the_detections_for_all_kinds_of_images(tmp_path):
    answer = detections_of([[10, 40, 90, 90]], [0.9], [0], class_names=("cat",))
    path = tmp_path / "image.png"
    Image.fromarray(gray(400, 300)).save(path)
    expected = np.asarray(draw(gray(400, 300), answer))
    for image in (path, str(path), Image.fromarray(gray(400, 300)), Image.open(path)):
        np.testing.assert_array_equal(np.asarray(draw(image, answer)), expected)


def test_colors_of_twenty_classes_are_distinct_and_readable():
    colors = np.array([class_color(label) for label in range(20)], float)
    distance = np.linalg.norm(colors[:, None] - colors[None], axis=2) + 1e3 * np.eye(20)
    assert distance.min() > 40
    luma = [0.299, 0.587, 0.114]
    contrast = [abs(np.dot(luma, color) - np.dot(luma, text_color(tuple(color)))) for color in colors]
    assert min(contrast) > 100


@pytest.mark.parametrize(
    ("answer", "names"),
    [
        (detections_of([[0, 0, float("nan"), 9]], [0.9], [0]), "finite"),
        (detections_of([[0, 0, 9, 9]], [float("inf")], [0]), "finite"),
        (detections_of([[0, 0, 9, 9]], [0.9], [3]), "label 3"),
        (detections_of([[0, 0, 9, 9]], [0.9], [-1]), "label -1"),
        (detections_of([[0, 0, 9, 9]], [0.9], [0, 1]), "2 labels"),
        (detections_of([[0, 0, 9, 9]], [], [0]), "finite score"),
    ],
)
def test_invalid_detections_are_an_error(answer, names):
    with pytest.raises(DataError, match=names):
        draw(gray(64, 64), answer, NAMES)


def test_an_invalid_image_is_an_error():
    with pytest.raises(DataError, match=r"\[8, 8\]. Convert it to RGB"):
        draw(np.zeros((8, 8), np.uint8), detections_of([], [], []), NAMES)


def grid_case(tmp_path, sizes=((640, 480), (50, 80), (200, 100))):
    records, answers = [], []
    for i, (width, height) in enumerate(sizes):
        path = tmp_path / f"{i}.png"
        Image.fromarray(gray(width, height)).save(path)
        box = [width // 4, height // 4, width // 2, height // 2]
        records.append(record([box], [1], width=width, height=height, path=str(path)))
        answers.append(detections_of([box, box], [0.9, 0.1], [2, 0]))
    return detection_data(records, NAMES), answers


def test_the_grid_shows_predictions_beside_the_ground_truth(tmp_path):
    data, answers = grid_case(tmp_path)
    path = tmp_path / "out" / "grid.png"
    save_detection_grid(data, answers, path)
    with Image.open(path) as image:
        found_pixels, labeled = mask_of(image, class_color(2)), mask_of(image, class_color(1))
        assert not mask_of(image, class_color(0)).any(), "the score of 0.1 is not shown"
    assert found_pixels.sum() > 500 and labeled.sum() > 500
    first_tile = slice(0, 330)
    assert extent(found_pixels[first_tile, :400])[2] <= extent(labeled[first_tile, 400:800])[0] + 400


def test_an_unreadable_image_is_omitted_from_the_grid_with_a_warning(tmp_path, caplog):
    data, answers = grid_case(tmp_path)
    (tmp_path / "1.png").write_bytes(b"no image")
    save_detection_grid(data, answers, tmp_path / "grid.png")
    assert "1.png" in caplog.text
    for i in (0, 2):
        (tmp_path / f"{i}.png").unlink()
    with pytest.raises(DataError, match="none that can be read"):
        save_detection_grid(data, answers, tmp_path / "grid.png")
    with pytest.raises(DataError, match="one Detections per image"):
        save_detection_grid(data, answers[:1], tmp_path / "grid.png")
    with pytest.raises(DataError, match="at least one image"):
        draw_detection_grid([], [], [], NAMES)
