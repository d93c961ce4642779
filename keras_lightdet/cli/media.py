"""Image files, folders of images and videos as input of `lightdet detect`."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from keras_lightdet.errors import DataError
from keras_lightdet.images import SUFFIXES

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")
_DEFAULT_FPS = 25.0  # of files that do not record it


@dataclass(frozen=True)
class InputFile:
    """An image or a video.

    Attributes:
        path: The file.
        name: Relative path for output files; without its suffix it is unique among all inputs.
    """

    path: Path
    name: Path


def find_inputs(inputs: Sequence[Path]) -> tuple[list[InputFile], list[InputFile]]:
    """Returns the images, those in folders included, and the videos.

    Raises:
        DataError: A path does not exist, has an unknown suffix, or is a folder without images.
    """
    images, videos = [], []
    names: set[Path] = set()
    for path in inputs:
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
            if not files:
                raise DataError(f"Expected images in {str(path)!r}, got none with a suffix of {SUFFIXES}.")
            images += [InputFile(file, _unique(file.relative_to(path), names)) for file in files]
        elif not path.exists():
            raise DataError(f"Expected an image, a folder or a video at {str(path)!r}, found none. Correct the path.")
        elif path.suffix.lower() in VIDEO_SUFFIXES:
            videos.append(InputFile(path, _unique(Path(path.name), names)))
        elif path.suffix.lower() in SUFFIXES:
            images.append(InputFile(path, _unique(Path(path.name), names)))
        else:
            raise DataError(
                f"Expected {str(path)!r} to be an image {SUFFIXES} or a video {VIDEO_SUFFIXES}, got {path.suffix!r}."
            )
    return images, videos


def _unique(name: Path, taken: set[Path]) -> Path:
    """Adds a number to a name that is taken, and the result, without its suffix, to `taken`."""
    candidate, number = name, 1
    while candidate.with_suffix("") in taken:
        number += 1
        candidate = name.with_name(f"{name.stem}_{number}{name.suffix}")
    taken.add(candidate.with_suffix(""))
    return candidate


class VideoReader:
    """Frames of a video.

    Args:
        path: The file.
        frame_step: Reads every frame whose number is a multiple of it.

    Attributes:
        fps: Frames per second of the frames that are read.
        num_frames: Number of frames that are read, as far as the file records it; 0 if unknown.

    Raises:
        DataError: OpenCV is not installed, or the file cannot be opened.
    """

    def __init__(self, path: Path, frame_step: int = 1) -> None:
        opencv = _import_opencv(path)
        self._path, self._frame_step, self._capture = path, frame_step, opencv.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise DataError(f"Expected {str(path)!r} to be a video that OpenCV reads, got none. Convert it to MP4.")
        self._file_fps = self._capture.get(opencv.CAP_PROP_FPS) or _DEFAULT_FPS
        self.fps = self._file_fps / frame_step
        self.num_frames = max(0, -(-int(self._capture.get(opencv.CAP_PROP_FRAME_COUNT)) // frame_step))

    def __iter__(self) -> Iterator[tuple[int, float, np.ndarray]]:
        """Yields frame number from 0, time in seconds and pixels, uint8 `[H, W, 3]` RGB.

        Raises:
            DataError: The file has no frames.
        """
        number = 0
        while self._capture.grab():
            if number % self._frame_step == 0:
                success, pixels = self._capture.retrieve()
                if not success:
                    break
                yield number, number / self._file_fps, np.ascontiguousarray(pixels[..., ::-1])
            number += 1
        self._capture.release()
        if not number:
            raise DataError(f"Expected frames in {str(self._path)!r}, got none. Convert it to MP4.")


def write_video(path: Path, fps: float, frames: Iterable[np.ndarray]) -> None:
    """Writes frames of one size, uint8 `[H, W, 3]` RGB, to an MP4 file.

    Raises:
        DataError: OpenCV cannot write the file.
    """
    opencv = _import_opencv(path)
    writer: Any = None
    path.parent.mkdir(parents=True, exist_ok=True)
    for pixels in frames:
        if writer is None:
            size = (pixels.shape[1], pixels.shape[0])
            writer = opencv.VideoWriter(str(path), opencv.VideoWriter_fourcc(*"mp4v"), fps, size)
            if not writer.isOpened():
                raise DataError(f"Expected OpenCV to write {str(path)!r}, it did not. Choose a writable folder.")
        writer.write(np.ascontiguousarray(pixels[..., ::-1]))
    if writer is not None:
        writer.release()


def _import_opencv(path: Path) -> ModuleType:
    try:
        import cv2
    except ImportError:
        raise DataError(
            f"Expected OpenCV for the video {str(path)!r}, found none. Run `pip install opencv-python`."
        ) from None
    return cv2
