"""torchvision's side of the comparison: `python torchvision_nets.py NAME FOLDER` writes weights.pth and answers.npz.

A process of its own, without TensorFlow: torchvision imports triton, which crashes behind TensorFlow's LLVM.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torchvision

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))
from torch_tensors import CLASSES, SIZES, draw_image, draw_tensor  # noqa: E402

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# The modules whose outputs are the features.
SHUFFLE_LEVELS = {"stage2": "P3", "stage3": "P4", "stage4": "P5"}
RESNET_LEVELS = {"layer1": "P2", "layer2": "P3", "layer3": "P4", "layer4": "P5"}
MOBILE_LEVELS = {"features.3": "P2", "features.6": "P3", "features.13": "P4", "features.17": "P5"}
EFFICIENT_LEVELS = {"features.3": "P3", "features.5": "P4", "features.7": "P5"}
DILATED = "resnet50_dilated"  # stage 5 at stride 16, all of its 3x3 convolutions dilated


def build_drawn(name):
    """Returns a network for inference whose weights are functions of the names of its tensors."""
    net = getattr(torchvision.models, name)(weights=None, num_classes=CLASSES)
    state = {}
    for key, value in net.state_dict().items():
        drawn = draw_tensor(key, tuple(value.shape)) if value.ndim else np.int64(7)
        state[key] = torch.as_tensor(drawn)
    net.load_state_dict(state)
    return net.eval()


def build_random(name):
    """Returns a network for inference with torch's initial weights and random batch norms."""
    torch.manual_seed(0)
    if name == DILATED:
        net = torchvision.models.resnet50(num_classes=CLASSES, replace_stride_with_dilation=[False, False, True])
        first = net.layer4[0].conv2  # torchvision leaves this one undilated
        first.dilation = first.padding = (2, 2)
    else:
        net = getattr(torchvision.models, name)(weights=None, num_classes=CLASSES)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.3, 0.7)
            module.bias.data.uniform_(-0.2, 0.2)
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return net.eval()


def answers(net, image):
    """Returns features and logits for an image `[1, H, W, 3]`, 0..255, channels last."""
    levels = {
        torchvision.models.ResNet: RESNET_LEVELS,
        torchvision.models.ShuffleNetV2: SHUFFLE_LEVELS,
        torchvision.models.MobileNetV2: MOBILE_LEVELS,
        torchvision.models.EfficientNet: EFFICIENT_LEVELS,
    }[type(net)]
    outputs, hooks = {}, []
    for module, level in levels.items():

        def keep(_, __, output, level=level):
            outputs[level] = output.permute(0, 2, 3, 1).numpy()

        hooks.append(net.get_submodule(module).register_forward_hook(keep))
    pixels = torch.as_tensor(image).permute(0, 3, 1, 2) / 255
    x = torchvision.transforms.functional.normalize(pixels, MEAN, STD)
    with torch.no_grad():
        outputs["logits"] = net(x).numpy()
    for hook in hooks:
        hook.remove()
    return outputs


def main(name, folder):
    """Writes a random network's weights, and its outputs as "HxW/output"."""
    net = build_random(name)
    torch.save(net.state_dict(), Path(folder) / "weights.pth")
    all_outputs = {}
    for height, width in SIZES:
        outputs = answers(net, draw_image(height, width))
        all_outputs.update({f"{height}x{width}/{key}": values for key, values in outputs.items()})
    np.savez(Path(folder) / "answers.npz", **all_outputs)


if __name__ == "__main__":
    main(*sys.argv[1:])
