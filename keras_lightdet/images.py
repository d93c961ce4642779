"""Reads and resizes images: one reader for training, evaluation, `detect` and export, so all use the same pixels."""

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar, cast

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_lightdet.errors import DataError
from keras_lightdet.files import StrPath
from keras_lightdet.types import Size

# An image from the user: a path, a Pillow image, or RGB pixels [height, width, 3] in 0..255.
ImageInput: TypeAlias = StrPath | Image.Image | np.ndarray
Result = TypeVar("Result")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
MAX_PIXELS = 64_000_000  # width times height
CENTER_CROP = 0.875  # side of the central square that classifiers take over the shorter side of the image: 224 of 256
_SUBPIXELS = 32  # OpenCV's fixed-point resolution: positions per pixel
_ORIENTATION_TAG = 0x0112
_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class ImageHeader:
    """The header of an image file, read without decoding any pixel; the size is as stored, in pixels."""

    width: int
    height: int
    orientation: int  # of EXIF, 1..8; 5 to 8 swap width and height for display

    @property
    def displayed_size(self) -> tuple[int, int]:
        """`(width, height)` after the orientation is applied."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def read_image(path: StrPath, *, max_pixels: float = MAX_PIXELS) -> np.ndarray:
    """Reads a JPEG, PNG, WebP or BMP file as RGB, with the EXIF orientation applied.

    Grayscale, palette, CMYK and 16-bit images become 8-bit RGB; transparent pixels are blended with white. The size in
    the header is checked before any pixel is decoded.

    Returns:
        Uint8 `[height, width, 3]`, 0..255.

    Raises:
        DataError: The file is missing, damaged, truncated, of another format, or has more than `max_pixels`.
    """
    path = os.path.expanduser(path)
    image, header = _open(path, max_pixels)
    with image:
        try:
            image.load()
            return _upright_rgb(image, header.orientation)
        except Exception as error:  # Pillow's plug-ins raise any exception type on a damaged file.
            raise _unreadable(path, error) from error


def for_each_image(
    images: ImageInput | Sequence[ImageInput], function: Callable[[np.ndarray], Result]
) -> Result | list[Result]:
    """Applies `function` to the pixels of one image, or of each image in turn, as images differ in size.

    Returns:
        One result for an image; a list of results for a list of images or an array `[B, H, W, 3]`.

    Raises:
        DataError: See `to_pixels`.
    """
    # An array with fewer axes than a batch is one image, valid or not; a list has no `ndim`.
    if isinstance(images, str | os.PathLike | Image.Image) or getattr(images, "ndim", 4) < 4:
        return function(to_pixels(cast(ImageInput, images)))
    return [function(to_pixels(image)) for image in images]


def to_pixels(image: ImageInput) -> np.ndarray:
    """Returns an image as uint8 RGB `[height, width, 3]` in 0..255, with the EXIF orientation of a file applied.

    Args:
        image: A path, a Pillow image, or an array `[height, width, 3]` in 0..255 of any number type; it is rounded.

    Raises:
        DataError: See `read_image`; or an array has another shape or values outside 0..255. Floats of at most 1 are
            refused too: they were most likely scaled to 0..1 and would be read as black.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(image)
    if isinstance(image, Image.Image):
        return _upright_rgb(image, _orientation(image))
    pixels = np.asarray(image)
    fault = _pixel_fault(pixels)
    if fault:
        raise DataError(
            f"Expected an image as [height, width, 3] of 0..255 RGB, got {pixels.dtype} {list(pixels.shape)}{fault}"
        )
    return pixels if pixels.dtype == np.uint8 else np.floor(pixels + 0.5).astype(np.uint8)


