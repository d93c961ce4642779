"""Writes small VOC trees, COCO folders and images for tests."""

import json
from pathlib import Path

import numpy as np
from PIL import Image


def save_image(path: Path, size=(64, 48), color=(90, 120, 150), **options) -> Path:
    """Writes a plain image of `(width, height)`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path, **options)
    return path


def voc_xml(objects, size=(64, 48), filename="a.jpg") -> str:
    """An annotation; each object is (name, xmin, ymin, xmax, ymax[, difficult])."""
    elements = [
        f"<object><name>{name}</name><difficult>{rest[0] if rest else 0}</difficult><bndbox><xmin>{a}</xmin>"
        f"<ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for name, a, b, c, d, *rest in objects
    ]
    head = f"<filename>{filename}</filename><size><width>{size[0]}</width><height>{size[1]}</height></size>"
    return f"<annotation>{head}{''.join(elements)}</annotation>"


def voc_tree(root: Path, images: dict[str, list], splits: dict[str, list[str]] | None = None) -> Path:
    """A VOC tree of 64 x 48 images; `images` has their objects by file stem."""
    (root / "Annotations").mkdir(parents=True)
    for stem, objects in images.items():
        save_image(root / "JPEGImages" / f"{stem}.jpg")
        (root / "Annotations" / f"{stem}.xml").write_text(voc_xml(objects, filename=f"{stem}.jpg"))
    for split, stems in (splits or {}).items():
        folder = root / "ImageSets" / "Main"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{split}.txt").write_text("\n".join(stems) + "\n")
    return root


def coco_folder(root: Path, **content) -> Path:
    """A COCO folder with one 64 x 48 image, one category and one box; `content` replaces these lists."""
    save_image(root / "train" / "a.jpg")
    base = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 48}],
        "categories": [{"id": 7, "name": "cat"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 7, "bbox": [4, 6, 20, 10], "area": 150}],
    }
    (root / "annotations").mkdir(parents=True)
    (root / "annotations" / "instances_train.json").write_text(json.dumps({**base, **content}))
    return root


def paint(height: int, width: int, box, value=255) -> np.ndarray:
    """A dark uint8 image with one bright rectangle at whole-pixel xyxy `box`."""
    image = np.full((height, width, 3), 20, np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = value
    return image


def painted_box(image: np.ndarray, threshold: float = 185) -> np.ndarray | None:
    """The xyxy box of the bright pixels, the current place of the painted rectangle."""
    bright = np.asarray(image, np.float32).mean(-1) > threshold
    if not bright.any():
        return None
    ys, xs = np.nonzero(bright.any(1))[0], np.nonzero(bright.any(0))[0]
    return np.float32([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1])
