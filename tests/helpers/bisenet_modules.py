"""The modules of the first author's BiSeNet (TorchSeg, model/bisenet) by the layers of this package."""

import re

from keras_lightdet.foreign_weights.torchvision import RESNET

SIZE, CLASSES = (95, 130), 5  # odd and even sides, so that no map is a multiple of the one above it
# Of both variants: the folder of the network in TorchSeg.
FOLDERS = {ours: f"cityscapes.bisenet.{theirs}" for ours, theirs in (("resnet18", "R18"), ("xception39", "X39"))}
# Our layer whose output is theirs of the module.
OUTPUTS = {
    "spatial_conv4_act": "spatial_path",
    "context_act": "global_context",
    "arm32_weigh": "arms.0",
    "arm16_weigh": "arms.1",
    "refine32_act": "refines.0",
    "refine16_act": "refines.1",
    "ffm_add": "ffm",
    "aux_p16_class": "heads.0.conv_1x1",
    "aux_p8_class": "heads.1.conv_1x1",
    "head_class": "heads.2.conv_1x1",
}
_PARTS = {
    **{
        f"spatial_conv{n}": f"spatial_path.conv_{kernel}"
        for n, kernel in enumerate(("7x7", "3x3_1", "3x3_2", "1x1"), 1)
    },
    "context": "global_context.1",
    **{f"arm{32 >> n}": f"arms.{n}.conv_3x3" for n in (0, 1)},
    **{f"arm{32 >> n}_gate": f"arms.{n}.channel_attention.1" for n in (0, 1)},
    **{f"refine{32 >> n}": f"refines.{n}" for n in (0, 1)},
    "ffm": "ffm.conv_1x1",
    **{head: f"heads.{n}.conv_3x3" for n, head in enumerate(("aux_p16", "aux_p8", "head"))},
}
_WHOLE = {
    **{f"ffm_gate{n}": f"ffm.channel_attention.{n}.conv" for n in (1, 2)},
    **{f"{head}_class": f"heads.{n}.conv_1x1" for n, head in enumerate(("aux_p16", "aux_p8", "head"))},
}


def module_of(layer: str, variant: str) -> str:
    """Returns the name of the module of one of our layers with weights."""
    if layer in _WHOLE:
        return _WHOLE[layer]
    stem, kind = layer.rsplit("_", 1)
    if stem in _PARTS:
        return f"{_PARTS[stem]}.{kind}"
    return f"context_path.{RESNET.module(layer) if variant == 'resnet18' else _xception_module(stem, kind)}"


def _xception_module(stem: str, kind: str) -> str:
    if stem == "stem":
        return f"conv1.{kind}"
    stage, block, branch, conv = re.fullmatch(
        r"stage(\d)_block(\d)_(shortcut|sep\d)_(depthwise|pointwise)", stem
    ).groups()
    branch = "proj" if branch == "shortcut" else f"residual_branch.{int(branch[-1]) - 1}"
    inner = "conv1" if conv == "depthwise" else f"point_wise_cbr.{kind}"
    return f"layer{int(stage) - 1}.{int(block) - 1}.{branch}.{inner}"
