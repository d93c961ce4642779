"""torchvision's Faster R-CNN: `python torchvision_detectors.py NAME FOLDER` writes weights.pth and answers.npz.

A process of its own, as torchvision_nets.py; NAME is one of `torch_tensors.DETECTORS`.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torchvision.models.detection import FasterRCNN, fasterrcnn_resnet50_fpn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.models.resnet import resnet18
from torchvision.ops.misc import FrozenBatchNorm2d

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))
from torch_tensors import (  # noqa: E402
    ALL_ANCHORS,
    ALL_REGIONS,
    DETECTORS,
    ODD_SIZE,
    PROPOSALS,
    draw_detector_tensor,
    draw_image,
    draw_truth,
)

LOSSES = {
    "objectness_loss": "loss_objectness",
    "rpn_box_loss": "loss_rpn_box_reg",
    "class_loss": "loss_classifier",
    "box_loss": "loss_box_reg",
}


def build_drawn(name):
    """Returns a detector for inference whose weights are functions of the names of its tensors."""
    ours = DETECTORS[name]
    height, width, _ = ours["input_shape"]
    before, after = PROPOSALS[name]
    options = {
        "min_size": min(height, width),
        "max_size": max(height, width),
        "rpn_pre_nms_top_n_test": before,
        "rpn_post_nms_top_n_test": after,
        "rpn_pre_nms_top_n_train": before,
        "rpn_post_nms_top_n_train": after,
        "rpn_batch_size_per_image": ALL_ANCHORS,
        "box_batch_size_per_image": ALL_REGIONS,
        "box_positive_fraction": 1.0,
    }
    num_classes = ours["num_classes"] + 1
    if name == "small":
        net = FasterRCNN(**_small_parts(ours, num_classes), **options)
    else:
        net = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=num_classes, **options)
    state = {}
    for key, value in net.state_dict().items():
        drawn = draw_detector_tensor(key, tuple(value.shape)) if value.ndim else np.int64(7)
        state[key] = torch.as_tensor(drawn)
    net.load_state_dict(state)
    return net.eval()


def _small_parts(ours, num_classes):
    trunk = resnet18(norm_layer=FrozenBatchNorm2d)
    levels = {f"layer{stage}": str(stage - 1) for stage in (1, 2, 3, 4)}
    return {
        "backbone": BackboneWithFPN(trunk, levels, [64, 128, 256, 512], ours["width"]),
        "rpn_anchor_generator": AnchorGenerator(((32,), (64,), (128,), (256,), (512,)), ((0.5, 1.0, 2.0),) * 5),
        "box_head": TwoMLPHead(ours["width"] * 7 * 7, ours["head_width"]),
        "box_predictor": FastRCNNPredictor(ours["head_width"], num_classes),
    }


def answers(net, image):
    """Returns the detector's outputs for an image `[1, H, W, 3]`, 0..255, of the size that it does not resize."""
    outputs, hooks = {}, []

    def keep_raw(_, __, output):
        logits, deltas = concat_box_prediction_layers(*output)
        outputs["objectness"], outputs["rpn_deltas"] = logits[:, 0].numpy(), deltas.numpy()

    def keep_rois(_, __, output):
        outputs["rois"] = output[0][0].numpy()

    hooks.append(net.rpn.head.register_forward_hook(keep_raw))
    hooks.append(net.rpn.register_forward_hook(keep_rois))
    with torch.no_grad():
        detections = net([torch.as_tensor(image[0]).permute(2, 0, 1) / 255])[0]
    for hook in hooks:
        hook.remove()
    return outputs | {key: value.numpy() for key, value in detections.items()}


def answers_by_level(net, image):
    """Returns the outputs of the first network for an image of any size, which the detector pads."""
    pixels = torch.as_tensor(image[0]).permute(2, 0, 1) / 255
    with torch.no_grad():
        pyramid = net.backbone(net.transform.normalize(pixels)[None])
        logits, deltas = concat_box_prediction_layers(*net.rpn.head(list(pyramid.values())))
    return {"odd_objectness": logits[:, 0].numpy(), "odd_rpn_deltas": deltas.numpy()}


def losses(net, image, boxes, labels):
    """Returns the four losses of an image, by the names of this package, with the batch norms in inference mode."""
    net.train()
    net.backbone.eval()
    pixels, target = torch.as_tensor(image[0]).permute(2, 0, 1) / 255, {"boxes": boxes[0], "labels": labels[0] + 1}
    with torch.no_grad():
        values = net([pixels], [{key: torch.as_tensor(value) for key, value in target.items()}])
    net.eval()
    return {ours: values[theirs].numpy() for ours, theirs in LOSSES.items()}


def all_answers(name, net):
    """Returns all of these outputs."""
    size, num_classes = DETECTORS[name]["input_shape"][:2], DETECTORS[name]["num_classes"]
    outputs = answers(net, draw_image(*size)) | answers_by_level(net, draw_image(*ODD_SIZE))
    return outputs | losses(net, draw_image(*size), *draw_truth(*size, num_classes))


def main(name, folder):
    """Writes the random weights and the outputs."""
    net = build_drawn(name)
    torch.save(net.state_dict(), Path(folder) / "weights.pth")
    np.savez(Path(folder) / "answers.npz", **all_answers(name, net))


if __name__ == "__main__":
    main(*sys.argv[1:])
