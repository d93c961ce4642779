"""Writes torchvision.npz: small cases of torchvision's detection ops, with their inputs, for machines without torch.

    python tests/golden/make_torchvision.py [--check]

--check compares the stored outputs with those of the installed torchvision.
Needs torch and torchvision (written with 2.14.1 and 0.29.1, CPU); not keras_lightdet. Layouts are those of this
package: channels last, boxes with a batch axis.
"""

import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import MultiScaleRoIAlign, ps_roi_align, roi_align

PATH = Path(__file__).with_name("torchvision.npz")
STRIDE, POOL, OUTPUTS = 8, 3, 2
ROIS = [
    [[3, 5, 40, 33], [-9, -6, 21, 30], [50, 30, 90, 70], [8, 8, 9, 9.5]],  # inside, across both corners, tiny
    [[0, 0, 72, 56], [16, 8, 48, 40], [-60, -60, -20, -30], [20, 20, 20, 20]],  # whole, on the grid, outside, empty
]
LEVEL_ROIS = [[[2, 3, 12, 16], [10, 5, 39, 40], [0, 0, 57, 55]], [[0, 0, 60, 64], [4, 4, 5, 5], [15, 10, 47, 35]]]


def coarse(values):
    """Sixteenths, which make a small file."""
    return (np.round(values * 16) / 16).astype("float32")


def torch_maps(random, *shape):
    """Random maps, as torch has them and as this package has them."""
    maps = coarse(random.normal(size=shape))
    return torch.from_numpy(maps), np.ascontiguousarray(maps.transpose(0, 2, 3, 1))


def per_image(pooled, images=2):
    """`[B * R, C, h, w]` to `[B, R, h, w, C]`."""
    array = pooled.numpy().transpose(0, 2, 3, 1)
    return array.reshape(images, -1, *array.shape[1:])


def align_cases(random) -> dict:
    """RoI align in its two forms, position-sensitive RoI align, and the pyramid's choice of levels."""
    rois = [torch.tensor(each, dtype=torch.float32) for each in ROIS]
    maps, features = torch_maps(random, 2, 2, 7, 9)
    ps_maps, ps_features = torch_maps(random, 2, OUTPUTS * POOL**2, 7, 9)
    cases = {"rois": np.float32(ROIS), "features": features, "ps_features": ps_features}
    for aligned in (False, True):
        pooled = roi_align(maps, rois, POOL, 1 / STRIDE, sampling_ratio=2, aligned=aligned)
        cases[f"roi_align_{'aligned' if aligned else 'plain'}"] = per_image(pooled)
    cases["ps_roi_align"] = per_image(ps_roi_align(ps_maps, rois, POOL, 1 / STRIDE, sampling_ratio=2))
    pyramid, names = OrderedDict(), ("P2", "P3", "P4")
    for level, name in enumerate(names):
        pyramid[name], cases[name] = torch_maps(random, 2, 1, 16 >> level, 16 >> level)
    pooler = MultiScaleRoIAlign(names, 2, 2, canonical_scale=28, canonical_level=3)
    level_rois = [torch.tensor(each, dtype=torch.float32) for each in LEVEL_ROIS]
    cases["level_rois"] = np.float32(LEVEL_ROIS)
    cases["multilevel"] = per_image(pooler(pyramid, level_rois, [(64, 64)] * 2))
    return cases


def box_cases(random) -> dict:
    """Anchors, coding and matching."""
    generator = AnchorGenerator(((20, 33), (40, 66)), ((0.5, 1.0, 2.0),) * 2)
    images = ImageList(torch.zeros(1, 3, 32, 32), [(32, 32)])
    anchors = generator(images, [torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 2, 2)])[0]
    low = random.uniform(0, 30, (4, 2))
    boxes = torch.from_numpy(coarse(np.concatenate([low, low + random.uniform(4, 30, low.shape)], -1)))
    coder, repeated = BoxCoder((10.0, 10.0, 5.0, 5.0)), boxes[torch.arange(len(anchors)) % 4]
    deltas = coder.encode_single(repeated, anchors)
    wild = torch.from_numpy(coarse(random.normal(0, 12, deltas.shape)))
    cases = {"anchors": anchors, "boxes": boxes, "deltas": deltas, "wild_deltas": wild}
    cases["wild_boxes"] = coder.decode_single(wild, anchors)
    quality = torch.tensor(np.round(box_iou_64(boxes.numpy(), anchors.numpy()), 6), dtype=torch.float32)
    cases["matched"] = Matcher(0.5, 0.3, allow_low_quality_matches=True)(quality)
    return {key: value.numpy() for key, value in cases.items()}


def box_iou_64(boxes, others):
    """IoU of all pairs in double precision."""
    boxes, others = boxes[:, None].astype(float), others[None].astype(float)
    sides = np.clip(np.minimum(boxes[..., 2:], others[..., 2:]) - np.maximum(boxes[..., :2], others[..., :2]), 0, None)
    shared = sides.prod(-1)
    areas = ((part[..., 2:] - part[..., :2]).prod(-1) for part in (boxes, others))
    return shared / (sum(areas) - shared)


def proposal_cases(random, anchors) -> dict:
    """Proposals of two images from two levels."""
    counts, images = (4 * 4 * 6, 2 * 2 * 6), 2
    network = RegionProposalNetwork(
        None, None, 0.7, 0.3, 256, 0.5, {"training": 30, "testing": 30}, {"training": 20, "testing": 20}, 0.7
    )
    logits = torch.from_numpy(random.permutation(images * sum(counts)).reshape(images, -1).astype("float32") / 32 - 4)
    deltas = torch.from_numpy(coarse(random.normal(0, 0.3, (images, sum(counts), 4))))
    boxes = torch.stack([BoxCoder((1.0,) * 4).decode_single(each, torch.from_numpy(anchors)) for each in deltas])
    kept, scores = network.filter_proposals(boxes, logits, [(32, 32)] * images, list(counts))
    return {
        "objectness": logits.numpy(),
        "rpn_deltas": deltas.numpy(),
        "proposals": np.stack([each.numpy() for each in kept]),
        "proposal_scores": np.stack([each.numpy() for each in scores]),
    }


def make() -> dict:
    """Returns all cases by name."""
    random = np.random.default_rng(20)
    boxes = box_cases(random)
    return {**align_cases(random), **boxes, **proposal_cases(random, boxes["anchors"])}


if __name__ == "__main__":
    if "--check" in sys.argv:
        stored = np.load(PATH)
        for name, value in make().items():
            np.testing.assert_allclose(stored[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    else:
        np.savez_compressed(PATH, **make())
