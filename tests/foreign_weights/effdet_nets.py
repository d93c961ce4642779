"""effdet's side of the comparison: `python effdet_nets.py VARIANT FOLDER` writes weights.pth and answers.npz.

`python effdet_nets.py` alone writes golden_efficientdet.npz, for machines without torch and effdet.

A process of its own, without TensorFlow: torchvision imports triton, which crashes behind TensorFlow's LLVM.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torchvision  # noqa: F401 - effdet and timm come behind it
from effdet import DetBenchPredict, get_efficientdet_config
from effdet.anchors import Anchors, decode_box_outputs
from effdet.efficientdet import EfficientDet

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))
from torch_tensors import (  # noqa: E402
    EFFICIENTDET_SIZES,
    EFFICIENTDET_TOP,
    EFFICIENTDETS,
    draw_efficientdet_tensor,
    draw_image,
    normalized,
    summarize_detector,
)

CLASSES = 3


def build_drawn(variant, size):
    """Returns a network for inference on images of `size` whose weights are functions of the names of its tensors."""
    name, changes, _ = EFFICIENTDETS[variant]
    config = get_efficientdet_config(name)
    config.update(num_classes=CLASSES, image_size=size, soft_nms=True, max_detection_points=EFFICIENTDET_TOP, **changes)
    net = EfficientDet(config, pretrained_backbone=False)
    state = {}
    for key, value in net.state_dict().items():
        drawn = draw_efficientdet_tensor(key, tuple(value.shape)) if value.ndim else np.int64(7)
        state[key] = torch.as_tensor(drawn)
    net.load_state_dict(state)
    return net.eval()


def answers(variant, size):
    """Returns logits `[N, CLASSES]`, boxes `[N, 4]` in effdet's order of anchors, and its detections."""
    net = build_drawn(variant, size)
    image = torch.as_tensor(normalized(draw_image(*size), variant)).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        logits, deltas = net(image)
        info = {"img_scale": torch.ones(1), "img_size": torch.tensor([[size[1], size[0]]])}  # clips to the image
        detections = DetBenchPredict(net)(image, info)[0].numpy()
    logits, deltas = (
        torch.cat([x.permute(0, 2, 3, 1).reshape(-1, depth) for x in levels])
        for levels, depth in ((logits, CLASSES), (deltas, 4))
    )
    boxes = decode_box_outputs(deltas, Anchors.from_config(net.config).boxes, output_xyxy=True)
    detections = detections[detections[:, 4] > 0]
    return {
        "logits": logits.numpy(),
        "boxes": boxes.numpy(),
        "found_boxes": detections[:, :4],
        "found_scores": detections[:, 4],
        "found_labels": detections[:, 5].astype(int) - 1,
    }


def all_answers(variant):
    """Returns outputs by size and name, "HxW/logits"."""
    outputs = {}
    for height, width in EFFICIENTDET_SIZES[variant]:
        outputs.update({f"{height}x{width}/{key}": x for key, x in answers(variant, (height, width)).items()})
    return outputs


def main(variant, folder):
    """Writes the random weights and the outputs."""
    torch.save(build_drawn(variant, EFFICIENTDET_SIZES[variant][0]).state_dict(), Path(folder) / "weights.pth")
    np.savez(Path(folder) / "answers.npz", **all_answers(variant))


def write_golden():
    """Writes summaries of the outputs of all networks at all sizes."""
    golden = {}
    for variant in EFFICIENTDETS:
        for size in EFFICIENTDET_SIZES[variant]:
            golden |= summarize_detector(variant, size, answers(variant, size))
    np.savez_compressed(Path(__file__).with_name("golden_efficientdet.npz"), **golden)


if __name__ == "__main__":
    main(*sys.argv[1:]) if sys.argv[1:] else write_golden()
