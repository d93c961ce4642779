"""Writes bisenet.npz, the outputs of the BiSeNet of the paper's first author.

    git clone https://github.com/ycszen/TorchSeg  # written with commit 62eeb159
    python tests/golden/make_bisenet.py TorchSeg

Runs TorchSeg's networks (MIT license; nothing of it is stored) in torch, in eval mode, on a random image. The weights
are functions of the tensors' names (tests/helpers/torch_tensors.py). The file has the largest value and some others of
each map. TorchSeg's configuration and its loading of checkpoints, which do not compute anything here, are replaced.
"""

import runpy
import sys
import types
from pathlib import Path

import numpy as np
import torch  # before TensorFlow, which the others import

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))
from bisenet_modules import CLASSES, FOLDERS, OUTPUTS, SIZE  # noqa: E402
from torch_tensors import draw_image, draw_tensor, summarize  # noqa: E402

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def build(checkout: Path, variant: str):
    """Returns the network for inference, with random weights."""
    sys.path.insert(0, str(checkout / "furnace"))
    settings = types.SimpleNamespace(num_classes=CLASSES, bn_eps=1e-5, bn_momentum=0.1)
    sys.modules["config"] = types.SimpleNamespace(config=settings)
    sys.modules["utils.pyt_utils"] = types.SimpleNamespace(load_model=None)
    module = runpy.run_path(str(checkout / "model" / "bisenet" / FOLDERS[variant] / "network.py"))
    losses = (None,) * (1 if variant == "resnet18" else 2)
    net = module["BiSeNet"](CLASSES, False, *losses)
    state = net.state_dict()
    for key, value in state.items():
        if value.ndim:
            state[key] = torch.as_tensor(draw_tensor(key, tuple(value.shape)))
    net.load_state_dict(state)
    return net.eval()


def answers(net, image: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the maps of `OUTPUTS`, channels last."""
    maps = {}

    def keep(name):  # a copy, for some maps are changed in place
        return lambda module, given, output: maps.update({name: output.clone()})

    hooks = [net.get_submodule(module).register_forward_hook(keep(name)) for name, module in OUTPUTS.items()]
    images = torch.as_tensor(((image / 255 - np.array(MEAN)) / np.array(STD)).astype("float32").transpose(0, 3, 1, 2))
    with torch.no_grad():
        net(images)
        for head, place in ((0, "refine32_act"), (1, "refine16_act")):  # which it runs in training only
            net.heads[head](maps[place])
    for hook in hooks:
        hook.remove()
    return {name: output.numpy().transpose(0, 2, 3, 1) for name, output in maps.items()}


def main(checkout: Path) -> None:
    """Runs both variants: `[outputs in their order, largest absolute value and samples]` for each."""
    golden = {}
    for variant in FOLDERS:
        maps = answers(build(checkout, variant), draw_image(*SIZE))
        golden[variant] = np.array([summarize(name, maps[name]) for name in OUTPUTS], np.float32)
    np.savez_compressed(Path(__file__).with_name("bisenet.npz"), **golden)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
