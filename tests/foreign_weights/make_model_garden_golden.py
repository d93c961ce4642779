"""Writes model_garden.npz, the outputs of the Model Garden's networks.

    python tests/foreign_weights/make_model_garden_golden.py

Needs tf-models-official. The weights are functions of the names of the layers (tests/helpers/garden_weights.py).
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))
import model_garden_nets as garden  # noqa: E402
from garden_weights import NETS, draw_weights  # noqa: E402
from torch_tensors import draw_image, summarize  # noqa: E402

from keras_lightdet.foreign_weights.model_garden import backbone_pairs  # noqa: E402


def main():
    """Sets the same random weights in both networks, and returns a few values of each level."""
    golden = {}
    for name, (build, options) in NETS.items():
        theirs = garden.build_spinenet(options["variant"], mobile="mobile" in name)
        for layer, source in backbone_pairs(build(**options), theirs):
            source.set_weights(draw_weights(layer))
        pyramid = garden.pyramid(theirs, draw_image(*garden.SIZE))
        golden[name] = np.array([summarize(level, values) for level, values in sorted(pyramid.items())], np.float32)
    np.savez_compressed(Path(__file__).with_name("model_garden.npz"), **golden)


if __name__ == "__main__":
    main()
