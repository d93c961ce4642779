"""Draws synthetic scenes: textured images with shapes, labeled for each task, to train without downloaded data."""

import colorsys
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image, ImageDraw

from keras_lightdet.files import StrPath, expand_user

SCENE_CLASS_NAMES = ("cross", "disc", "ring", "square", "star", "triangle")
# An object with a smaller visible share of its pixels is not drawn: it could not be detected.
MIN_VISIBLE = 0.35
_SUPERSAMPLE = 2
_JPEG_QUALITY = 90
_CUTOUT_JPEG_QUALITY = 95
_CUTOUT_MARGIN = 0.2  # on each side, relative to the object's longer side


@dataclass(frozen=True)
class SceneSpec:
    """The contents of a scene.

    Attributes:
        sides: Range of an image's sides in pixels.
        objects: Range of the number of objects tried per image.
        object_sides: Range of the longer side of an object's box in pixels, drawn log-uniformly.
        empty: Share of the images without any object.
        own_color: Share of the objects in the hues of their class; the others have random hues, so that only their
            shape identifies them.
    """

    sides: tuple[int, int] = (384, 512)
    objects: tuple[int, int] = (6, 16)
    object_sides: tuple[float, float] = (20.0, 400.0)
    empty: float = 0.04
    own_color: float = 0.9


@dataclass(frozen=True)
class Scene:
    """An image and its labels.

    Attributes:
        image: Uint8 `[H, W, 3]` RGB.
        boxes: Int `[n, 4]`, xyxy in pixels.
        names: The objects' class names.
        labels: Uint8 `[H, W]`, the label of each pixel: 0 for the background, 1 and up for `SCENE_CLASS_NAMES`.
    """

    image: np.ndarray
    boxes: np.ndarray
    names: tuple[str, ...]
    labels: np.ndarray


@dataclass(frozen=True)
class _Object:
    name: str
    box: tuple[int, int, int, int]
    visible: np.ndarray  # bool [H, W], its pixels that no later object covers
    num_pixels: int  # in the image, covered or not


def draw_detection_scenes(
    root: StrPath, splits: Mapping[str, int], *, seed: int = 0, spec: SceneSpec | None = None
) -> Path:
    """Writes scenes as a VOC tree; the same arguments write the same files. `draw_scenes` is a short name for it.

    Args:
        root: The folder to write; created if absent.
        splits: Number of images by split name, such as `{"trainval": 400, "test": 100}`.
        seed: Seed of all random draws.
        spec: The contents of the scenes; None takes the defaults.

    Returns:
        `root`, for `load_detection`.
    """
    root = expand_user(root)
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    stems: list[str] = []
    for split, size in splits.items():
        in_split = [f"scene_{number:05d}" for number in range(len(stems), len(stems) + size)]
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in in_split))
        stems += in_split
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda item: _write_voc(root, item[1], draw_scene([seed, item[0]], spec)), enumerate(stems)))
    return root


draw_scenes = draw_detection_scenes


