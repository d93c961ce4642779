"""COCO figures against the published ones of pycocotools' example, loops, and figures computed by hand."""

import copy
import json
import subprocess
import sys

import numpy as np
import pytest
from evaluation_cases import detection_data, detections_of, record
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_data import shared_data

from keras_lightdet.errors import DataError
from keras_lightdet.evaluation import evaluate_coco, evaluate_coco_json
from keras_lightdet.evaluation.coco_result import COCO_FIGURES


@pytest.fixture(scope="module")
def vectors():
    root = shared_data("eval_vectors")
    names = {
        "ground_truth": "coco_val2014_100/gts.json",
        "results": "coco_val2014_100/dets.json",
        "expected": "coco_val2014_100/expected.json",
        "crowd": "coco_derived/gts_crowd.json",
        "many": "coco_derived/dets_many.json",
        "derived": "coco_derived/expected.json",
    }
    return {key: json.loads((root / name).read_text()) for key, name in names.items()}


def assert_figures(result, expected, tolerance=1e-6):
    assert {name: result.figures()[name] for name in COCO_FIGURES} == pytest.approx(
        {name: expected[name] for name in COCO_FIGURES}, abs=tolerance
    )


def as_records(ground_truth, results):
    """Converts images and detections to this package's types, in float32 and with labels from 0."""
    category_ids = sorted(c["id"] for c in ground_truth["categories"])
    names = tuple(c["name"] for c in sorted(ground_truth["categories"], key=lambda c: c["id"]))
    label_of = {category_id: label for label, category_id in enumerate(category_ids)}

    def boxes(entries):
        xywh = np.array([e["bbox"] for e in entries], np.float64).reshape(-1, 4)
        return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)

    records, detections = [], []
    for image in ground_truth["images"]:
        annotations = [a for a in ground_truth["annotations"] if a["image_id"] == image["id"]]
        own = [r for r in results if r["image_id"] == image["id"]]
        records.append(
            record(
                boxes(annotations),
                [label_of[a["category_id"]] for a in annotations],
                ignore=[a["iscrowd"] for a in annotations],
                areas=[a["area"] for a in annotations],
                image_id=image["id"],
            )
        )
        detections.append(
            detections_of(boxes(own), [r["score"] for r in own], [label_of[r["category_id"]] for r in own])
        )
    return detection_data(records, names, category_ids=tuple(category_ids)), detections


def test_the_published_figures_of_val2014_100(vectors):
    result = evaluate_coco_json(vectors["ground_truth"], vectors["results"])
    assert_figures(result, vectors["expected"]["published"])
    per_class = vectors["expected"]["pycocotools"]["per_class"]
    evaluated = {str(c.category_id): c for c in result.classes if c.num_objects}
    assert evaluated.keys() == per_class.keys()
    for category_id, figures in per_class.items():
        result_of_class = evaluated[category_id]
        got = {"AP": result_of_class.AP, "AP50": result_of_class.AP50, "AR100": result_of_class.AR100}
        assert got == pytest.approx(figures, abs=1e-9)
        assert result_of_class.curve.precision.mean() == pytest.approx(figures["AP50"], abs=1e-9)
    assert all(np.isnan([c.AP, c.AP50, c.AR100]).all() for c in result.classes if not c.num_objects)


def test_the_published_figures_from_records(vectors):
    ground_truth = copy.deepcopy(vectors["ground_truth"])
    for a in ground_truth["annotations"]:
        a.setdefault("iscrowd", 0)
    data, detections = as_records(ground_truth, vectors["results"])
    assert_figures(evaluate_coco(data, detections), vectors["expected"]["published"])


@pytest.mark.parametrize("case", ["crowd", "many_detections", "crowd_and_many", "tied_scores_one_decimal"])
def test_figures_with_crowds_ties_and_many_detections(vectors, case):
    ground_truth = vectors["crowd"] if case.startswith("crowd") else vectors["ground_truth"]
    results = vectors["many"] if case.endswith("many") or case.startswith("many") else vectors["results"]
    if case == "tied_scores_one_decimal":
        results = [{**r, "score": round(r["score"], 1)} for r in results]
    expected = vectors["derived"][case]
    assert_figures(evaluate_coco_json(ground_truth, results), expected)
    ground_truth = copy.deepcopy(ground_truth)
    for a in ground_truth["annotations"]:
        a.setdefault("iscrowd", 0)
    assert_figures(evaluate_coco(*as_records(ground_truth, results)), expected)


