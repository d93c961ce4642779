"""The normalization of images."""

import keras
import numpy as np
import tensorflow as tf

from keras_lightdet.layers import NormalizeImages

SCALE, OFFSET = (0.1, 0.2, 0.4), (-1.0, 0.5, 2.0)


def test_each_channel_has_its_own_scale_in_images_of_any_size(tmp_path):
    images = keras.Input((None, None, 3))
    model = keras.Model(images, NormalizeImages(SCALE, OFFSET)(images))
    assert model.output_shape == (None, None, None, 3)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    for size in ((5, 7), (8, 3)):
        pixels = np.random.default_rng(0).integers(0, 256, (2, *size, 3))
        expected = pixels * np.array(SCALE) + np.array(OFFSET)
        np.testing.assert_allclose(again.predict(pixels, verbose=0), expected, rtol=1e-6, atol=1e-6)
    compiled = tf.function(again, jit_compile=True)(tf.constant(pixels, tf.float32))
    np.testing.assert_allclose(compiled, expected, rtol=1e-6, atol=1e-6)


def test_it_computes_in_the_dtype_of_the_policy():
    pixels = np.full((1, 2, 2, 3), 255, "uint8")
    actual = NormalizeImages(SCALE, OFFSET, dtype="mixed_float16")(pixels)
    assert actual.dtype == "float16"
    np.testing.assert_allclose(actual[0, 0, 0], [24.5, 51.5, 104.0], rtol=2e-3)
