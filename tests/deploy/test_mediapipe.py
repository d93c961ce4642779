"""The real MediaPipe runtime opens the files and answers alike."""

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
def test_mediapipe_gives_the_same_labels_and_boxes(exported, pictures, quantize, form):
    path = exported(quantize, form)[0]
    answers = detect_with_mediapipe(path, pictures[:4])
    own = TFLiteDetector(path).detect(pictures[:4], score_threshold=0.0)
    assert sum(map(len, own)) > 10
    for expected, got in zip(own, answers, strict=True):
        assert len(got) == len(expected)
        # int8 scores are often equal: at the cut to `max_detections` each runtime keeps others of the last ones.
        sure = expected.above(float(expected.scores[-1]) + 1e-3)
        found = compare_detections(in_whole_pixels(sure), got)
        assert found.compared > 5
        assert found.missing == 0
        assert found.max_distance <= 1  # a side of 1.99999 may be cut to 1


@pytest.mark.parametrize("size", [(32, 32), (192, 192)])
def test_mediapipe_hands_the_network_the_pixels_of_detect(tmp_path, size):
    def flatten(given):
        return {"pixels": tf.reshape(given["images"], (1, -1))}

    model = flatbuffer.unpack(convert_network(flatten, {"images": (1, *size, 3)}))
    metadata.describe(model, "identity", [metadata.feature_table("embedding")])
    (tmp_path / "identity.tflite").write_bytes(flatbuffer.pack(model))
    draw = np.random.default_rng(0)
    extents = [size, (384, 512), (463, 487), (375, 500), (480, 640), (150, 100), (1000, 777)]
    images = [draw.integers(0, 256, (*extent, 3), np.uint8) for extent in extents]
    np.savez(tmp_path / "images.npz", *images)
    script = Path(__file__).parent / "mediapipe_pixels.py"
    files = [tmp_path / name for name in ("identity.tflite", "images.npz", "pixels.npz")]
    done = subprocess.run([sys.executable, script, *files], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-1000:]
    for image, pixels in zip(images, np.load(files[2]).values(), strict=True):
        np.testing.assert_array_equal(pixels.reshape(*size, 3), resize_image(image, size))


def test_a_file_without_metadata_is_refused_with_its_name(exported, pictures, tmp_path):
    model = flatbuffer.unpack(flatbuffer.read_content(exported("none")[0]))
    model.metadata = []
    path = tmp_path / "bare.tflite"
    path.write_bytes(pack_labels(flatbuffer.pack(model), ("disc", "square", "star")))
    with pytest.raises(ExportError, match=r"(?s)bare\.tflite.*[Mm]etadata"):
        detect_with_mediapipe(path, pictures[:1])


def test_the_time_limit_holds(exported, pictures):
    with pytest.raises(ExportError, match="within 0.05 s"):
        detect_with_mediapipe(exported("none")[0], pictures[:1], time_limit=0.05)


def test_whole_pixels_are_cut_off():
    found = in_whole_pixels(Detections(np.float32([[19.08, 50.89, 21.22, 53.79]]), np.ones(1), np.zeros(1)))
    np.testing.assert_array_equal(found.boxes, [[19, 50, 21, 52]])


def test_differences_are_counted():
    boxes = np.float32([[0, 0, 10, 10], [20, 20, 40, 40], [5, 5, 9, 9], [50, 50, 80, 80]])
    first = Detections(boxes, np.ones(4), np.array([0, 1, 1, 1]))
    # The first is off by 1 pixel, the second has another label, the third is off by 3, the last by 5.
    boxes = np.float32([[0, 0, 10, 11], [20, 20, 40, 40], [5, 5, 9, 12], [50, 50, 80, 85]])
    other = Detections(boxes, np.ones(4), np.array([0, 0, 1, 1]))
    found = compare_detections(first, other)
    assert (found.compared, found.missing, found.max_distance) == (4, 3, 1.0)
    none = Detections(boxes[:0], np.ones(0), np.zeros(0, int))
    found = compare_detections(first, none)
    assert (found.compared, found.missing, found.max_distance) == (4, 4, 0.0)
    assert compare_detections(none, first).compared == 0
