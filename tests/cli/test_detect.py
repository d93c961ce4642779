"""`lightdet detect` on images, folders and videos, with weights and with .tflite files."""

import json

import numpy as np
import pytest
from PIL import Image

from keras_lightdet.deploy import TFLiteSegmenter
from keras_lightdet.images import read_image


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_folder_gets_annotated_images_and_detections(run, detector, detector_weights, photos, tmp_path):
    out = tmp_path / "out"
    text = run("detect", photos, "--weights", detector_weights, "--output-dir", out)
    assert f"2 annotated images in {out / 'images'}" in text
    entries = read_json(out / "detections.json")
    assert [entry["image"] for entry in entries] == [str(photos / "a.png"), str(photos / "sub" / "b.jpg")]
    assert [entry["image_id"] for entry in entries] == [1, 2]
    for entry in entries:
        expected = detector.detect(entry["image"])
        assert entry["detections"] == expected.to_dict() and len(expected) > 0
        assert (entry["height"], entry["width"]) == read_image(entry["image"]).shape[:2]
    with Image.open(out / "images" / "a.png") as image:
        assert image.size >= (entries[0]["width"], entries[0]["height"])
    assert (out / "images" / "sub" / "b.jpg").is_file()


def test_coco_results_have_corner_and_size(run, detector_file, photos, tmp_path):
    run("detect", photos / "a.png", "--model", detector_file, "--output-dir", tmp_path, "--score-threshold", 0.2)
    (entry,) = read_json(tmp_path / "detections.json")
    results = read_json(tmp_path / "coco_results.json")
    assert len(results) == len(entry["detections"]) > 0
    for result, detection in zip(results, entry["detections"], strict=True):
        x_min, y_min, x_max, y_max = detection["box"]
        assert result == {
            "image_id": 1,
            "category_id": detection["label"] + 1,
            "bbox": [x_min, y_min, x_max - x_min, y_max - y_min],
            "score": detection["score"],
        }
        assert detection["score"] >= 0.2


def test_weights_and_float_file_agree(run, detector_weights, detector_file, photos, tmp_path):
    for source in (("--weights", detector_weights), ("--model", detector_file)):
        run("detect", photos, *source, "--output-dir", tmp_path / source[0])
    keras, tflite = (read_json(tmp_path / name / "detections.json") for name in ("--weights", "--model"))
    for ours, theirs in zip(keras, tflite, strict=True):
        assert [d["class"] for d in ours["detections"]] == [d["class"] for d in theirs["detections"]]
        boxes = ([d["box"] for d in entry["detections"]] for entry in (ours, theirs))
        np.testing.assert_allclose(*boxes, atol=0.1)


def test_numbers_in_file_names_are_the_image_ids(run, detector_file, photos, tmp_path):
    for name in ("000000000139.png", "7.png"):
        Image.fromarray(read_image(photos / "a.png")).save(tmp_path / name)
    inputs = [tmp_path / "000000000139.png", tmp_path / "7.png"]
    run("detect", *inputs, "--model", detector_file, "--output-dir", tmp_path / "out")
    assert [entry["image_id"] for entry in read_json(tmp_path / "out" / "detections.json")] == [139, 7]


def test_equal_names_do_not_overwrite_each_other(run, detector_file, photos, tmp_path):
    (tmp_path / "more").mkdir()
    Image.fromarray(read_image(photos / "a.png")).save(tmp_path / "more" / "a.png")
    run("detect", photos, tmp_path / "more", "--model", detector_file, "--output-dir", tmp_path / "out")
    names = {path.name for path in (tmp_path / "out" / "images").rglob("*.*")}
    assert names == {"a.png", "a_2.png", "b.jpg"}