def test_evaluation_on_a_subset_of_images(vectors):
    first = sorted(image["id"] for image in vectors["ground_truth"]["images"])[:20]
    result = evaluate_coco_json(vectors["ground_truth"], vectors["results"], image_ids=first)
    assert_figures(result, vectors["derived"]["image_subset_first_20"])


def test_a_true_positive_below_a_false_positive_computed_by_hand():
    data = detection_data([record([[0, 0, 40, 40]], [0], image_id="a"), record([], [], image_id="b")], ("cat", "dog"))
    detections = [detections_of([[0, 0, 40, 40]], [0.5], [0]), detections_of([[5, 5, 50, 50]], [0.9], [0])]
    result = evaluate_coco(data, detections)
    assert pytest.approx(0.5) == result.AP  # the false positive in the image without objects halves the precision
    assert result.APmedium == pytest.approx(0.5)
    assert np.isnan(result.APsmall) and np.isnan(result.APlarge)
    assert pytest.approx(1.0) == result.AR1
    cat, dog = result.classes
    assert (cat.num_objects, cat.num_detections, cat.AP50) == (1, 2, pytest.approx(0.5))
    assert np.isnan(dog.AP) and len(dog.curve.recall) == 0


def test_the_first_object_of_the_first_image_can_be_matched():
    """pycocotools takes a match with annotation id 0 for no match."""
    data = detection_data([record([[0, 0, 40, 40]], [0])], ("cat",))
    assert pytest.approx(1.0) == evaluate_coco(data, [detections_of([[0, 0, 40, 40]], [0.9], [0])]).AP
    ground_truth = {
        "images": [{"id": 0}],
        "categories": [{"id": 0, "name": "cat"}],
        "annotations": [{"id": 0, "image_id": 0, "category_id": 0, "bbox": [0, 0, 40, 40]}],
    }
    results = [{"image_id": 0, "category_id": 0, "bbox": [0, 0, 40, 40], "score": 0.9}]
    assert pytest.approx(1.0) == evaluate_coco_json(ground_truth, results).AP


def test_detections_in_a_crowd_are_ignored_and_the_crowd_is_not_missed():
    boxes = [[0, 0, 40, 40], [100, 100, 300, 300]]
    data = detection_data([record(boxes, [0, 0], ignore=[False, True])], ("cat",))
    inside = [[110, 110, 150, 150], [200, 200, 260, 260]]
    result = evaluate_coco(data, [detections_of([*inside, boxes[0]], [0.9, 0.8, 0.7], [0, 0, 0])])
    assert pytest.approx(1.0) == result.AP
    assert (result.classes[0].num_objects, result.classes[0].num_crowds) == (1, 1)


def test_size_ranges_use_the_labeled_area():
    data = detection_data([record([[0, 0, 60, 60]], [0], areas=[900])], ("cat",))
    result = evaluate_coco(data, [detections_of([[0, 0, 60, 60]], [0.9], [0])])
    assert result.APsmall == pytest.approx(1.0) and np.isnan(result.APmedium)


def test_no_detections_give_zero_and_no_images_give_nan():
    data = detection_data([record([[0, 0, 40, 40]], [0])], ("cat",))
    assert evaluate_coco(data, [detections_of([], [], [])]).AP == 0.0
    assert np.isnan(evaluate_coco(detection_data([], ("cat",)), []).AP)


