"""Batches of images and labels: both are augmented together, and a batch is a function of (seed, step)."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_lightdet.data import DecodeFailures, SegmentationAugmentSpec, load_segmentation, segmentation_train_batches
from keras_lightdet.data.segmentation.batches import cut_window
from keras_lightdet.images import resize_image
from keras_lightdet.labels import IGNORE

GRAYS = np.uint8([0, 120, 240])  # of the classes
NO_CHANGE = SegmentationAugmentSpec(flip=0.0, scales=(1.0, 1.0), color=0.0)


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    """Images with the gray level of their labels, in random blocks; the fourth label image is damaged."""
    root, random = tmp_path_factory.mktemp("painted"), np.random.default_rng(0)
    for folder in ("train", "trainannot"):
        (root / folder).mkdir()
    for number in range(4):
        labels = np.kron(random.integers(0, 3, (4, 5)), np.ones((16, 16))).astype(np.uint8)
        Image.fromarray(labels).save(root / "trainannot" / f"{number}.png")
        Image.fromarray(np.repeat(GRAYS[labels][..., None], 3, -1)).save(root / "train" / f"{number}.png")
    (root / "labels.txt").write_text("dark\nmiddle\nlight\n")
    data = load_segmentation(root, "train")
    content = (root / "trainannot" / "3.png").read_bytes()
    (root / "trainannot" / "3.png").write_bytes(content[: len(content) // 2])
    return data


def take(data, steps=3, **options):
    options = {"seed": 5, "augment": NO_CHANGE, **options}
    return list(segmentation_train_batches(data, (64, 80), 2, **options).take(steps).as_numpy_iterator())


@pytest.mark.parametrize("scales", [(1.5, 1.5), (0.6, 0.6), (0.5, 2.0)])
@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_pixels_keep_their_labels(painted, scales, flip):
    spec = SegmentationAugmentSpec(flip=flip, scales=scales, color=0.0)
    for images, targets in take(painted, augment=spec):
        labels = targets["labels"]
        assert set(np.unique(labels)) <= {0, 1, 2, IGNORE}
        inside = labels != IGNORE
        wanted = GRAYS[np.where(inside, labels, 0)].astype(int)
        wrong = np.abs(images[..., 0] - wanted)[inside] > 60  # half the difference between two classes
        assert wrong.mean() < 0.02  # pixels at the borders of blocks, where only colors are interpolated
        assert np.all(images[~inside] == 114)


def test_only_small_scales_leave_a_margin(painted):
    shares = []
    for scale in (0.5, 1.0, 2.0):
        spec = SegmentationAugmentSpec(flip=0.0, scales=(scale, scale), color=0.0)
        shares.append(np.mean([targets["labels"] == IGNORE for _, targets in take(painted, augment=spec)]))
    assert shares == pytest.approx([0.75, 0.0, 0.0], abs=0.02)


def test_flipped_images_have_flipped_labels(painted):
    plain, mirrored = take(painted), take(painted, augment=SegmentationAugmentSpec(1.0, (1.0, 1.0), 0.0))
    for (images, targets), (other_images, other_targets) in zip(plain, mirrored, strict=True):
        np.testing.assert_array_equal(images[:, :, ::-1], other_images)
        np.testing.assert_array_equal(targets["labels"][:, :, ::-1], other_targets["labels"])


def test_color_changes_keep_the_labels(painted):
    plain, colored = take(painted), take(painted, augment=SegmentationAugmentSpec(0.0, (1.0, 1.0), 1.0))
    for (images, targets), (other_images, other_targets) in zip(plain, colored, strict=True):
        assert np.any(images != other_images)
        np.testing.assert_array_equal(targets["labels"], other_targets["labels"])


def test_crops_keep_the_scale_of_the_image(painted):
    for images, targets in take(painted, crop_size=(32, 48), augment=None):
        assert images.shape == (2, 32, 48, 3)
        for image, labels, source in zip(images, targets["labels"], targets["sources"], strict=True):
            whole = painted.read_labels(source[0])
            windows = np.lib.stride_tricks.sliding_window_view(whole, (32, 48)).reshape(-1, 32, 48)
            assert (windows == labels).mean(axis=(1, 2)).max() > 0.97
            assert (image[..., 0] == GRAYS[labels]).mean() > 0.9


def test_images_are_downsampled_as_for_inference():
    """In random noise a shift of half a pixel is visible; training and `resize_image` differ by up to 1/64 pixel."""
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3)).astype(np.uint8)
    whole = tf.constant([0.0, 0.0, 1.0, 1.0])
    pixels, _ = cut_window(tf.constant(image), tf.zeros((60, 90), tf.uint8), whole, (32, 50))
    np.testing.assert_allclose(pixels, resize_image(image, (32, 50)), rtol=0, atol=255 / 64 * 2 + 0.5)
    # The lower right quarter equals that quarter, resized alone.
    quarter, _ = cut_window(tf.constant(image), tf.zeros((60, 90), tf.uint8), tf.constant([0.5, 0.5, 1, 1]), (16, 25))
    seen = resize_image(image[30:, 45:], (16, 25))
    np.testing.assert_allclose(quarter, seen, rtol=0, atol=255 / 64 * 2 + 0.5)


def test_an_upsampled_window_uses_half_pixel_centers():
    image = tf.constant(np.uint8([[[0] * 3, [100] * 3], [[50] * 3, [150] * 3]]))
    labels = tf.constant(np.uint8([[0, 1], [2, 3]]))
    pixels, cut = cut_window(image, labels, tf.constant([0.0, 0.0, 1.0, 1.0]), (4, 4))
    # The centers at 1/8, 3/8, 5/8, 7/8 of the image are a quarter of a pixel from those at 1/4 and 3/4.
    np.testing.assert_allclose(pixels[0, :, 0], [0, 25, 75, 100])
    np.testing.assert_allclose(pixels[:, 0, 0], [0, 12.5, 37.5, 50])
    np.testing.assert_array_equal(cut, np.kron(labels, np.ones((2, 2))))


def test_batches_depend_on_their_step(painted):
    spec = SegmentationAugmentSpec()
    whole, later = take(painted, 5, augment=spec), take(painted, 2, augment=spec, start_step=3)
    for (images, targets), (other_images, other_targets) in zip(whole[3:], later, strict=True):
        np.testing.assert_array_equal(images, other_images)
        for key, values in targets.items():
            np.testing.assert_array_equal(values, other_targets[key])


def test_damaged_labels_are_reported_and_replaced(painted):
    failures = DecodeFailures()
    batches = take(painted, 4, failures=failures)
    assert {path.rpartition("/")[2] for path in failures.paths} == {"3.png"}
    assert {int(source) for _, targets in batches for source in targets["sources"].ravel()} == {0, 1, 2}
    with pytest.raises(tf.errors.OpError, match="trainannot.3.png"):
        take(painted, 4, strict=True)


@pytest.mark.parametrize(("options", "message"), [({"flip": 2.0}, "flip"), ({"scales": (2.0, 1.0)}, "scales")])
def test_settings_out_of_range_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        SegmentationAugmentSpec(**options)
