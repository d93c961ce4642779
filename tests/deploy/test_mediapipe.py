"""The real MediaPipe runtime opens the files and gives the same detections."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_lightdet.deploy import TFLiteDetector, flatbuffer, metadata
from keras_lightdet.deploy.mediapipe_check import compare_detections, detect_with_mediapipe, in_whole_pixels
from keras_lightdet.deploy.metadata import pack_labels
from keras_lightdet.deploy.tflite_convert import convert_network
from keras_lightdet.detection import Detections
from keras_lightdet.errors import ExportError
from keras_lightdet.images import resize_image

pytest.importorskip("mediapipe")


@pytest.mark.parametrize(("quantize", "form"), [("int8", "builtin"), ("none", "custom_op")])
def test_mediapipe_gives_the_same_labels_and_boxes(exported, images, quantize, form):
    path = exported(quantize, form)[0]
    mediapipe_results = detect_with_mediapipe(path, images[:4])
    own = TFLiteDetector(path).detect(images[:4], score_threshold=0.0)
    assert sum(map(len, own)) > 10
    for expected, detections in zip(own, mediapipe_results, strict=True):
        assert len(detections) == len(expected)
        # int8 scores are often equal: at the cut to `max_detections` each runtime may keep different ones.
        sure = expected.above(float(expected.scores[-1]) + 1e-3)
        difference = compare_detections(in_whole_pixels(sure), detections)
        assert difference.compared > 5
        assert difference.missing == 0
        assert difference.max_distance <= 1  # a side of 1.99999 may be truncated to 1


@pytest.mark.parametrize("size", [(32, 32), (192, 192)])
def test_mediapipe_passes_the_network_the_same_pixels_as_detect(tmp_path, size):
    def flatten(inputs):
        return {"pixels": tf.reshape(inputs["images"], (1, -1))}

    model = flatbuffer.unpack(convert_network(flatten, {"images": (1, *size, 3)}))
    metadata.set_metadata(model, "identity", [metadata.feature_table("embedding")])
    (tmp_path / "identity.tflite").write_bytes(flatbuffer.pack(model))
    random = np.random.default_rng(0)
    extents = [size, (384, 512), (463, 487), (375, 500), (480, 640), (150, 100), (1000, 777)]
    images = [random.integers(0, 256, (*extent, 3), np.uint8) for extent in extents]
    np.savez(tmp_path / "images.npz", *images)
    script = Path(__file__).parent / "mediapipe_pixels.py"
    files = [tmp_path / name for name in ("identity.tflite", "images.npz", "pixels.npz")]
    process = subprocess.run([sys.executable, script, *files], capture_output=True, text=True, timeout=120, check=False)
    assert process.returncode == 0, process.stderr[-1000:]
    for image, pixels in zip(images, np.load(files[2]).values(), strict=True):
        np.testing.assert_array_equal(pixels.reshape(*size, 3), resize_image(image, size))


def test_a_file_without_metadata_is_rejected_by_name(exported, images, tmp_path):
    model = flatbuffer.unpack(flatbuffer.read_content(exported("none")[0]))
    model.metadata = []
    path = tmp_path / "bare.tflite"
    path.write_bytes(pack_labels(flatbuffer.pack(model), ("disc", "square", "star")))
    with pytest.raises(ExportError, match=r"(?s)bare\.tflite.*[Mm]etadata"):
        detect_with_mediapipe(path, images[:1])


def test_the_time_limit_is_enforced(exported, images):
    with pytest.raises(ExportError, match="within 0.05 s"):
        detect_with_mediapipe(exported("none")[0], images[:1], time_limit=0.05)


def test_boxes_are_truncated_to_whole_pixels():
    detections = in_whole_pixels(Detections(np.float32([[19.08, 50.89, 21.22, 53.79]]), np.ones(1), np.zeros(1)))
    np.testing.assert_array_equal(detections.boxes, [[19, 50, 21, 52]])


def test_differences_are_counted():
    boxes = np.float32([[0, 0, 10, 10], [20, 20, 40, 40], [5, 5, 9, 9], [50, 50, 80, 80]])
    first = Detections(boxes, np.ones(4), np.array([0, 1, 1, 1]))
    # The first is off by 1 pixel, the second has another label, the third is off by 3, the last by 5.
    boxes = np.float32([[0, 0, 10, 11], [20, 20, 40, 40], [5, 5, 9, 12], [50, 50, 80, 85]])
    other = Detections(boxes, np.ones(4), np.array([0, 0, 1, 1]))
    difference = compare_detections(first, other)
    assert (difference.compared, difference.missing, difference.max_distance) == (4, 3, 1.0)
    none = Detections(boxes[:0], np.ones(0), np.zeros(0, int))
    difference = compare_detections(first, none)
    assert (difference.compared, difference.missing, difference.max_distance) == (4, 4, 0.0)
    assert compare_detections(none, first).compared == 0
