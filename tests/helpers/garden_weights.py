"""SpineNets whose weights follow from their layers' names, so that two libraries can be given the same ones."""

from torch_tensors import draw_tensor

from keras_lightdet.backbones import MobileSpineNet, SpineNet

NETS = {"spinenet49s": (SpineNet, {"variant": "49s"}), "mobile_spinenet49": (MobileSpineNet, {"variant": "49"})}
# How tests/torch_tensors.py knows the parts.
_PARTS = {"gamma": "weight", "moving_variance": "running_var"}


def draw_weights(layer):
    """The arrays of `layer.set_weights`: He-like kernels by fan-in, gammas and variances away from 0 and 1."""
    drawn = []
    for weight in layer.weights:
        shape = tuple(weight.shape)
        name = f"{layer.name}.{_PARTS.get(weight.name, weight.name)}"
        if len(shape) == 4:
            inputs = 1 if "depthwise" in layer.name else shape[2]
            outputs = shape[2] if "depthwise" in layer.name else shape[3]
            drawn.append(draw_tensor(name, (outputs, inputs, *shape[:2])).transpose(2, 3, 1, 0).reshape(shape))
        else:
            drawn.append(draw_tensor(name, shape))
    return drawn
