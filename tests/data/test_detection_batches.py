"""Batches of images and boxes: exact, functions of (seed, step), and robust to damaged files."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from data_trees import paint, painted_box
from PIL import Image
from shared_data import shared_data

from keras_lightdet.data import AugmentSpec
from keras_lightdet.data.detection.batches import eval_batches, steps_per_epoch, train_batches
from keras_lightdet.data.detection.loading import load_data
from keras_lightdet.data.detection.records import DetectionData, ImageRecord
from keras_lightdet.data.issues import DecodeFailures
from keras_lightdet.data.pipeline import shuffled_indices
from keras_lightdet.images import read_image, resize_image

SIZE = (64, 96)
NO_GEOMETRY = {"flip": 0.0, "zoom_out": 0.0, "crop": 0.0, "jitter": 0.0, "mosaic": 0.0}
NO_COLOR = {"color": 0.0}


def painted_data(folder, count=11) -> DetectionData:
    """Writes images of several sizes, each but the last with one bright rectangle.

    At these sizes the pixels of training and evaluation are equal bit for bit, see `images.stretch`.
    """
    records, rng = [], np.random.default_rng(0)
    for number in range(count):
        width, height = 3 * int(rng.integers(20, 47)), 2 * int(rng.integers(30, 70))
        x, y = int(rng.integers(2, width // 2)), int(rng.integers(2, height // 2))
        box = (x, y, x + width // 3, y + height // 3)
        empty = number == count - 1
        path = folder / f"p{number}.png"
        Image.fromarray(paint(height, width, (0, 0, 0, 0) if empty else box)).save(path)
        boxes = np.zeros([0, 4], np.float32) if empty else np.float32([box])
        labels, flags = np.full(len(boxes), number % 3, np.int32), np.zeros(len(boxes), bool)
        records.append(ImageRecord(str(path), number, width, height, boxes, labels, flags, flags.astype(np.float32)))
    return DetectionData(tuple(records), ("a", "b", "c"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return painted_data(tmp_path_factory.mktemp("painted"))


def take(batches, count):
    return [tf.nest.map_structure(lambda tensor: tensor.numpy(), batch) for batch in batches.take(count)]


def assert_same(first, second):
    for a, b in zip(tf.nest.flatten(first), tf.nest.flatten(second), strict=True):
        np.testing.assert_array_equal(a, b)


def test_evaluation_batches_are_in_order_with_the_readers_pixels(data):
    batches = take(eval_batches(data, SIZE, 4), 99)
    assert [len(images) for images, _ in batches] == [4, 4, 3]
    images = np.concatenate([images for images, _ in batches])
    targets = {key: np.concatenate([t[key] for _, t in batches]) for key in batches[0][1]}
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(targets["sources"], [[number, -1, -1, -1] for number in range(11)])
    for number, record in enumerate(data.records):
        np.testing.assert_array_equal(images[number], resize_image(read_image(record.path), SIZE))
        scale = np.float32([SIZE[1] / record.width, SIZE[0] / record.height] * 2)
        valid = targets["labels"][number] >= 0
        np.testing.assert_allclose(targets["boxes"][number][valid], record.boxes * scale, rtol=1e-5)
        np.testing.assert_array_equal(targets["labels"][number][valid], record.labels)


def test_training_batches_without_augmentation_equal_those_of_evaluation(data):
    evaluated, expected = take(eval_batches(data, SIZE, 11), 1)[0]
    for images, targets in take(train_batches(data, SIZE, 4, seed=3, augment=None), 3):
        sources = targets["sources"]
        np.testing.assert_array_equal(images, evaluated[sources[:, 0]])
        assert (sources[:, 1:] == -1).all()
        np.testing.assert_array_equal(targets["labels"], expected["labels"][sources[:, 0]])
        np.testing.assert_allclose(targets["boxes"], expected["boxes"][sources[:, 0]], rtol=1e-6)


def test_without_augmentation_boxes_are_never_ignored(data):
    """A box labeled mostly outside its image is only clipped."""
    outside = np.float32([[-200, 5, 10, 40]])
    records = tuple(
        dataclasses.replace(record, boxes=outside, labels=np.int32([1]), ignore=np.array([False]), areas=np.ones(1))
        for record in data.records
    )
    _, targets = take(train_batches(dataclasses.replace(data, records=records), SIZE, 4, seed=0, augment=None), 1)[0]
    assert (targets["labels"] == 1).any(axis=1).all() and not targets["ignore"].any()


@pytest.mark.parametrize("augment", [AugmentSpec(), AugmentSpec(mosaic=1.0), AugmentSpec(mosaic=0.0)])
def test_augmented_boxes_cover_their_pixels(data, augment):
    augment = dataclasses.replace(augment, **NO_COLOR)
    checked = 0
    for images, targets in take(train_batches(data, SIZE, 8, seed=1, augment=augment), 5):
        for image, boxes, labels in zip(images, targets["boxes"], targets["labels"], strict=True):
            assert (boxes[labels < 0] == 0).all()
            bright = (image.astype(np.float32).mean(-1) > 185).astype(np.uint8)
            covered = np.zeros_like(bright)
            for box in boxes[labels >= 0]:
                x0, y0, x1, y1 = np.round(box).astype(int)
                covered[y0:y1, x0:x1] = 1
                if x1 - x0 > 4 and y1 - y0 > 4:
                    assert bright[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2].mean() > 0.98
                    checked += 1
            grown = tf.nn.max_pool2d(covered[None, ..., None].astype(np.float32), 5, 1, "SAME")[0, ..., 0].numpy()
            # A rectangle with a side below MIN_SIDE has no box, but may be visible as a line of pixels.
            rows, columns = np.nonzero(bright * (1 - grown))
            assert len(rows) <= 4 or np.ptp(rows) == 0 or np.ptp(columns) == 0
    assert checked > 25


def test_a_single_box_matches_its_pixels(data):
    augment = AugmentSpec(**NO_COLOR, mosaic=0.0)
    errors = []
    for images, targets in take(train_batches(data, (160, 160), 8, seed=2, augment=augment), 4):
        for image, boxes, labels in zip(images, targets["boxes"], targets["labels"], strict=True):
            if (labels >= 0).any():
                errors.append(np.abs(painted_box(image) - boxes[labels >= 0][0]).max())
    assert len(errors) > 15 and np.median(errors) <= 1.0 and max(errors) < 4.0


@pytest.mark.parametrize(("batch_size", "step"), [(8, 3), (3, 5), (5, 1), (1, 6)])
def test_resuming_continues_with_the_same_batches(data, batch_size, step):
    augment = AugmentSpec(mosaic=0.5, mosaic_until_step=step + 1, until_step=step + 2)
    options = {"seed": 9, "augment": augment}
    straight = take(train_batches(data, SIZE, batch_size, **options), step + 3)
    resumed = take(train_batches(data, SIZE, batch_size, start_step=step, **options), 3)
    assert_same(straight[step:], resumed)
    other = take(train_batches(data, SIZE, batch_size, seed=10, augment=augment), 1)
    assert not np.array_equal(other[0][0], straight[0][0])


@pytest.mark.parametrize("batch_size", [4, 3, 6])
def test_augmentation_ends_at_its_step(data, batch_size):
    augment = AugmentSpec(mosaic=1.0, color=1.0, mosaic_until_step=2, until_step=4)
    batches = take(train_batches(data, SIZE, batch_size, seed=0, augment=augment), 6)
    for step, (_, targets) in enumerate(batches):
        assert ((targets["sources"][:, 1:] >= 0) == (step < 2)).all()
    evaluated, _ = take(eval_batches(data, SIZE, 11), 1)[0]
    for step, (images, targets) in enumerate(batches):
        painted = targets["labels"][:, 0] >= 0  # the black image stays black when it is darkened
        plain = (images == evaluated[targets["sources"][:, 0]]).all(axis=(1, 2, 3))
        np.testing.assert_array_equal(plain[painted], step >= 4)


@pytest.mark.parametrize("color", [0.0, 0.5, 1.0])
def test_color_is_the_probability_of_a_color_change(data, color):
    evaluated, expected = take(eval_batches(data, SIZE, 11), 1)[0]
    augment = AugmentSpec(**NO_GEOMETRY, color=color)
    plain = []
    for images, targets in take(train_batches(data, SIZE, 8, seed=4, augment=augment), 8):
        sources = targets["sources"][:, 0]
        plain += (images == evaluated[sources]).all(axis=(1, 2, 3)).tolist()
        np.testing.assert_allclose(targets["boxes"], expected["boxes"][sources], rtol=1e-6)
    assert 0.3 < np.mean(plain) < 0.7 if color == 0.5 else np.mean(plain) == 1 - color


def test_sources_are_the_visible_images(tmp_path):
    records, none = [], np.zeros([0], np.float32)
    for number in range(11):
        path = tmp_path / f"s{number}.png"
        Image.fromarray(np.full([20 + number, 40, 3], 20 * number, np.uint8)).save(path)
        records.append(ImageRecord(str(path), number, 40, 20 + number, none.reshape(0, 4), none, none, none))
    data = with_damage(DetectionData(tuple(records), ("a",)), tmp_path, [3])
    augment = AugmentSpec(**{**NO_GEOMETRY, "mosaic": 0.5}, color=0.0)
    mosaics = []
    for images, targets in take(train_batches(data, SIZE, 6, seed=1, augment=augment), 8):
        mosaics += (targets["sources"][:, 1] >= 0).tolist()
        for image, sources in zip(images, targets["sources"], strict=True):
            parts = sources if sources[1] >= 0 else sources[[0, 0, 0, 0]]
            np.testing.assert_array_equal(image[[0, 0, -1, -1], [0, -1, 0, -1], 0], 20 * parts)
            assert 3 not in sources and set(np.unique(image)) == set(20 * parts)
    assert 0.3 < np.mean(mosaics) < 0.7


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100])
def test_each_pass_is_a_different_permutation(count):
    indices = shuffled_indices(tf.range(5 * count, dtype=tf.int64), count, seed=4).numpy().reshape(5, count)
    assert (np.sort(indices) == np.arange(count)).all()
    if count == 100:
        assert len({tuple(order) for order in indices}) == 5
        assert not np.array_equal(indices[0], shuffled_indices(tf.range(100, dtype=tf.int64), count, 5))


@pytest.mark.parametrize("seed", [0, 1])
def test_no_pass_is_close_to_sorted(seed):
    for indices in shuffled_indices(tf.range(600, dtype=tf.int64), 300, seed).numpy().reshape(2, 300):
        assert np.mean(np.abs(np.diff(indices)) < 5) < 0.1  # 0.03 by chance
        assert abs(np.corrcoef(indices, np.arange(300))[0, 1]) < 0.2


@pytest.mark.parametrize("batch_size", [4, 6, 8, 12, 24])  # of groups of 4, 8, 8, 4, 8
def test_a_strategy_of_one_device_gets_the_same_batches(data, batch_size):
    batches = train_batches(data, SIZE, batch_size, seed=3, augment=AugmentSpec())
    distributed = iter(tf.distribute.OneDeviceStrategy("CPU:0").experimental_distribute_dataset(batches))
    for straight in take(batches, 2):
        assert_same(straight, next(distributed))


def test_an_epoch_contains_all_images(data):
    assert steps_per_epoch(data, 4) == 3
    sources = [t["sources"][:, 0] for _, t in take(train_batches(data, SIZE, 4, seed=0, augment=None), 3)]
    assert set(np.concatenate(sources)) == set(range(11))


def test_multi_scale_batches_have_random_sizes_and_scaled_boxes(data):
    options = {"seed": 5, "augment": None}
    sizes = ((32, 48), (64, 96), (48, 48))
    full = take(train_batches(data, SIZE, 4, **options), 45)
    scaled = take(train_batches(data, SIZE, 4, multi_scale=sizes, **options), 45)
    drawn = [images.shape[1:3] for images, _ in scaled]
    assert set(drawn) <= set(sizes) and len(set(drawn)) > 1 and len(set(drawn[:10])) == 1
    for (images, targets), (_, whole) in zip(scaled, full, strict=True):
        scale = np.float32([images.shape[2] / SIZE[1], images.shape[1] / SIZE[0]] * 2)
        np.testing.assert_allclose(targets["boxes"], whole["boxes"] * scale, rtol=1e-5)
    resumed = take(train_batches(data, SIZE, 4, start_step=21, multi_scale=sizes, **options), 3)
    assert_same(scaled[21:24], resumed)


def with_damage(data, folder, broken):
    """Returns the same records with some truncated files."""
    records = list(data.records)
    for number in broken:
        content = Path(records[number].path).read_bytes()
        path = folder / f"cut{number}.png"
        path.write_bytes(content[: len(content) - 40])
        records[number] = dataclasses.replace(records[number], path=str(path))
    return dataclasses.replace(data, records=tuple(records))


def test_a_damaged_file_is_logged_once_counted_and_replaced(data, tmp_path, caplog):
    failures = DecodeFailures()
    damaged = with_damage(data, tmp_path, [3, 4])
    evaluated, expected = take(eval_batches(data, SIZE, 11), 1)[0]
    batches = take(train_batches(damaged, SIZE, 11, seed=0, augment=None, failures=failures), 2)
    for images, targets in batches:
        sources = targets["sources"][:, 0]
        np.testing.assert_array_equal(np.sort(sources), [0, 1, 2, 5, 5, 5, 6, 7, 8, 9, 10])
        np.testing.assert_array_equal(images, evaluated[sources])
        np.testing.assert_allclose(targets["boxes"], expected["boxes"][sources], rtol=1e-6)
    assert sorted(path.rsplit("/")[-1] for path in failures.paths) == ["cut3.png", "cut4.png"]
    assert all("Skipped a damaged image" in message for message in caplog.messages)
    assert sum("cut4.png" in message for message in caplog.messages) == 1


def test_evaluation_replaces_a_damaged_file_by_a_gray_image(data, tmp_path):
    failures = DecodeFailures()
    images, targets = take(eval_batches(with_damage(data, tmp_path, [3]), SIZE, 11, failures=failures), 1)[0]
    assert (images[3] == 114).all() and targets["sources"][3, 0] == 3
    assert len(failures) == 1


def test_strict_batches_fail_at_a_damaged_file(data, tmp_path):
    damaged = with_damage(data, tmp_path, [3])
    for batches in (
        train_batches(damaged, SIZE, 11, seed=0, augment=None, strict=True),
        eval_batches(damaged, SIZE, 11, strict=True),
    ):
        with pytest.raises(tf.errors.OpError, match="DataError.*cut3.png"):
            take(batches, 1)


def test_data_without_a_readable_file_are_an_error(data, tmp_path):
    damaged = with_damage(data, tmp_path, range(11))
    with pytest.raises(tf.errors.OpError, match="Expected readable images"):
        take(train_batches(damaged, SIZE, 4, seed=0, augment=None), 1)


def test_of_too_many_boxes_the_largest_are_kept(data):
    record = data.records[0]
    boxes = np.float32([[0, 0, 1 + n / 10, 30] for n in range(350)])
    crowded = dataclasses.replace(
        record, boxes=boxes, labels=np.arange(350, dtype=np.int32), ignore=np.zeros(350, bool), areas=boxes[:, 2]
    )
    _, targets = take(eval_batches(dataclasses.replace(data, records=(crowded,)), SIZE, 1), 1)[0]
    assert targets["boxes"].shape == (1, 300, 4) and set(targets["labels"][0]) == set(range(50, 350))


def test_bccd_keeps_most_boxes_under_the_default_augmentation():
    data = load_data(shared_data("bccd"), "test")
    _, targets = take(train_batches(data, (160, 160), 16, seed=0, augment=AugmentSpec()), 1)[0]
    counted = (targets["labels"] >= 0) & (targets["ignore"] == 0)
    assert counted.sum() / 16 > 5
    assert (targets["boxes"] >= 0).all() and (targets["boxes"] <= 160).all()


def jpeg_data(folder) -> DetectionData:
    """Writes smooth JPEGs (grayscale, with EXIF orientation, of odd size) and a PNG; sizes as in `painted_data`."""
    rng, records = np.random.default_rng(1), []
    for number, (width, height) in enumerate([(81, 60), (63, 64), (50, 72), (39, 90), (60, 40)]):
        coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((width, height))
        exif = Image.Exif()
        exif[0x0112] = 6 if number == 2 else 1
        path = folder / f"j{number}.{'png' if number == 4 else 'jpg'}"
        (image.convert("L") if number == 1 else image).save(path, exif=exif)
        shown = read_image(path).shape
        none = np.zeros([0], np.float32)
        records.append(ImageRecord(str(path), number, shown[1], shown[0], none.reshape(0, 4), none, none, none))
    return DetectionData(tuple(records), ("a",))


def test_all_passes_have_the_readers_pixels(tmp_path):
    data = jpeg_data(tmp_path)
    expected = [resize_image(read_image(record.path), SIZE) for record in data.records]
    for images, targets in take(train_batches(data, SIZE, 5, seed=0, augment=None), 6):
        for image, source in zip(images, targets["sources"][:, 0], strict=True):
            np.testing.assert_array_equal(image, expected[source])


def test_a_file_damaged_between_two_passes_is_reported_and_replaced(tmp_path):
    data, failures = jpeg_data(tmp_path), DecodeFailures()
    batches = iter(train_batches(data, SIZE, 5, seed=0, augment=None, failures=failures))
    next(batches)
    content = Path(data.records[0].path).read_bytes()
    Path(data.records[0].path).write_bytes(content[: len(content) // 2])
    for _ in range(12):
        _, targets = next(batches)
    assert 0 not in targets["sources"][:, 0] and list(failures.paths) == [data.records[0].path]


def test_python_exits_while_a_pipeline_reads_ahead(tmp_path):
    data = jpeg_data(tmp_path)
    paths = [record.path for record in data.records] * 20
    program = f"""
import numpy as np
from keras_lightdet.data import DetectionData, ImageRecord, train_batches
none = np.zeros([0], np.float32)
records = [ImageRecord(path, 0, 9, 9, none.reshape(0, 4), none, none, none) for path in {paths!r}]
batches = iter(train_batches(DetectionData(records, ("a",)), (64, 64), 4, seed=0, augment=None))
next(batches)
"""
    finished = subprocess.run([sys.executable, "-c", program], timeout=120, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
