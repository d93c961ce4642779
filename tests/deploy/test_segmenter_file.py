"""Segmenters as files: the masks of Keras in TFLite and in the real MediaPipe runtime."""

import keras
import numpy as np
import pytest
from noise_images import draw_image
from tflite_ops import quantized_ops

import keras_lightdet
from keras_lightdet.data import draw_segmentation_scenes, load_segmentation, segmentation_train_batches
from keras_lightdet.deploy import TFLiteDetector, TFLiteSegmenter, export_segmentation, flatbuffer, read_labels
from keras_lightdet.deploy.mediapipe_check import segment_with_mediapipe
from keras_lightdet.deploy.runtime import MASKS, TFLiteGraph
from keras_lightdet.errors import ExportError
from keras_lightdet.images import read_image, resize_image
from keras_lightdet.layers import conv_bn_act
from keras_lightdet.segmentation import SegmentationModel, predict_pixels
from keras_lightdet.segmentation.model import to_labels

NAMES = ("sky", "road", "car")
SIZE = (48, 64)


@pytest.fixture(scope="module")
def images():
    return [resize_image(draw_image(seed), SIZE) for seed in range(8)]


@pytest.fixture(scope="module")
def model():
    """A small network of stride 4 with random weights, its predictions scaled so that classes differ clearly."""
    keras.utils.set_random_seed(2)
    images = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 64, -2.0)(images)
    for layer in (1, 2):
        x = conv_bn_act(x, 16, 3, 2, activation="relu", name=f"conv{layer}", padding="symmetric")
    logits = predict_pixels(x, len(NAMES), name="head")
    network = keras.Model(images, {"logits": logits})
    model = SegmentationModel(network, class_names=NAMES, input_size=SIZE, name="toy")
    raw = model(np.stack([draw_image(seed) for seed in range(4)]).astype("float32"))["logits"]
    head = network.get_layer("head_class")
    head.kernel.assign(4 * head.kernel / np.std(raw))
    head.bias.assign(-4 * np.mean(raw, axis=(0, 1, 2)) / np.std(raw))
    return model


def export(model, folder, images, **options):
    path = folder / "toy.tflite"
    return path, export_segmentation(model, path, calibration=images, **options)


@pytest.mark.parametrize(
    ("quantize", "activation", "output_size", "same"),
    [("none", "softmax", None, 0.999), ("none", "none", (12, 16), 0.999), ("int8", "softmax", (96, 128), 0.97)],
)
def test_masks_are_those_of_keras(model, images, tmp_path, quantize, activation, output_size, same):
    path, report = export(model, tmp_path, images, quantize=quantize, activation=activation, output_size=output_size)
    content = flatbuffer.read_content(path)
    masks = TFLiteGraph(content).run({"images": images[0][None]})[MASKS]
    assert masks.shape == (1, *(output_size or SIZE), 3)
    logits = keras.ops.convert_to_numpy(model(images[0][None].astype("float32"))["logits"])
    if activation == "softmax":
        np.testing.assert_allclose(masks.sum(-1), 1, atol=1e-5)
    elif quantize == "none":
        np.testing.assert_allclose(masks, logits, atol=1e-4)  # at the network's own stride the masks are not resized
    labels = to_labels(logits[0], masks.shape[1:3])
    assert np.mean(masks[0].argmax(axis=-1) == labels) >= same
    assert report.same_pixels >= same
    own, expected = TFLiteSegmenter(path).segment(images), model.segment(images)
    assert len(np.unique(expected)) == 3
    if output_size is None:
        assert np.mean([a == b for a, b in zip(own, expected, strict=True)]) >= same
    assert read_labels(path) == NAMES
    if quantize == "int8":
        assert {"CONV_2D"} <= quantized_ops(content)
        assert "SOFTMAX" not in quantized_ops(content)


@pytest.mark.parametrize("activation", [pytest.param("softmax", marks=pytest.mark.slow), "none"])
def test_mediapipe_gives_the_masks_of_keras(model, images, tmp_path, activation):
    pytest.importorskip("mediapipe")
    path, _ = export(model, tmp_path, images, activation=activation)
    masks, names = segment_with_mediapipe(path, images)
    assert names == NAMES
    expected = model.segment(images)
    assert np.mean([a == b for a, b in zip(masks, expected, strict=True)]) >= 0.99


def test_wrong_arguments_and_files_are_rejected(model, images, tmp_path):
    with pytest.raises(ExportError, match="activation to be one of"):
        export(model, tmp_path, images, activation="sigmoid")
    with pytest.raises(ExportError, match="images to compare"):
        export(model, tmp_path, [])
    with pytest.raises(ExportError, match="Expected to write"):
        export(model, tmp_path / "missing", images)
    path, _ = export(model, tmp_path, images)
    with pytest.raises(ExportError, match="Export it with postprocess"):
        TFLiteDetector(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "variant", "forms"),
    [
        (keras_lightdet.BiSeNet, "xception39", ("none", "int8")),
        (keras_lightdet.DFANet, "b", ("none",)),  # its int8 file is rejected: too far from Keras
    ],
)
def test_a_trained_segmenter_in_mediapipe(build, variant, forms, tmp_path):
    """Trains for half a minute: without training, int8 has no margins between classes to preserve."""
    pytest.importorskip("mediapipe")
    data = load_segmentation(draw_segmentation_scenes(tmp_path / "scenes", {"train": 8, "val": 1}), "train")
    keras.utils.set_random_seed(0)
    model = build(class_names=data.class_names, input_shape=(96, 128, 3), variant=variant)
    model.compile(keras.optimizers.Adam(2e-3))
    batches = segmentation_train_batches(data, (96, 128), 8, seed=0, augment=None)
    model.fit(batches, steps_per_epoch=60, verbose=0)
    images = [resize_image(read_image(record.path), (96, 128)) for record in data.records]
    expected = model.segment(images)
    for quantize in forms:
        activation, same = {"none": ("softmax", 0.99), "int8": ("none", 0.97)}[quantize]
        path, _ = export(model, tmp_path, images, quantize=quantize, activation=activation)
        masks, names = segment_with_mediapipe(path, images)
        assert names == data.class_names
        assert np.mean([a == b for a, b in zip(masks, expected, strict=True)]) >= same