def test_evaluation_prints_nothing(capsys):
    evaluate_coco(detection_data([record([[0, 0, 9, 9]], [0])], ("cat",)), [detections_of([], [], [])])
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "results",
    [
        [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]}],
        [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, float("nan")], "score": 0.5}],
        [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1], "score": 0.5}],
        [{"image_id": 1, "category_id": 1, "bbox": "box", "score": 0.5}],
        [{"image_id": 1, "category_id": 1, "bbox": ["a", 0, 1, 1], "score": 0.5}],
        [{"image_id": [], "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5}],
        [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": float("inf")}],
        [{"image_id": 2, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5}],
        [{"image_id": 1, "category_id": 9, "bbox": [0, 0, 1, 1], "score": 0.5}],
        [7],
    ],
)
def test_invalid_results_are_rejected(results):
    ground_truth = {"images": [{"id": 1}], "categories": [{"id": 1, "name": "cat"}], "annotations": []}
    with pytest.raises(DataError, match="Expected"):
        evaluate_coco_json(ground_truth, results)
    with pytest.raises(DataError, match="Expected"):
        evaluate_coco_json({"images": []}, [])
    with pytest.raises(DataError, match="image_ids"):
        evaluate_coco_json(ground_truth, [], image_ids=[3])


def test_the_package_imports_without_pycocotools_and_matplotlib():
    """The error names the extra to install. Keras itself imports matplotlib if it is installed, so both are hidden."""
    code = """
import sys
sys.modules["pycocotools"] = sys.modules["matplotlib"] = None
import keras_lightdet
import keras_lightdet.evaluation as evaluation
from keras_lightdet.data.detection.records import DetectionData
data = DetectionData((), ("cat",))
for function in (
    lambda: evaluation.evaluate_coco(data, []),
    lambda: evaluation.plot_precision_recall(evaluation.evaluate_voc(data, []), "plot.png"),
):
    try:
        function()
    except ImportError as error:
        assert "keras-lightdet[train]" in str(error), error
    else:
        raise AssertionError("a hidden package was imported")
"""
    process = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


def overlap_with(box, other, other_is_crowd):
    width, height = (
        min(box[2], other[2]) - max(box[0], other[0]),
        min(box[3], other[3]) - max(box[1], other[1]),
    )
    if width <= 0 or height <= 0:
        return 0.0
    area, other_area = ((b[2] - b[0]) * (b[3] - b[1]) for b in (box, other))
    return width * height / (area if other_is_crowd else area + other_area - width * height)


def ap50_by_loops(images, predictions, label):
    """Returns AP at IoU 0.5: by score, each detection takes the best free object; others inside crowds are ignored."""
    outcomes, objects = [], 0
    for image, detections in zip(images, predictions, strict=True):
        ground_truth = [(b, crowd) for b, k, crowd in image if k == label]
        objects += sum(not crowd for _, crowd in ground_truth)
        taken = set()
        for box, _, score in sorted((d for d in detections if d[1] == label), key=lambda d: -d[2]):
            free = [
                (overlap_with(box, b, False), i) for i, (b, c) in enumerate(ground_truth) if not c and i not in taken
            ]
            overlap, best = max(free, default=(0.0, -1))
            if overlap >= 0.5:
                taken.add(best)
                outcomes.append((score, True))
            elif not any(c and overlap_with(box, b, True) >= 0.5 for b, c in ground_truth):
                outcomes.append((score, False))
    if not objects:
        return None
    outcomes.sort(key=lambda outcome: -outcome[0])
    hits = np.cumsum([hit for _, hit in outcomes])
    precision = [h / (n + 1) for n, h in enumerate(hits)]
    reached = [[p for h, p in zip(hits, precision, strict=True) if h / objects >= r] for r in np.linspace(0, 1, 101)]
    return np.mean([max(points, default=0.0) for points in reached])


grid_boxes = st.tuples(*[st.integers(0, 5)] * 2, *[st.integers(1, 4)] * 2).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
grid_objects = st.lists(st.tuples(grid_boxes, st.integers(0, 1), st.sampled_from([False, False, True])), max_size=4)
grid_detections = st.lists(st.tuples(grid_boxes, st.integers(0, 1), st.sampled_from([0.25, 0.5, 0.75])), max_size=6)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(grid_objects, grid_detections), min_size=1, max_size=4))
def test_ap50_equals_a_loop_implementation(pairs):
    images, predictions = [p for p, _ in pairs], [a for _, a in pairs]
    data = detection_data(
        [
            record([b for b, *_ in p], [k for _, k, _ in p], ignore=[c for *_, c in p], image_id=f"{i}")
            for i, p in enumerate(images)
        ],
        ("cat", "dog"),
        category_ids=(17, 3),
    )
    detections = [detections_of([b for b, *_ in a], [s for *_, s in a], [k for _, k, _ in a]) for a in predictions]
    result = evaluate_coco(data, detections)
    expected = [ap50_by_loops(images, predictions, label) for label in (0, 1)]
    assert [c.category_id for c in result.classes] == [17, 3]
    for of_class, ap50 in zip(result.classes, expected, strict=True):
        assert np.isnan(of_class.AP50) if ap50 is None else pytest.approx(ap50, abs=1e-9) == of_class.AP50
    present = [ap50 for ap50 in expected if ap50 is not None]
    assert pytest.approx(np.mean(present)) == result.AP50 if present else np.isnan(result.AP50)
