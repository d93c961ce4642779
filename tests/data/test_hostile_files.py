"""Malicious files are errors that name the file, or skipped and reported, in little time and memory."""

import json
import resource
import struct
import time
import zlib
from contextlib import contextmanager

import pytest
from data_trees import coco_folder, voc_tree, voc_xml

from keras_lightdet.data.detection.coco import load_coco
from keras_lightdet.data.detection.loading import load_data
from keras_lightdet.data.detection.voc import load_voc, read_voc_annotation
from keras_lightdet.errors import DataError
from keras_lightdet.images import read_image, read_size

MAX_SECONDS = 2.0
MAX_BYTES = 500e6


@contextmanager
def cheap():
    """Fails if the block takes 2 s of processor time, which other processes do not change, or 500 MB."""
    start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    seconds = time.process_time() - start
    assert seconds < MAX_SECONDS and grown < MAX_BYTES, f"{seconds:.2f} s, {grown / 1e6:.0f} MB"


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG file whose header states a size, with compressed pixels of any number."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


IMAGES = {
    "400 megapixels": png(20_000, 20_000, zlib.compress(bytes(1_000_000))),
    "100 megapixels": png(10_000, 10_000, zlib.compress(bytes(1_000_000))),
    "no pixels": png(60, 60),
    "short pixels": png(60, 60, zlib.compress(bytes(100))),
    "no width": png(0, 60),
    "huge text": b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 0x7FFFFFFF) + b"zTXt" + b"x" * 50,
    "jpeg of 65535 x 65535": bytes.fromhex("ffd8ffc0001108ffffffff03012200021101031101ffd9"),
    "bmp of negative size": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 99, 0, 0, 54, 40, -9, -9, 1, 24, 0, 0, 0, 0, 0, 0),
    "webp of nothing": b"RIFF\xff\xff\xff\xffWEBPVP8 " + b"\xff" * 40,
}


@pytest.mark.parametrize("name", IMAGES)
def test_malicious_images_are_errors(tmp_path, name):
    path = tmp_path / "bad.png"
    path.write_bytes(IMAGES[name])
    with cheap(), pytest.raises(DataError, match=r"bad.png.*(remove it|Remove)"):
        read_image(path)


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(20_000, 20_000, zlib.compress(bytes(40_000_000), 9)))
    assert path.stat().st_size < 48_000
    with cheap(), pytest.raises(DataError, match="at most 64000000 pixels"):
        read_size(path)


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
ANNOTATIONS = {
    "billion laughs": f'<!DOCTYPE a [<!ENTITY l0 "lol">{LAUGHS}]><annotation><filename>&l9;</filename></annotation>',
    "quadratic": f'<!DOCTYPE a [<!ENTITY x "{"x" * 50_000}">]><annotation>{"&x;" * 5_000}</annotation>',
    "external entity": '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>',
    "external dtd": '<!DOCTYPE a SYSTEM "http://localhost:9/a.dtd"><annotation/>',
    "cut off": voc_xml([("cat", 1, 1, 9, 9)])[:80],
    "empty": "",
    "not xml": "\x00\x01\x02",
    "another root": "<html/>",
    "unknown encoding": '<?xml version="1.0" encoding="nonsense"?><annotation/>',
    "too many objects": voc_xml([("cat", 1, 1, 9, 9)] * 10_001),
    "too many bytes": f"<annotation><!--{'x' * 5_000_000}--></annotation>",
}


@pytest.mark.parametrize("name", ANNOTATIONS)
def test_malicious_annotations_are_errors_and_skipped_by_the_reader(tmp_path, name):
    root = voc_tree(tmp_path / "d", {"bad": [], "good": [("cat", 1, 1, 9, 9)]})
    path = root / "Annotations" / "bad.xml"
    path.write_text(ANNOTATIONS[name])
    with cheap(), pytest.raises(DataError, match=r"bad.xml.*(Export it again|Remove them|Split)"):
        read_voc_annotation(path)
    data = load_voc(root)
    assert [record.image_id for record in data.records] == ["good"]
    assert [issue.path for issue in data.issues] == [str(path)]


def test_deeply_nested_xml_is_read_or_skipped(tmp_path):
    root = voc_tree(tmp_path / "d", {"deep": [], "good": [("cat", 1, 1, 9, 9)]})
    depth = 300_000
    (root / "Annotations" / "deep.xml").write_text(f"<annotation>{'<a>' * depth}{'</a>' * depth}</annotation>")
    with cheap():
        data = load_voc(root)
    assert data.records[-1].image_id == "good"


@pytest.mark.parametrize("name", ["../../secret.jpg", "/etc/hostname", "..\\secret.jpg", "C:\\a.jpg", "a\0.jpg", ""])
def test_names_that_leave_the_folder_are_skipped_and_reported(tmp_path, name):
    coco = coco_folder(tmp_path / "coco")
    content = json.loads((coco / "annotations" / "instances_train.json").read_text())
    content["images"].append({"id": 2, "file_name": name})
    (coco / "annotations" / "instances_train.json").write_text(json.dumps(content))
    voc = voc_tree(tmp_path / "voc", {"bad": [], "good": []})
    (voc / "JPEGImages" / "bad.jpg").unlink()
    if "\0" not in name:  # which XML cannot contain
        (voc / "Annotations" / "bad.xml").write_text(voc_xml([], filename=name))
        data = load_voc(voc)
        assert [record.image_id for record in data.records] == ["good"]
        assert [issue.kind for issue in data.issues] == ["path escape"]
        with pytest.raises(DataError, match="bad.xml.*leave the data folder"):
            load_voc(voc, strict=True)
    data = load_data(coco, "train")
    assert [record.image_id for record in data.records] == [1]
    assert [issue.kind for issue in data.issues] == ["path escape"]


def test_a_split_file_cannot_leave_the_folder(tmp_path):
    voc_tree(tmp_path / "d", {"a": []}, {"train": ["../../etc/passwd", "/etc/passwd", "a"]})
    data = load_voc(tmp_path / "d", "train")
    assert [issue.kind for issue in data.issues] == ["path escape"] * 2 and len(data) == 1


JSONS = {
    "cut off": '{"images": [{"id": 1',
    "empty": "",
    "binary": b"\xff\xfe\x00\x01",
    "deep": "[" * 400_000,
    "deep inside": '{"images": ' + "[" * 400_000,
    "list": "[]",
    "number": "12",
    "no lists": '{"images": 1, "annotations": {}, "categories": "x"}',
    "entries of numbers": '{"images": [1, 2], "annotations": [], "categories": []}',
    "huge integer": '{"images": [], "annotations": [{"id": ' + "9" * 100_000 + '}], "categories": []}',
    "no categories": '{"images": [], "annotations": [], "categories": []}',
    "no images": '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}',
}


@pytest.mark.parametrize("name", JSONS)
def test_malicious_json_is_an_error(tmp_path, name):
    path = tmp_path / "instances_bad.json"
    content = JSONS[name]
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with cheap(), pytest.raises(DataError, match=r"instances_bad.json"):
        load_coco(path, tmp_path)


def test_missing_files_are_errors(tmp_path):
    with pytest.raises(DataError, match="absent.json"):
        load_coco(tmp_path / "absent.json", tmp_path)
    for root in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match="Correct the path"):
            load_data(root, "train")
    with pytest.raises(ValueError, match="'yolo'"):
        load_data(tmp_path, "train", "yolo")
