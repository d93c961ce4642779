"""Writes golden.npz and golden_detector.npz, the outputs of torchvision's networks.

    python tests/foreign_weights/make_golden.py

Needs torch and torchvision. The weights are functions of the names of the tensors (tests/helpers/torch_tensors.py).
"""

from pathlib import Path

import numpy as np
import torchvision_detectors
from torchvision_nets import answers, build_drawn

# TensorFlow, which these import, comes behind torchvision.
from detector_outputs import shorten  # isort: skip
from torch_tensors import EFFICIENTNETS, MOBILENETS, RESNETS, SHUFFLENETS, SIZES, draw_image, summarize  # isort: skip


def main():
    """Runs all networks at all sizes: `[sizes, outputs by name, largest absolute value and samples]` for each."""
    golden = {}
    for name in (*SHUFFLENETS, *RESNETS, *MOBILENETS, *EFFICIENTNETS):
        net = build_drawn(name)
        by_size = [answers(net, draw_image(*size)) for size in SIZES]
        rows = [[summarize(key, values) for key, values in sorted(outputs.items())] for outputs in by_size]
        golden[name] = np.array(rows, np.float32)
    np.savez_compressed(Path(__file__).with_name("golden.npz"), **golden)
    detector = torchvision_detectors.all_answers("small", torchvision_detectors.build_drawn("small"))
    np.savez_compressed(Path(__file__).with_name("golden_detector.npz"), **shorten(detector))


if __name__ == "__main__":
    main()
