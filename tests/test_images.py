"""The image reader: orientation, color modes, size limits and damage."""

import io
import os

import numpy as np
import pytest
import tensorflow as tf
from data_trees import save_image
from PIL import Image, ImageOps

from keras_lightdet.errors import DataError
from keras_lightdet.images import (
    for_each_image,
    read_header,
    read_image,
    read_size,
    resample,
    resize_image,
    to_pixels,
)


def quarters(width=40, height=24) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = (250, 10, 10)
    image[: height // 2, width // 2 :] = (10, 250, 10)
    image[height // 2 :, : width // 2] = (10, 10, 250)
    return image


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_orientation_is_applied_as_pillow_does(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned{suffix}"
    Image.fromarray(quarters()).save(path, exif=exif)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    image = read_image(path)
    np.testing.assert_array_equal(image, expected)
    assert read_size(path) == (image.shape[1], image.shape[0])
    assert read_header(path).orientation == orientation
    with Image.open(path) as image:
        np.testing.assert_array_equal(to_pixels(image), expected)


def test_an_image_may_be_a_path_a_pillow_image_or_an_array(tmp_path):
    pixels = quarters()
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    for image in (path, str(path), Image.fromarray(pixels), pixels, pixels + np.float32(0.4), tf.constant(pixels)):
        result = for_each_image(image, lambda rgb: rgb)
        assert result.dtype == np.uint8
        np.testing.assert_array_equal(result, pixels)
    sizes = for_each_image([path, pixels[:8], Image.new("L", (5, 7))], lambda rgb: rgb.shape)
    assert sizes == [(24, 40, 3), (8, 40, 3), (7, 5, 3)]
    assert for_each_image(np.stack([pixels] * 2), np.shape) == [pixels.shape] * 2


@pytest.mark.parametrize(
    ("image", "cure"),
    [
        (np.zeros((8, 8), np.uint8), "RGB"),
        (np.zeros((8, 8, 4), np.uint8), "RGB"),
        (np.zeros((0, 8, 3), np.uint8), "RGB"),
        ([[1, 2, 3]], "RGB"),
        (np.full((8, 8, 3), 256), "0..255"),
        (np.full((8, 8, 3), -1.0), "0..255"),
        (np.full((8, 8, 3), np.nan), "0..255"),
        (np.full((8, 8, 3), 0.7), "Multiply it by 255"),
        (np.full((8, 8, 3), "a"), "as numbers"),
    ],
)
def test_an_invalid_array_is_an_error_with_its_cure(image, cure):
    with pytest.raises(DataError, match=cure):
        for_each_image(image, np.shape)


def test_damaged_exif_data_are_ignored(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(quarters()).save(path, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff" + b"\x99" * 20)
    with Image.open(path) as image:
        np.testing.assert_array_equal(read_image(path), np.asarray(image))


def test_color_modes_become_rgb(tmp_path):
    gray = np.arange(0, 240, 10, dtype=np.uint8)[None].repeat(8, 0)
    Image.fromarray(gray).save(tmp_path / "l.png")
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / "i16.png")
    Image.fromarray(quarters()).quantize(4).save(tmp_path / "p.png")
    Image.fromarray(quarters()).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    Image.fromarray(quarters()).save(tmp_path / "a.bmp")
    expected = gray[..., None].repeat(3, -1)
    np.testing.assert_array_equal(read_image(tmp_path / "l.png"), expected)
    np.testing.assert_array_equal(read_image(tmp_path / "i16.png"), expected)
    np.testing.assert_array_equal(read_image(tmp_path / "a.bmp"), quarters())
    assert np.abs(read_image(tmp_path / "cmyk.jpg")[3, 3].astype(int) - (250, 10, 10)).max() < 30
    assert np.abs(read_image(tmp_path / "p.png")[3, 3].astype(int) - (250, 10, 10)).max() < 30


def test_transparent_pixels_are_white(tmp_path):
    rgba = np.zeros((6, 8, 4), np.uint8)
    rgba[:, 4:] = (200, 30, 40, 255)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert (image[:, :4] == 255).all() and (image[:, 4:] == (200, 30, 40)).all()


def test_pixels_equal_those_of_tensorflow(tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (33, 47, 3), dtype=np.uint8)).save(tmp_path / "a.jpg")
    expected = tf.io.decode_jpeg(tf.io.read_file(str(tmp_path / "a.jpg")), dct_method="INTEGER_ACCURATE")
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), expected)


def damaged_files(folder):
    """Names and contents of invalid image files."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    jpeg = buffer.getvalue()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    png = buffer.getvalue()
    broken = bytearray(png)
    broken[len(png) // 2] ^= 0xFF
    gif = io.BytesIO()
    Image.new("RGB", (8, 8)).save(gif, "GIF")
    return {
        "empty.jpg": b"",
        "text.jpg": b"not an image",
        "half.jpg": jpeg[: len(jpeg) // 2],
        "head.jpg": jpeg[:100],
        "half.png": png[: len(png) // 2],
        "flipped.png": bytes(broken),
        "signature.png": png[:8],
        "gif.jpg": gif.getvalue(),
        "script.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    }


@pytest.mark.parametrize("name", damaged_files(None))
def test_a_damaged_file_is_an_error_with_its_name_and_cure(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(damaged_files(None)[name])
    with pytest.raises(DataError, match=f"{name}.*Save it again"):
        read_image(path)


def test_missing_files_folders_and_pipes_are_errors(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path / "absent.jpg", tmp_path, tmp_path / "pipe.jpg", "nul\0.jpg"):
        with pytest.raises(DataError, match="Correct the path"):
            read_image(path)


def test_a_large_image_is_refused_before_decoding(tmp_path):
    path = save_image(tmp_path / "a.png", size=(300, 200))
    read_image(path, max_pixels=60_000)
    with pytest.raises(DataError, match="at most 59999 pixels, got 300 x 200"):
        read_image(path, max_pixels=59_999)


def bilinear(image, rows, columns):
    """Float64 pixels at fractional rows and columns, interpolated between their neighbors."""
    top, left = rows.astype(int), columns.astype(int)
    below, right = np.minimum(top + 1, len(image) - 1), np.minimum(left + 1, image.shape[1] - 1)
    down, across = (rows - top)[:, None, None], (columns - left)[None, :, None]
    upper = image[top][:, left] * (1 - across) + image[top][:, right] * across
    lower = image[below][:, left] * (1 - across) + image[below][:, right] * across
    return upper * (1 - down) + lower * down


def test_resize_samples_at_the_scaled_position():
    """Pixel x of the result is sampled at x * scale of the image, in evaluation rounded to 1/32 pixel."""
    image = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    rows, columns = np.arange(17) * 30 / 17, np.arange(64) * 50 / 64
    np.testing.assert_allclose(resample(image[None], (17, 64))[0], bilinear(image, rows, columns), atol=1e-3)
    fixed = bilinear(image, np.round(rows * 32) / 32, np.round(columns * 32) / 32)
    np.testing.assert_array_equal(resize_image(image, (17, 64)), np.floor(fixed + 0.5))
    np.testing.assert_array_equal(resize_image(image, (60, 100))[::2, ::2], image)
    np.testing.assert_array_equal(resize_image(image, (30, 50)), image)