def test_equal_names_with_other_suffixes_get_masks_of_their_own(run, segmenter_file, photos, tmp_path):
    Image.fromarray(read_image(photos / "a.png")).save(photos / "a.jpg")
    run("detect", photos, "--model", segmenter_file, "--output-dir", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out" / "masks").glob("*.png")} == {"a.png", "a_2.png"}
    assert {path.name for path in (tmp_path / "out" / "images").glob("*.*")} == {"a.jpg", "a_2.png"}


def test_videos_of_equal_names_do_not_overwrite_each_other(run, detector_file, video, tmp_path):
    copy = tmp_path / "more" / video.name
    copy.parent.mkdir()
    copy.write_bytes(video.read_bytes())
    out = tmp_path / "out"
    run("detect", video, copy, "--model", detector_file, "--output-dir", out, "--frame-step", 5)
    assert {path.name for path in (out / "images").iterdir()} == {"street.mp4", "street_2.mp4"}
    assert [entry["video"] for entry in read_json(out / "detections.json")] == [str(video), str(copy)]


def test_results_are_written_even_if_all_images_are_damaged(run, detector_file, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    text = run("detect", tmp_path / "broken.png", "--model", detector_file, "--output-dir", tmp_path / "out", code=1)
    assert text.startswith("skipped: Expected ")
    assert read_json(tmp_path / "out" / "detections.json") == []


def test_a_damaged_image_is_skipped_and_named(run, detector_file, photos, tmp_path):
    (photos / "broken.png").write_bytes((photos / "a.png").read_bytes()[:200])
    text = run("detect", photos, "--model", detector_file, "--output-dir", tmp_path, code=1)
    assert "skipped: Expected " in text and "broken.png" in text
    assert len(read_json(tmp_path / "detections.json")) == 2


@pytest.mark.parametrize("kind", ["empty", "text"])
def test_inputs_without_images_are_an_error(run, detector_file, tmp_path, kind):
    path = tmp_path / kind
    path.mkdir() if kind == "empty" else path.write_text("no image")
    assert kind in run("detect", path, "--model", detector_file, "--output-dir", tmp_path / "out", code=1)
    assert not (tmp_path / "out").exists()


def test_a_segmenter_writes_masks(run, segmenter, segmenter_weights, segmenter_file, photos, tmp_path):
    for flag, path, model in (
        ("--weights", segmenter_weights, segmenter),
        ("--model", segmenter_file, TFLiteSegmenter(segmenter_file)),
    ):
        out = tmp_path / flag
        run("detect", photos, flag, path, "--output-dir", out)
        mask = np.asarray(Image.open(out / "masks" / "sub" / "b.png"))
        np.testing.assert_array_equal(mask, model.segment(photos / "sub" / "b.jpg"))
        lines = [f"{label} {name}" for label, name in enumerate(model.class_names)]
        assert (out / "masks" / "labels.txt").read_text().splitlines() == lines
        assert (out / "images" / "a.png").is_file()
        assert not (out / "detections.json").exists()


@pytest.fixture
def video(photos, tmp_path):
    opencv = pytest.importorskip("cv2")
    pixels = read_image(photos / "a.png")
    path = tmp_path / "street.mp4"
    writer = opencv.VideoWriter(str(path), opencv.VideoWriter_fourcc(*"mp4v"), 10.0, (pixels.shape[1], pixels.shape[0]))
    for _ in range(5):
        writer.write(np.ascontiguousarray(pixels[..., ::-1]))
    writer.release()
    return path


def test_frames_of_a_video_are_annotated(run, detector_file, video, tmp_path):
    import cv2

    out = tmp_path / "out"
    run("detect", video, "--model", detector_file, "--output-dir", out, "--frame-step", 2)
    entries = read_json(out / "detections.json")
    assert [(entry["video"], entry["frame"], entry["seconds"]) for entry in entries] == [
        (str(video), number, number / 10) for number in (0, 2, 4)
    ]
    assert [entry["image_id"] for entry in entries] == [1, 2, 3]
    capture = cv2.VideoCapture(str(out / "images" / "street.mp4"))
    assert (capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)) == (3, 5)


def test_frames_of_a_video_get_masks(run, segmenter_file, video, tmp_path):
    run("detect", video, "--model", segmenter_file, "--output-dir", tmp_path / "out", "--frame-step", 3)
    masks = sorted(path.name for path in (tmp_path / "out" / "masks" / "street").iterdir())
    assert masks == ["000000.png", "000003.png"]


def test_a_damaged_video_is_an_error(run, detector_file, tmp_path):
    pytest.importorskip("cv2")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    assert "broken.mp4" in run(
        "detect", tmp_path / "broken.mp4", "--model", detector_file, "--output-dir", tmp_path, code=1
    )


def test_a_video_without_opencv_names_the_package(run, detector_file, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    (tmp_path / "a.mp4").write_bytes(b"")
    assert "pip install opencv-python" in run(
        "detect", tmp_path / "a.mp4", "--model", detector_file, "--output-dir", tmp_path, code=1
    )
