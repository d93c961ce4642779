"""COCO figures against the published ones of pycocotools' own example, and against figures worked by hand."""

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
        "truth": "coco_val2014_100/gts.json",
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


def as_records(truth, results):
    """The same images and detections as this package's types, in float32 and with labels from 0."""
    category_ids = sorted(c["id"] for c in truth["categories"])
    names = tuple(c["name"] for c in sorted(truth["categories"], key=lambda c: c["id"]))
    label_of = {category_id: label for label, category_id in enumerate(category_ids)}

    def boxes(entries):
        xywh = np.array([e["bbox"] for e in entries], np.float64).reshape(-1, 4)
        return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)

    records, detections = [], []
    for image in truth["images"]:
        mine = [a for a in truth["annotations"] if a["image_id"] == image["id"]]
        theirs = [r for r in results if r["image_id"] == image["id"]]
        records.append(
            record(
                boxes(mine),
                [label_of[a["category_id"]] for a in mine],
                ignore=[a["iscrowd"] for a in mine],
                areas=[a["area"] for a in mine],
                image_id=image["id"],
            )
        )
        detections.append(
            detections_of(boxes(theirs), [r["score"] for r in theirs], [label_of[r["category_id"]] for r in theirs])
        )
    return detection_data(records, names, category_ids=tuple(category_ids)), detections


def test_the_published_figures_of_val2014_100(vectors):
    result = evaluate_coco_json(vectors["truth"], vectors["results"])
    assert_figures(result, vectors["expected"]["published"])
    per_class = vectors["expected"]["pycocotools"]["per_class"]
    scored = {str(c.category_id): c for c in result.classes if c.truths}
    assert scored.keys() == per_class.keys()
    for category_id, figures in per_class.items():
        mine = scored[category_id]
        got = {"AP": mine.AP, "AP50": mine.AP50, "AR100": mine.AR100}
        assert got == pytest.approx(figures, abs=1e-9)
        assert mine.curve.precision.mean() == pytest.approx(figures["AP50"], abs=1e-9)
    assert all(np.isnan([c.AP, c.AP50, c.AR100]).all() for c in result.classes if not c.truths)


def test_the_published_figures_through_records(vectors):
    truth = copy.deepcopy(vectors["truth"])
    for a in truth["annotations"]:
        a.setdefault("iscrowd", 0)
    data, detections = as_records(truth, vectors["results"])
    assert_figures(evaluate_coco(data, detections), vectors["expected"]["published"])


@pytest.mark.parametrize("case", ["crowd", "many_detections", "crowd_and_many", "tied_scores_one_decimal"])
def test_crowds_ties_and_overlong_lists(vectors, case):
    truth = vectors["crowd"] if case.startswith("crowd") else vectors["truth"]
    results = vectors["many"] if case.endswith("many") or case.startswith("many") else vectors["results"]
    if case == "tied_scores_one_decimal":
        results = [{**r, "score": round(r["score"], 1)} for r in results]
    expected = vectors["derived"][case]
    assert_figures(evaluate_coco_json(truth, results), expected)
    truth = copy.deepcopy(truth)
    for a in truth["annotations"]:
        a.setdefault("iscrowd", 0)
    assert_figures(evaluate_coco(*as_records(truth, results)), expected)


def test_a_subset_of_images(vectors):
    first = sorted(image["id"] for image in vectors["truth"]["images"])[:20]
    result = evaluate_coco_json(vectors["truth"], vectors["results"], image_ids=first)
    assert_figures(result, vectors["derived"]["image_subset_first_20"])


def test_one_hit_and_one_better_scored_miss_worked_by_hand():
    data = detection_data([record([[0, 0, 40, 40]], [0], image_id="a"), record([], [], image_id="b")], ("cat", "dog"))
    answers = [detections_of([[0, 0, 40, 40]], [0.5], [0]), detections_of([[5, 5, 50, 50]], [0.9], [0])]
    result = evaluate_coco(data, answers)
    assert pytest.approx(0.5) == result.AP  # the background image's false alarm halves the precision
    assert result.APmedium == pytest.approx(0.5)
    assert np.isnan(result.APsmall) and np.isnan(result.APlarge)
    assert pytest.approx(1.0) == result.AR1
    cat, dog = result.classes
    assert (cat.truths, cat.detections, cat.AP50) == (1, 2, pytest.approx(0.5))
    assert np.isnan(dog.AP) and len(dog.curve.recall) == 0


def test_the_first_object_of_the_first_image_can_be_matched():
    """pycocotools reads a match with annotation id 0 as none at all."""
    data = detection_data([record([[0, 0, 40, 40]], [0])], ("cat",))
    assert pytest.approx(1.0) == evaluate_coco(data, [detections_of([[0, 0, 40, 40]], [0.9], [0])]).AP
    truth = {
        "images": [{"id": 0}],
        "categories": [{"id": 0, "name": "cat"}],
        "annotations": [{"id": 0, "image_id": 0, "category_id": 0, "bbox": [0, 0, 40, 40]}],
    }
    results = [{"image_id": 0, "category_id": 0, "bbox": [0, 0, 40, 40], "score": 0.9}]
    assert pytest.approx(1.0) == evaluate_coco_json(truth, results).AP


