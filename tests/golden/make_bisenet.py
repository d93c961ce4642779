"""Writes bisenet.npz: BiSeNet-R18's parts as PyTorch computes them, with their weights, for machines without torch.

    python tests/golden/make_bisenet.py [--check]

With --check it compares what is stored with what PyTorch answers now. The modules are written from the paper's figure 2
and the layer list of the first author's code; no public implementation was at hand to run. Widths are small, so that
the file is; the layers are the network's. Needs torch (written with 2.14.1, CPU); nothing of keras_lightdet. Weights of
a part stand in one row, kernels in Keras' order; maps are channels last.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

PATH = Path(__file__).with_name("bisenet.npz")
WIDTH, C16, C32 = 4, 6, 8


def unit(inputs, outputs, kernel, stride=1, activation=True):
    """Convolution, batch norm and ReLU."""
    layers = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, *([nn.ReLU()] if activation else []))


class AttentionRefinement(nn.Module):
    """Figure 2b, behind a 3x3 convolution."""

    def __init__(self, inputs):
        super().__init__()
        self.conv = unit(inputs, WIDTH, 3)
        self.gate = unit(WIDTH, WIDTH, 1, activation=False)

    def forward(self, x):
        x = self.conv(x)
        return x * torch.sigmoid(self.gate(functional.adaptive_avg_pool2d(x, 1)))


class FeatureFusion(nn.Module):
    """Figure 2c."""

    def __init__(self):
        super().__init__()
        self.conv = unit(2 * WIDTH, 2 * WIDTH, 1)
        self.gate1 = nn.Conv2d(2 * WIDTH, 2 * WIDTH, 1, bias=False)
        self.gate2 = nn.Conv2d(2 * WIDTH, 2 * WIDTH, 1, bias=False)

    def forward(self, spatial, context):
        x = self.conv(torch.cat([spatial, context], 1))
        gate = functional.adaptive_avg_pool2d(x, 1)
        return x + x * torch.sigmoid(self.gate2(torch.relu(self.gate1(gate))))


class ContextPath(nn.Module):
    """From the maps of stages 4 and 5 up to stride 8."""

    def __init__(self):
        super().__init__()
        self.whole = unit(C32, WIDTH, 1)
        self.arm32, self.arm16 = AttentionRefinement(C32), AttentionRefinement(C16)
        self.refine32, self.refine16 = unit(WIDTH, WIDTH, 3), unit(WIDTH, WIDTH, 3)

    def forward(self, c16, c32, size):
        x = self.arm32(c32) + self.whole(functional.adaptive_avg_pool2d(c32, 1))
        p16 = self.refine32(enlarge(x, c16.shape[2:]))
        return self.refine16(enlarge(self.arm16(c16) + p16, size)), p16


def enlarge(x, size):
    """Bilinear, corners aligned."""
    return functional.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True)


def randomise(module):
    """Draws weights and statistics, so that no batch norm is the identity."""
    for name, value in module.state_dict().items():
        if value.dtype == torch.float32:
            low, high = (0.5, 1.5) if name.endswith(("running_var", "1.weight")) else (-0.5, 0.5)
            value.uniform_(low, high)
    return module.eval()


def weights_of(module) -> np.ndarray:
    """In the order of Keras: kernels `[h, w, in, out]`; of a batch norm gamma, beta, mean, variance."""
    found = []
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            found.append(part.weight.permute(2, 3, 1, 0))
        elif isinstance(part, nn.BatchNorm2d):
            found += [part.weight, part.bias, part.running_mean, part.running_var]
    return np.concatenate([value.detach().numpy().ravel() for value in found])


def last(x) -> np.ndarray:
    """Channels last."""
    return np.ascontiguousarray(x.detach().numpy().transpose(0, 2, 3, 1))


def make() -> dict:
    """Returns all cases by name."""
    torch.manual_seed(0)
    path, fusion = randomise(ContextPath()), randomise(FeatureFusion())
    size = (9, 11)  # odd, so that no map is a multiple of the one above it
    c16, c32, spatial = torch.rand(1, C16, 5, 6), torch.rand(1, C32, 3, 3), torch.rand(1, WIDTH, *size)
    p8, p16 = path(c16, c32, size)
    found = {"c16": last(c16), "c32": last(c32), "spatial": last(spatial), "p8": last(p8), "p16": last(p16)}
    found |= {"refined16": last(path.arm16(c16)), "fused": last(fusion(spatial, p8))}
    parts = {"whole": path.whole, "arm32": path.arm32, "arm16": path.arm16, "refine32": path.refine32,
             "refine16": path.refine16, "ffm": fusion}  # fmt: skip
    return found | {name: weights_of(module) for name, module in parts.items()}


if __name__ == "__main__":
    if "--check" in sys.argv:
        stored = np.load(PATH)
        for name, value in make().items():
            np.testing.assert_allclose(stored[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    else:
        np.savez_compressed(PATH, **make())
