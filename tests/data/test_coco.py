"""COCO files: sparse ids, crowds, empty images, and reported faults."""

import json

import numpy as np
import pytest
from data_trees import coco_folder, save_image
from shared_data import shared_data

from keras_lightdet.data.detection.coco import load_coco
from keras_lightdet.data.detection.loading import load_data
from keras_lightdet.errors import DataError


def load(root, **options):
    return load_coco(root / "annotations" / "instances_train.json", root / "train", **options)


def test_boxes_areas_crowds_and_sparse_ids(tmp_path):
    root = coco_folder(
        tmp_path / "d",
        categories=[{"id": 90, "name": "zoo"}, {"id": 3, "name": "ant"}],
        annotations=[
            {"id": 1, "image_id": 1, "category_id": 90, "bbox": [4.5, 6, 20, 10.25], "area": 150.5, "iscrowd": 0},
            {"id": 2, "image_id": 1, "category_id": 3, "bbox": [0, 0, 64, 48], "iscrowd": 1, "segmentation": {}},
        ],
    )
    data = load(root)
    assert data.class_names == ("ant", "zoo") and data.category_ids == (3, 90)
    (record,) = data.records
    np.testing.assert_array_equal(record.boxes, [[4.5, 6, 24.5, 16.25], [0, 0, 64, 48]])
    assert record.labels.tolist() == [1, 0] and record.ignore.tolist() == [False, True]
    np.testing.assert_array_equal(record.areas, [150.5, 64 * 48])
    assert record.image_id == 1 and data.issues == ()


def test_images_without_boxes_are_kept(tmp_path):
    assert len(load(coco_folder(tmp_path / "d", annotations=[])).records[0].boxes) == 0


def test_class_names_set_the_label_order_and_must_match(tmp_path):
    categories = [{"id": 1, "name": "ant"}, {"id": 7, "name": "bee"}]
    root = coco_folder(tmp_path / "d", categories=categories)
    data = load(root, class_names=("bee", "ant"))
    assert data.category_ids == (7, 1) and data.records[0].labels.tolist() == [0]
    with pytest.raises(DataError, match=r"\['bee', 'cow'\], got \['ant', 'bee'\]"):
        load(root, class_names=("bee", "cow"))


def test_faults_are_reported_and_valid_boxes_kept(tmp_path):
    base = {"image_id": 1, "category_id": 7}
    boxes = {
        1: [4, 6, 20, 10],
        2: [4, 6, 0, 10],
        3: [4, 6, -5, 10],
        4: [float("nan"), 6, 5, 10],
        5: [4, 6, float("inf"), 10],
        6: [70, 6, 5, 10],
        7: [50, 6, 40, 10],
        8: [4, 6, 20],
        9: "wide",
        10: [10**400, 0, 5, 5],
    }
    annotations = [{"id": number, "bbox": box, **base} for number, box in boxes.items()]
    annotations += [
        {"id": 1, "bbox": [4, 6, 20, 10], **base},
        {"id": 11, "bbox": [4, 6, 20, 10], "image_id": 99, "category_id": 7},
        {"id": 12, "bbox": [4, 6, 20, 10], "image_id": 1, "category_id": 99},
        {"id": 13, "bbox": [4, 6, 20, 10], "image_id": [1], "category_id": 7},
    ]
    images = [
        {"id": 1, "file_name": "a.jpg", "width": 64, "height": 48},
        {"id": 1, "file_name": "b.jpg"},
        {"id": 2, "file_name": "absent.jpg"},
        {"id": 3},
    ]
    data = load(coco_folder(tmp_path / "d", annotations=annotations, images=images))
    (record,) = data.records
    np.testing.assert_array_equal(record.boxes, [[4, 6, 24, 16], [50, 6, 64, 16]])
    kinds = {kind: sum(issue.kind == kind for issue in data.issues) for kind in {i.kind for i in data.issues}}
    assert kinds == {
        "box without area": 2,
        "box not finite": 3,
        "box outside": 1,
        "box clipped": 1,
        "box missing": 2,
        "annotation twice": 1,
        "unknown image id": 2,
        "unknown category id": 1,
        "image id twice": 1,
        "image entry": 1,
        "image unreadable": 1,
    }
    assert all(issue.path.endswith(("instances_train.json", "absent.jpg")) for issue in data.issues)


@pytest.mark.parametrize(
    "categories",
    [
        [],
        [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}],
        [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}],
        [{"id": "1", "name": "a"}],
        [{"id": 1}],
    ],
)
def test_invalid_categories_are_an_error(tmp_path, categories):
    with pytest.raises(DataError, match="instances_train.json"):
        load(coco_folder(tmp_path / "d", categories=categories))


@pytest.mark.parametrize("layout", ["annotations/instances_val2017.json", "valid/_annotations.coco.json"])
def test_common_layouts_are_detected(tmp_path, layout):
    source = coco_folder(tmp_path / "source")
    root = tmp_path / "d"
    (root / layout).parent.mkdir(parents=True)
    content = (source / "annotations" / "instances_train.json").read_text()
    (root / layout).write_text(content)
    save_image(root / ("val2017" if "2017" in layout else "valid") / "a.jpg")
    split = "val" if "2017" in layout else "valid"
    assert [record.image_id for record in load_data(root, split).records] == [1]
    with pytest.raises(DataError, match="split 'test'"):
        load_data(root, "test")


def test_coco_mini_has_the_counts_of_its_readme():
    root = shared_data("coco_mini")
    train, val = load_data(root, "train"), load_data(root, "val")
    assert (len(train), len(val)) == (39, 44)
    assert [sum(len(r.boxes) for r in data.records) for data in (train, val)] == [407, 304]
    assert [sum(int(r.ignore.sum()) for r in data.records) for data in (train, val)] == [6, 3]
    assert len(train.class_names) == 80 and train.category_ids[-1] == 90 and train.category_ids[11] == 13
    assert {record.image_id for record in val.records if not len(record.boxes)} == {58636, 226111}
    assert train.issues == val.issues == ()


def test_coco_mini_boxes_equal_those_of_pycocotools():
    coco_api = pytest.importorskip("pycocotools.coco")
    root = shared_data("coco_mini")
    path = root / "annotations" / "instances_val.json"
    api, data = coco_api.COCO(str(path)), load_data(root, "val")
    assert len(json.loads(path.read_text())["images"]) == len(data)
    for record in data.records:
        wanted = api.loadAnns(api.getAnnIds(imgIds=[record.image_id]))
        xywh = np.concatenate([record.boxes[:, :2], record.boxes[:, 2:] - record.boxes[:, :2]], -1)
        np.testing.assert_allclose(xywh, np.reshape([a["bbox"] for a in wanted], [-1, 4]), atol=1e-3)
        assert [data.category_ids[label] for label in record.labels] == [a["category_id"] for a in wanted]
        np.testing.assert_allclose(record.areas, [a["area"] for a in wanted], rtol=1e-6)
