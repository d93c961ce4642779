"""DFANet's backbone: its attention over channels."""

import keras
import numpy as np

from keras_lightdet.backbones.xception_dfanet import fc_attention


def test_fc_attention_is_bounded_for_images_unlike_those_of_training():
    """A channel is weighted by at most 1 for any image: DFANet has three attentions in a row."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4, 4, 8))
    model = keras.Model(inputs, fc_attention(inputs, name="attention"))
    ordinary = np.random.default_rng(0).uniform(0.5, 1.0, (32, 4, 4, 8)).astype("float32")
    model(ordinary, training=True)  # sets the statistics of the batch norm
    extreme = ordinary * (1 + 999 * np.eye(8, dtype="float32"))[np.arange(32) % 8, None, None]
    for images in (ordinary, extreme):
        weights = (model(images) / images)[:, 0, 0]
        assert 0 <= np.min(weights) < 0.4 < 0.6 < np.max(weights) <= 1