def test_a_crowd_swallows_detections_without_being_asked_for():
    boxes = [[0, 0, 40, 40], [100, 100, 300, 300]]
    data = detection_data([record(boxes, [0, 0], ignore=[False, True])], ("cat",))
    inside = [[110, 110, 150, 150], [200, 200, 260, 260]]
    result = evaluate_coco(data, [detections_of([*inside, boxes[0]], [0.9, 0.8, 0.7], [0, 0, 0])])
    assert pytest.approx(1.0) == result.AP
    assert (result.classes[0].truths, result.classes[0].crowds) == (1, 1)


def test_size_bands_go_by_the_labeled_area_and_not_the_box():
    data = detection_data([record([[0, 0, 60, 60]], [0], areas=[900])], ("cat",))
    result = evaluate_coco(data, [detections_of([[0, 0, 60, 60]], [0.9], [0])])
    assert result.APsmall == pytest.approx(1.0) and np.isnan(result.APmedium)


def test_no_detections_at_all_scores_zero_and_no_images_nan():
    data = detection_data([record([[0, 0, 40, 40]], [0])], ("cat",))
    assert evaluate_coco(data, [detections_of([], [], [])]).AP == 0.0
    assert np.isnan(evaluate_coco(detection_data([], ("cat",)), []).AP)


def test_it_prints_nothing(capsys):
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
def test_broken_results_are_refused(results):
    truth = {"images": [{"id": 1}], "categories": [{"id": 1, "name": "cat"}], "annotations": []}
    with pytest.raises(DataError, match="Expected"):
        evaluate_coco_json(truth, results)
    with pytest.raises(DataError, match="Expected"):
        evaluate_coco_json({"images": []}, [])
    with pytest.raises(DataError, match="image_ids"):
        evaluate_coco_json(truth, [], image_ids=[3])


def test_the_package_imports_without_pycocotools_and_matplotlib_and_names_the_cure():
    """Keras itself loads matplotlib where it is installed, so both are taken away here."""
    code = """
import sys
sys.modules["pycocotools"] = sys.modules["matplotlib"] = None
import keras_lightdet
import keras_lightdet.evaluation as evaluation
from keras_lightdet.data.detection.records import DetectionData
try:
    evaluation.evaluate_coco(DetectionData((), ("cat",)), [])
except ImportError as error:
    assert "keras-lightdet[train]" in str(error), error
else:
    raise AssertionError("pycocotools was there")
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def overlap_with(box, other, other_is_crowd):
    width, height = (
        min(box[2], other[2]) - max(box[0], other[0]),
        min(box[3], other[3]) - max(box[1], other[1]),
    )
    if width <= 0 or height <= 0:
        return 0.0
    own, its = ((b[2] - b[0]) * (b[3] - b[1]) for b in (box, other))
    return width * height / (own if other_is_crowd else own + its - width * height)


def ap50_told_slowly(images, answers, label):
    """AP at IoU 0.5 by the rules alone: greedy by score, the best object still free, crowds swallow the rest."""
    outcomes, objects = [], 0
    for picture, answer in zip(images, answers, strict=True):
        truths = [(b, crowd) for b, k, crowd in picture if k == label]
        objects += sum(not crowd for _, crowd in truths)
        taken = set()
        for box, _, score in sorted((a for a in answer if a[1] == label), key=lambda a: -a[2]):
            free = [(overlap_with(box, b, False), i) for i, (b, c) in enumerate(truths) if not c and i not in taken]
            overlap, best = max(free, default=(0.0, -1))
            if overlap >= 0.5:
                taken.add(best)
                outcomes.append((score, True))
            elif not any(c and overlap_with(box, b, True) >= 0.5 for b, c in truths):
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
grid_truths = st.lists(st.tuples(grid_boxes, st.integers(0, 1), st.sampled_from([False, False, True])), max_size=4)
grid_answers = st.lists(st.tuples(grid_boxes, st.integers(0, 1), st.sampled_from([0.25, 0.5, 0.75])), max_size=6)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(grid_truths, grid_answers), min_size=1, max_size=4))
def test_ap50_equals_the_rules_told_slowly(pairs):
    images, answers = [p for p, _ in pairs], [a for _, a in pairs]
    data = detection_data(
        [
            record([b for b, *_ in p], [k for _, k, _ in p], ignore=[c for *_, c in p], image_id=f"{i}")
            for i, p in enumerate(images)
        ],
        ("cat", "dog"),
        category_ids=(17, 3),
    )
    detections = [detections_of([b for b, *_ in a], [s for *_, s in a], [k for _, k, _ in a]) for a in answers]
    result = evaluate_coco(data, detections)
    expected = [ap50_told_slowly(images, answers, label) for label in (0, 1)]
    assert [c.category_id for c in result.classes] == [17, 3]
    for scored, ap50 in zip(result.classes, expected, strict=True):
        assert np.isnan(scored.AP50) if ap50 is None else pytest.approx(ap50, abs=1e-9) == scored.AP50
    present = [ap50 for ap50 in expected if ap50 is not None]
    assert pytest.approx(np.mean(present)) == result.AP50 if present else np.isnan(result.AP50)