def _pixel_fault(pixels: np.ndarray) -> str | None:
    """Returns what is wrong with an array of pixels, and the cure; None for a valid one."""
    if pixels.ndim != 3 or pixels.shape[-1] != 3 or not pixels.size:
        return ". Convert it to RGB."
    if pixels.dtype == np.uint8:
        return None
    if not (np.issubdtype(pixels.dtype, np.integer) or np.issubdtype(pixels.dtype, np.floating)):
        return ". Pass the pixels as numbers."
    least, greatest = pixels.min(), pixels.max()
    if not (least >= 0 and greatest <= 255):  # written so that NaN fails too
        return f" from {least} to {greatest}. Scale it to 0..255."
    if np.issubdtype(pixels.dtype, np.floating) and 0 < greatest <= 1:
        return f" of at most {greatest}. Multiply it by 255."
    return None


def read_label_pixels(path: StrPath, *, colors: bool) -> np.ndarray:
    """Reads a label image: palette indices and gray values as stored, or colors where these encode the classes.

    Returns:
        Integers `[height, width]`, or uint8 `[height, width, 3]` for colors.

    Raises:
        DataError: See `read_image`; or the image has colors where values are expected.
    """
    path = os.path.expanduser(path)
    image, _ = _open(path)
    with image:
        try:
            pixels = np.asarray(image.convert("RGB") if colors else image)
        except Exception as error:  # Pillow's plug-ins raise any exception type on a damaged file.
            raise _unreadable(path, error) from error
    if not colors and pixels.ndim != 2:
        raise DataError(
            f"Expected {path!r} to have one value per pixel, got mode {image.mode}. List the colors of the classes, "
            "or save it as a grayscale or palette image."
        )
    return pixels


def read_header(path: StrPath) -> ImageHeader:
    """Reads an image's stored size and orientation without decoding it.

    Raises:
        DataError: See `read_image`; faults behind the header are not detected.
    """
    image, header = _open(os.path.expanduser(path))
    image.close()
    return header


def read_size(path: StrPath) -> tuple[int, int]:
    """Returns the `(width, height)` of `read_image`'s result, without decoding.

    Raises:
        DataError: See `read_header`.
    """
    return read_header(path).displayed_size


def stretch(image: tf.Tensor, size: Size) -> tf.Tensor:
    """Resizes `[height, width, 3]` to float32 `[H, W, 3]`; rounded, it equals MediaPipe's CPU resize bit for bit.

    The aspect ratio is not kept. Bilinear without antialiasing; pixel x of the result is sampled at x * (width / W) of
    the image, rounded to 1/32 pixel as in OpenCV's fixed-point arithmetic (a position halfway between two steps may be
    rounded to either there). The half-pixel centers of Keras and TensorFlow give other pixels than MediaPipe: at half
    the size they moved three of four detections of a model file by more than two pixels.
    """
    height, width = tf.unstack(tf.shape(image)[:2])
    above, below, down = _sample_positions(height, size[0])
    left, right, across = _sample_positions(width, size[1])
    rows = _interpolate(tf.gather(image, above), tf.gather(image, below), down[:, None, None])
    return _interpolate(tf.gather(rows, left, axis=1), tf.gather(rows, right, axis=1), across[:, None])


