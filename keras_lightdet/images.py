"""Reads images safely: one reader for training, evaluation, `detect` and export, so all see the same pixels."""

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_lightdet.errors import DataError

# What people hand in as an image: a path, a Pillow image, or RGB pixels [height, width, 3] of 0..255.
ImageInput = str | os.PathLike | Image.Image | np.ndarray
Result = TypeVar("Result")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
MAX_PIXELS = 64e6
CENTER_CROP = 0.875  # side of the square that classifiers are evaluated on over the shorter side: 224 of 256
_FIXED_POINT = 32  # steps a pixel
_ORIENTATION_TAG = 0x0112
_TURNS = {
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
    """What an image's header says, before any pixel is decoded.

    Attributes:
        width: Pixels as stored.
        height: Pixels as stored.
        orientation: EXIF orientation, 1..8; 5 to 8 swap width and height for display.
    """

    width: int
    height: int
    orientation: int

    @property
    def displayed_size(self) -> tuple[int, int]:
        """`(width, height)` after the orientation is applied."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def read_image(path: str | os.PathLike, *, max_pixels: float = MAX_PIXELS) -> np.ndarray:
    """Reads a JPEG, PNG, WebP or BMP file as RGB, turned upright by its EXIF orientation.

    Gray, palette, CMYK and 16-bit images become 8-bit RGB; transparent pixels are laid on white. The size in the
    header is checked before anything is decoded.

    Args:
        path: The file.
        max_pixels: Largest width times height that is decoded.

    Returns:
        Uint8 `[height, width, 3]`, 0..255.

    Raises:
        DataError: The file is missing, damaged, truncated, of another format, or larger than `max_pixels`.
    """
    path = os.fspath(path)
    image, header = _open(path, max_pixels)
    with image:
        try:
            image.load()
            return _upright_rgb(image, header.orientation)
        except Exception as error:  # Pillow's plug-ins raise any type on a damaged file.
            raise _unreadable(path, error) from error


def for_each_image(
    images: ImageInput | Sequence[ImageInput], function: Callable[[np.ndarray], Result]
) -> Result | list[Result]:
    """Applies `function` to the pixels of an image, or of each in a list: one by one, as images differ in size.

    Returns:
        The answer for an image, a list of answers for a list of images or an array `[B, H, W, 3]`.

    Raises:
        DataError: See `to_pixels`.
    """
    # What has fewer axes than a batch is one image, if a wrong one; a list has none.
    if isinstance(images, str | os.PathLike | Image.Image) or getattr(images, "ndim", 4) < 4:
        return function(to_pixels(images))
    return [function(to_pixels(image)) for image in images]


def to_pixels(picture: ImageInput) -> np.ndarray:
    """Returns an image as uint8 `[height, width, 3]`, 0..255 RGB, upright where a file or Pillow knows its turn.

    Args:
        image: A path, a Pillow image, or an array `[height, width, 3]` of 0..255 of any type, rounded to whole
            numbers.

    Raises:
        DataError: See `read_image`; or an array has another shape, or other values than 0..255: also one of
            fractions up to 1, which would be taken for black.
    """
    if isinstance(picture, str | os.PathLike):
        return read_image(picture)
    if isinstance(picture, Image.Image):
        return _upright_rgb(picture, _orientation(picture))
    pixels = np.asarray(picture)
    fault = _fault_of_pixels(pixels)
    if fault:
        raise DataError(
            f"Expected an image as [height, width, 3] of 0..255 RGB, got {pixels.dtype} {list(pixels.shape)}{fault}"
        )
    return pixels if pixels.dtype == np.uint8 else np.floor(pixels + 0.5).astype(np.uint8)


def _fault_of_pixels(pixels: np.ndarray) -> str | None:
    """What is wrong with an array, and the cure."""
    if pixels.ndim != 3 or pixels.shape[-1] != 3 or not pixels.size:
        return ". Convert it to RGB."
    if pixels.dtype == np.uint8:
        return None
    if not (np.issubdtype(pixels.dtype, np.integer) or np.issubdtype(pixels.dtype, np.floating)):
        return ". Give it as numbers."
    least, greatest = pixels.min(), pixels.max()
    if not (least >= 0 and greatest <= 255):  # not the other way round: NaN is no color
        return f" from {least} to {greatest}. Bring it to 0..255."
    if np.issubdtype(pixels.dtype, np.floating) and 0 < greatest <= 1:
        return f" of at most {greatest}. Multiply it by 255."
    return None


def read_label_pixels(path: str | os.PathLike, *, colors: bool, max_pixels: float = MAX_PIXELS) -> np.ndarray:
    """Reads a label image as it is stored: palette indices and gray values stay what they are.

    Args:
        path: The file.
        colors: Whether colors stand for classes; a palette is then looked up.
        max_pixels: Largest width times height that is decoded.

    Returns:
        Integers `[height, width]`, or uint8 `[height, width, 3]` for colors.

    Raises:
        DataError: As `read_image`, or an image in colors where values are expected.
    """
    path = os.fspath(path)
    image, _ = _open(path, max_pixels)
    with image:
        try:
            pixels = np.asarray(image.convert("RGB") if colors else image)
        except Exception as error:  # Pillow's plug-ins raise any type on a damaged file.
            raise _unreadable(path, error) from error
    if not colors and pixels.ndim != 2:
        raise DataError(
            f"Expected {path!r} to have one value a pixel, got mode {image.mode}. List the classes' colors instead, "
            "or save it as a gray or palette image."
        )
    return pixels


def read_header(path: str | os.PathLike, *, max_pixels: float = MAX_PIXELS) -> ImageHeader:
    """Reads an image's stored size and orientation without decoding it.

    Raises:
        DataError: As `read_image`, as far as the header tells.
    """
    image, header = _open(os.fspath(path), max_pixels)
    image.close()
    return header


def read_size(path: str | os.PathLike) -> tuple[int, int]:
    """Returns `(width, height)` in pixels as `read_image` will give them, without decoding.

    Raises:
        DataError: As `read_image`, as far as the header tells.
    """
    return read_header(path).displayed_size


def stretch(image: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Stretches `[height, width, 3]` to float32 `[H, W, 3]` as MediaPipe does on a CPU, to the bit when rounded.

    Bilinear without antialias; pixel x of the result is taken at x * (width / W) of the image, rounded to 1/32 pixel
    as OpenCV's fixed point has it. (A place half-way between two such steps may fall to either side there.) Half-pixel
    centers, which are Keras' and TensorFlow's default, blur where MediaPipe does not: at half the size three of four
    detections of one file then lay more than two pixels off those on the phone.
    """
    height, width = tf.unstack(tf.shape(image)[:2])
    above, below, down = _places(height, size[0])
    left, right, across = _places(width, size[1])
    rows = _mix(tf.gather(image, above), tf.gather(image, below), down[:, None, None])
    return _mix(tf.gather(rows, left, axis=1), tf.gather(rows, right, axis=1), across[:, None])


def _places(count: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns, for each of `size` pixels, its two neighbors among `count` and the share of the second."""
    scale = _FIXED_POINT * tf.cast(count, tf.float64) / tf.cast(size, tf.float64)
    place = tf.cast(tf.round(tf.range(size, dtype=tf.float64) * scale), tf.int32)
    first = place // _FIXED_POINT
    return first, tf.minimum(first + 1, count - 1), tf.cast(place % _FIXED_POINT, tf.float32) / _FIXED_POINT


def _mix(first: tf.Tensor, second: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    first = tf.cast(first, tf.float32)
    return first + (tf.cast(second, tf.float32) - first) * share


def resample(images: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Resizes `[B, height, width, 3]` to float32 `[B, *size, 3]` by the sampling of `stretch`, not rounded to 1/32.

    It takes a quarter of the time, which training has more use for than a sixty-fourth of a pixel.
    """
    return tf.raw_ops.ResizeBilinear(images=images, size=size, align_corners=False, half_pixel_centers=False)


def to_uint8(image: tf.Tensor) -> tf.Tensor:
    """Rounds a float image of any shape to 0..255 uint8, halves up."""
    # One pass over the pixels for clipping, rounding and casting.
    quantized = tf.raw_ops.QuantizeV2(input=image, min_range=0.0, max_range=255.0, T=tf.quint8)
    return tf.bitcast(quantized.output, tf.uint8)


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Stretches an image to the network input as evaluation and MediaPipe do, see `stretch`.

    Args:
        image: Uint8 `[height, width, 3]`.
        size: `(height, width)` in pixels.

    Returns:
        Uint8 `[*size, 3]`.
    """
    return to_uint8(stretch(tf.convert_to_tensor(image), size)).numpy()


def center_crop(image: tf.Tensor | np.ndarray, size: tuple[int, int]) -> tf.Tensor:
    """Cuts out the central square and resizes it with antialiasing, as classifiers are evaluated.

    Args:
        image: `[height, width, 3]`.
        size: `(height, width)` in pixels.

    Returns:
        Float32 `[*size, 3]`.
    """
    height, width = tf.unstack(tf.shape(image)[:2])
    side = tf.maximum(tf.cast(CENTER_CROP * tf.cast(tf.minimum(height, width), tf.float32), tf.int32), 1)
    image = tf.image.crop_to_bounding_box(image, (height - side) // 2, (width - side) // 2, side, side)
    return tf.image.resize(image, size, antialias=True)


def _open(path: str, max_pixels: float) -> tuple[Image.Image, ImageHeader]:
    """Opens without decoding; checks file type and size."""
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
    except Exception as error:  # Pillow's plug-ins raise any type on a damaged file.
        raise _unreadable(path, error) from error
    width, height = image.size
    if width * height > max_pixels:
        image.close()
        raise _too_large(path, f"{width} x {height} pixels", max_pixels)
    return image, ImageHeader(width, height, _orientation(image))


def _orientation(image: Image.Image) -> int:
    """EXIF orientation from what was read before the pixels; damaged EXIF counts as upright."""
    try:
        # The PNG class's own getexif decodes the whole image first.
        orientation = Image.Image.getexif(image).get(_ORIENTATION_TAG, 1)
    except Exception:  # Damaged EXIF raises any type and must not cost a sound image.
        return 1
    return orientation if orientation in _TURNS else 1


def _upright_rgb(image: Image.Image, orientation: int) -> np.ndarray:
    """Pixels, uint8 `[height, width, 3]`, turned by an EXIF orientation."""
    if orientation in _TURNS:
        image = image.transpose(_TURNS[orientation])
    return np.ascontiguousarray(_as_rgb(image))


def _as_rgb(image: Image.Image) -> np.ndarray:
    if image.mode == "RGB":
        return np.asarray(image)
    if image.mode.startswith("I"):  # 16-bit gray, which convert() would clip at 255
        gray = np.asarray(image).astype(np.int64) >> 8
        return np.repeat(np.clip(gray, 0, 255).astype(np.uint8)[..., None], 3, axis=-1)
    if image.has_transparency_data:
        above = image.convert("RGBA")
        return np.asarray(Image.alpha_composite(Image.new("RGBA", above.size, "white"), above).convert("RGB"))
    return np.asarray(image.convert("RGB"))


def _too_large(path: str, found: str, max_pixels: float) -> DataError:
    return DataError(
        f"Expected {path!r} to have at most {max_pixels:.0f} pixels, got {found}. Scale the image down or remove it."
    )


def _unreadable(path: str, error: Exception) -> DataError:
    reason = f"{type(error).__name__}: {error}"[:200]
    return DataError(
        f"Expected {path!r} to be a whole JPEG, PNG, WebP or BMP image, got {reason}. "
        "Save it again in one of these formats or remove it."
    )
