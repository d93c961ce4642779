"""Writes golden.npz and golden_detector.npz, what torchvision's networks answer: `python tests/convert/make_golden.py`.

Needs torch and torchvision. The weights follow from the tensors' names (tests/torch_tensors.py) and are not stored.
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
        found = [answers(net, draw_image(*size)) for size in SIZES]
        rows = [[summarize(key, values) for key, values in sorted(outputs.items())] for outputs in found]
        golden[name] = np.array(rows, np.float32)
    np.savez_compressed(Path(__file__).with_name("golden.npz"), **golden)
    detector = torchvision_detectors.all_answers("small", torchvision_detectors.build_drawn("small"))
    np.savez_compressed(Path(__file__).with_name("golden_detector.npz"), **shorten(detector))


if __name__ == "__main__":
    main()