def _sample_positions(count: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns for each of `size` result pixels its two neighbors among `count` and the weight of the second."""
    scale = _SUBPIXELS * tf.cast(count, tf.float64) / tf.cast(size, tf.float64)
    position = tf.cast(tf.round(tf.range(size, dtype=tf.float64) * scale), tf.int32)
    first = position // _SUBPIXELS
    return first, tf.minimum(first + 1, count - 1), tf.cast(position % _SUBPIXELS, tf.float32) / _SUBPIXELS


def _interpolate(first: tf.Tensor, second: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    first = tf.cast(first, tf.float32)
    return first + (tf.cast(second, tf.float32) - first) * weight


def resample(images: tf.Tensor, size: Size | tf.Tensor) -> tf.Tensor:
    """Resizes `[B, height, width, 3]` to float32 `[B, *size, 3]` as `stretch`, without rounding to 1/32 pixel.

    It takes a quarter of the time; training does not need the exact pixels.
    """
    return tf.raw_ops.ResizeBilinear(images=images, size=size, align_corners=False, half_pixel_centers=False)


def to_uint8(image: tf.Tensor) -> tf.Tensor:
    """Rounds a float image of any shape to uint8 in 0..255, halves up."""
    # QuantizeV2 clips, rounds and casts in one pass over the pixels.
    quantized = tf.raw_ops.QuantizeV2(input=image, min_range=0.0, max_range=255.0, T=tf.quint8)
    return tf.bitcast(quantized.output, tf.uint8)


def resize_image(image: np.ndarray, size: Size) -> np.ndarray:
    """Resizes uint8 `[height, width, 3]` to uint8 `[*size, 3]` as evaluation and MediaPipe do, see `stretch`."""
    return to_uint8(stretch(tf.convert_to_tensor(image), size)).numpy()


def center_crop(image: tf.Tensor | np.ndarray, size: Size) -> tf.Tensor:
    """Crops the central square of `[height, width, 3]` and resizes it, antialiased, to float32 `[*size, 3]`."""
    height, width = tf.unstack(tf.shape(image)[:2])
    side = tf.maximum(tf.cast(CENTER_CROP * tf.cast(tf.minimum(height, width), tf.float32), tf.int32), 1)
    image = tf.image.crop_to_bounding_box(image, (height - side) // 2, (width - side) // 2, side, side)
    return tf.image.resize(image, size, antialias=True)


def _open(path: str, max_pixels: float = MAX_PIXELS) -> tuple[Image.Image, ImageHeader]:
    """Opens a file without decoding it; checks the file type and the image size."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        raise DataError(f"Expected an image at {path!r}, found none. Correct the path or restore the file.") from error
    if not stat.S_ISREG(mode):
        raise DataError(f"Expected {path!r} to be an image file, got a folder or device. Correct the path.")
    try:
        image = Image.open(path, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path, str(error), max_pixels) from error
    except Exception as error:  # Pillow's plug-ins raise any exception type on a damaged file.
        raise _unreadable(path, error) from error
    width, height = image.size
    if width * height > max_pixels:
        image.close()
        raise _too_large(path, f"{width} x {height} pixels", max_pixels)
    return image, ImageHeader(width, height, _orientation(image))


def _orientation(image: Image.Image) -> int:
    """Returns the EXIF orientation without decoding the image; 1 (upright) where the EXIF data are damaged."""
    try:
        # PngImageFile.getexif would decode the whole image first.
        orientation = Image.Image.getexif(image).get(_ORIENTATION_TAG, 1)
    except Exception:  # Damaged EXIF data raise any type; the image itself may be valid.
        return 1
    return orientation if orientation in _TRANSPOSES else 1


def _upright_rgb(image: Image.Image, orientation: int) -> np.ndarray:
    """Returns the pixels, uint8 `[height, width, 3]`, with an EXIF orientation applied."""
    if orientation in _TRANSPOSES:
        image = image.transpose(_TRANSPOSES[orientation])
    return np.ascontiguousarray(_as_rgb(image))


def _as_rgb(image: Image.Image) -> np.ndarray:
    if image.mode == "RGB":
        return np.asarray(image)
    if image.mode.startswith("I"):  # 16-bit grayscale, which convert() would clip at 255
        gray = np.asarray(image).astype(np.int64) >> 8
        return np.repeat(np.clip(gray, 0, 255).astype(np.uint8)[..., None], 3, axis=-1)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return np.asarray(Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB"))
    return np.asarray(image.convert("RGB"))


def _too_large(path: str, size: str, max_pixels: float) -> DataError:
    return DataError(
        f"Expected {path!r} to have at most {max_pixels:.0f} pixels, got {size}. Scale the image down or remove it."
    )


def _unreadable(path: str, error: Exception) -> DataError:
    reason = f"{type(error).__name__}: {error}"[:200]
    return DataError(
        f"Expected {path!r} to be a whole JPEG, PNG, WebP or BMP image, got {reason}. "
        "Save it again in one of these formats or remove it."
    )