def draw_segmentation_scenes(
    root: StrPath, splits: Mapping[str, int], *, seed: int = 0, spec: SceneSpec | None = None
) -> Path:
    """Writes scenes with label images in SegNet's layout, for `load_segmentation`; see `draw_detection_scenes`."""
    root, number = expand_user(root), 0
    for split, size in splits.items():
        for folder in (split, f"{split}annot"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        for _ in range(size):
            scene, stem = draw_scene([seed, number], spec), f"scene_{number:05d}"
            Image.fromarray(scene.image).save(root / split / f"{stem}.jpg", quality=_JPEG_QUALITY)
            Image.fromarray(scene.labels).save(root / f"{split}annot" / f"{stem}.png")
            number += 1
    names = ("background", *SCENE_CLASS_NAMES)
    (root / "labels.txt").write_text("".join(f"{value} {name}\n" for value, name in enumerate(names)))
    return root


def draw_classification_scenes(root: StrPath, splits: Mapping[str, int], *, seed: int = 0) -> Path:
    """Writes folders of classes with objects cut out of scenes, for `load_classification`.

    The arguments are those of `draw_detection_scenes`, but `splits` are numbers of images per class.
    """
    root, number = expand_user(root), 0
    for split, count in splits.items():
        missing = dict.fromkeys(SCENE_CLASS_NAMES, count)
        for name in SCENE_CLASS_NAMES:
            (root / split / name).mkdir(parents=True, exist_ok=True)
        while any(missing.values()):
            scene = draw_scene([seed, number])
            number += 1
            for box, name in zip(scene.boxes, scene.names, strict=True):
                if missing[name]:
                    path = root / split / name / f"{name}_{count - missing[name]:05d}.jpg"
                    Image.fromarray(_cut_out(scene.image, box)).save(path, quality=_CUTOUT_JPEG_QUALITY)
                    missing[name] -= 1
    return root


def draw_scene(seed: int | Sequence[int], spec: SceneSpec | None = None) -> Scene:
    """Draws one scene; a box contains the whole object inside the image, including parts that others cover."""
    spec = spec or SceneSpec()
    rng = np.random.default_rng(seed)
    width, height = (int(side) for side in rng.integers(spec.sides[0], spec.sides[1] + 1, 2))
    canvas = Image.fromarray(_texture(rng, height, width))
    number = 0 if rng.random() < spec.empty else int(rng.integers(spec.objects[0], spec.objects[1] + 1))
    objects: list[_Object] = []  # from back to front
    for _ in range(number):
        objects = _add_object(rng, canvas, objects, spec)
    boxes = np.array([scene_object.box for scene_object in objects], np.int64).reshape(-1, 4)
    image = np.asarray(canvas).astype(np.int16) + rng.integers(-6, 7, (height, width, 1), dtype=np.int16)
    labels = np.zeros((height, width), np.uint8)
    for scene_object in objects:
        labels[scene_object.visible] = SCENE_CLASS_NAMES.index(scene_object.name) + 1
    names = tuple(scene_object.name for scene_object in objects)
    return Scene(np.clip(image, 0, 255).astype(np.uint8), boxes, names, labels)


def _add_object(
    rng: np.random.Generator, canvas: Image.Image, objects: list[_Object], spec: SceneSpec
) -> list[_Object]:
    """Draws an object in front of the others, unless too little of it or of one behind it would be visible."""
    width, height = canvas.size
    label = int(rng.integers(len(SCENE_CLASS_NAMES)))
    name, (low, high) = SCENE_CLASS_NAMES[label], spec.object_sides
    mask = _shape_mask(rng, name, low * (min(high, 0.9 * min(width, height)) / low) ** rng.random())
    left = int(rng.integers(-mask.shape[1] // 6, max(width - mask.shape[1] * 5 // 6, 1)))
    top = int(rng.integers(-mask.shape[0] // 6, max(height - mask.shape[0] * 5 // 6, 1)))
    hue = None
    if rng.random() < spec.own_color:  # each class has a sector of the color circle
        hue = (label + rng.uniform(-0.5, 0.5)) / len(SCENE_CLASS_NAMES) % 1.0
    rows, columns = slice(max(top, 0), top + mask.shape[0]), slice(max(left, 0), left + mask.shape[1])
    inside = mask[rows.start - top : height - top, columns.start - left : width - left] > 127
    visible = np.zeros((height, width), bool)
    visible[rows, columns] = inside
    if not inside.any() or inside.sum() < MIN_VISIBLE * (mask > 127).sum():
        return objects
    covered = [replace(other, visible=other.visible & ~visible) for other in objects]
    if any(other.visible.sum() < MIN_VISIBLE * other.num_pixels for other in covered):
        return objects
    ys, xs = np.nonzero(inside.any(1))[0] + rows.start, np.nonzero(inside.any(0))[0] + columns.start
    box = (int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1)
    canvas.paste(_paint(rng, canvas, mask, box, hue), (left, top), Image.fromarray(mask))
    return [*covered, _Object(name, box, visible, int(inside.sum()))]


def _paint(
    rng: np.random.Generator, canvas: Image.Image, mask: np.ndarray, box: tuple[int, int, int, int], hue: float | None
) -> Image.Image:
    """Returns a patch of one color (any hue for None), shaded or striped, that contrasts with the background."""
    height, width = mask.shape
    behind = np.asarray(canvas.crop(box).resize((1, 1), Image.Resampling.BOX), np.float64).reshape(3)
    tones = zip(rng.uniform(0.5, 1.0, 8), rng.uniform(0.4, 1.0, 8), strict=True)
    colors = 255 * np.array([colorsys.hsv_to_rgb(rng.random() if hue is None else hue, *tone) for tone in tones])
    color = colors[np.argmax(np.abs(colors - behind).sum(1) > 140)]
    angle, strength = rng.uniform(0, 2 * math.pi), rng.uniform(0, 50)
    slope = np.cos(angle) * np.linspace(-1, 1, width)[None, :] + np.sin(angle) * np.linspace(-1, 1, height)[:, None]
    if rng.random() < 0.25:
        slope = np.sign(np.sin(slope * rng.uniform(6, 14)))
    return Image.fromarray(np.clip(color + strength * slope[..., None], 0, 255).astype(np.uint8))


def _texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Returns a background of smooth color gradients at several scales, with some lines."""
    texture = np.zeros((height, width, 3))
    for cells, strength in ((2, 70.0), (6, 40.0), (24, 22.0), (90, 12.0)):
        coarse = rng.uniform(-1, 1, (cells, cells, 3)).astype(np.float32) * strength
        for channel in range(3):
            layer = Image.fromarray(coarse[..., channel]).resize((width, height), Image.Resampling.BICUBIC)
            texture[..., channel] += np.asarray(layer)
    canvas = Image.fromarray(np.clip(rng.uniform(60, 200, 3) + texture, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(canvas)
    for _ in range(int(rng.integers(0, 10))):
        color = tuple(int(value) for value in rng.integers(0, 256, 3))
        ends = [(rng.uniform(0, width), rng.uniform(0, height)) for _ in range(2)]
        pen.line(ends, fill=color, width=int(rng.integers(1, 4)))
    return np.asarray(canvas)


def _shape_mask(rng: np.random.Generator, name: str, side: float) -> np.ndarray:
    """Returns an antialiased mask, uint8 `[h, w]`, of a rotated, squeezed shape with a longer side of `side` pixels."""
    outlines = _outlines(rng, name)
    angle, squeeze = rng.uniform(0, 2 * math.pi), np.diag([1.0, rng.uniform(0.65, 1.0)])
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    turned = [outline @ squeeze @ turn.T for outline in outlines]
    low, high = turned[0].min(0), turned[0].max(0)
    scale = side / (high - low).max()
    width, height = (int(length) * _SUPERSAMPLE for length in np.ceil((high - low) * scale).astype(int) + 1)
    mask = Image.new("L", (width, height))
    pen = ImageDraw.Draw(mask)
    for fill, outline in zip((255, 0), turned, strict=False):
        pen.polygon([tuple(point) for point in (outline - low) * scale * _SUPERSAMPLE], fill=fill)
    return np.asarray(mask.reduce(_SUPERSAMPLE))


def _outlines(rng: np.random.Generator, name: str) -> list[np.ndarray]:
    """Returns the outline of a shape and, for a ring, that of its hole, as `[n, 2]` points around the origin."""
    circle = _on_circle(np.linspace(0, 2 * math.pi, 72, endpoint=False))
    if name == "disc":
        return [circle]
    if name == "ring":
        return [circle, circle * rng.uniform(0.5, 0.65)]
    if name == "star":
        radii = np.where(np.arange(10) % 2, rng.uniform(0.38, 0.48), 1.0)
        return [_on_circle(np.arange(10) * math.pi / 5) * radii[:, None]]
    if name == "cross":
        arm = rng.uniform(0.25, 0.35)
        quarter = np.array([(1, -arm), (1, arm), (arm, arm)])
        turns = [np.array([[c, -s], [s, c]]) for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))]
        return [np.concatenate([quarter @ turn.T for turn in turns])]
    corners = {"square": 4, "triangle": 3}[name]
    return [_on_circle(2 * math.pi * (np.arange(corners) + 0.5) / corners)]


def _on_circle(angles: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1)


def _cut_out(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Returns the part of an image that shows a box and a margin around it."""
    height, width = image.shape[:2]
    margin = int(_CUTOUT_MARGIN * max(box[2] - box[0], box[3] - box[1])) + 1
    x_min, y_min, x_max, y_max = np.clip(box + np.array([-margin, -margin, margin, margin]), 0, [width, height] * 2)
    return image[y_min:y_max, x_min:x_max]


def _write_voc(root: Path, stem: str, scene: Scene) -> None:
    height, width = scene.image.shape[:2]
    Image.fromarray(scene.image).save(root / "JPEGImages" / f"{stem}.jpg", quality=_JPEG_QUALITY)
    objects = "".join(
        f"  <object>\n    <name>{escape(name)}</name>\n    <difficult>0</difficult>\n    <bndbox>"
        f"<xmin>{x_min + 1}</xmin><ymin>{y_min + 1}</ymin><xmax>{x_max}</xmax><ymax>{y_max}</ymax>"
        "</bndbox>\n  </object>\n"
        for (x_min, y_min, x_max, y_max), name in zip(scene.boxes.tolist(), scene.names, strict=True)
    )
    (root / "Annotations" / f"{stem}.xml").write_text(
        f"<annotation>\n  <filename>{stem}.jpg</filename>\n"
        f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>\n{objects}</annotation>\n"
    )
