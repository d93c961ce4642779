"""Models: one paper, one file."""

from keras_lightdet.models.rsanet import RSANet

__all__ = ["RSANet"]
