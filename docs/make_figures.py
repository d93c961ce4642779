"""Draws the image on the first page: detections on drawn scenes that were not in the training data.

lightdet train rsanet_voc --demo
python docs/make_figures.py --weights runs/rsanet_voc/best.weights.h5
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

import keras_lightdet
from keras_lightdet.data import SceneSpec
from keras_lightdet.data.synthetic_scenes import draw_scene
from keras_lightdet.visualization.montage import make_rows, stack_vertically

SEED = 2026  # the demo trains and evaluates on seed 0
SCENES = SceneSpec(sides=(384, 384), objects=(4, 7), object_sides=(70.0, 200.0), empty=0.0)
ROWS, COLUMNS, TILE = 2, 3, 296
MIN_SCORE = 0.45
COLORS = 256


def draw_figure(weights: Path) -> Image.Image:
    """Returns a montage of scenes with the detections of a detector."""
    detector = keras_lightdet.load_model(weights)
    tiles = []
    for number in range(ROWS * COLUMNS):
        image = draw_scene([SEED, number], SCENES).image
        drawn = keras_lightdet.draw(image, detector.detect(image, MIN_SCORE))
        tiles.append(drawn.resize((TILE, TILE), Image.Resampling.LANCZOS))
    return stack_vertically(make_rows(tiles, COLUMNS))


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the image as a PNG file with a palette."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="weights of a detector trained on drawn scenes")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "images" / "detections.png")
    args = parser.parse_args(argv)
    figure = draw_figure(args.weights).quantize(COLORS, dither=Image.Dither.NONE)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    figure.save(args.output, optimize=True)


if __name__ == "__main__":
    main()
