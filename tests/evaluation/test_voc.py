"""VOC figures against published ones, against the development kit as loops, and computed by hand."""

import json

import numpy as np
import pytest
from evaluation_cases import detection_data, detections_of, record
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_data import shared_data

from keras_lightdet.errors import DataError
from keras_lightdet.evaluation import evaluate_voc


def read_boxes(path, has_score):
    rows = [line.split() for line in path.read_text().splitlines() if line.strip()]
    numbers = np.array([row[1:] for row in rows], np.float64).reshape(len(rows), 4 + has_score)
    xywh = numbers[:, has_score:]
    boxes = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    return boxes, numbers[:, 0]


@pytest.fixture(scope="module")
def seven():
    root = shared_data("eval_vectors") / "voc_7_images"
    records, detections = [], []
    for path in sorted((root / "groundtruths").glob("*.txt")):
        boxes, _ = read_boxes(path, has_score=False)
        records.append(record(boxes, np.zeros(len(boxes)), image_id=path.stem, path=str(path)))
        boxes, scores = read_boxes(root / "detections" / path.name, has_score=True)
        detections.append(detections_of(boxes, scores, np.zeros(len(boxes))))
    expected = json.loads((root / "expected.json").read_text())
    data = detection_data(records, ("object",))
    assert sum(len(r.labels) for r in data.records) == expected["n_gt"]
    assert sum(map(len, detections)) == expected["n_det"]
    return data, detections, expected


@pytest.mark.parametrize("threshold", ["0.1", "0.3", "0.5", "0.75"])
def test_the_published_figures_of_seven_images(seven, threshold):
    data, detections, expected = seven

    def score(metric, plus_one):
        return evaluate_voc(data, detections, metric=metric, plus_one=plus_one, iou_threshold=float(threshold)).mAP

    assert score("area", True) == pytest.approx(expected["published_every_point"][threshold], abs=1e-10)
    assert score("voc07", True) == pytest.approx(expected["published_11_point"][threshold], abs=1e-10)
    assert score("area", False) == pytest.approx(expected["same_without_plus_one"][threshold], abs=1e-10)


def test_ties_are_broken_by_the_order_of_the_images(seven):
    data, detections, expected = seven
    order = [0, 1, 2, 3, 6, 5, 4]  # 00007 is now before 00005
    swapped = detection_data([data.records[i] for i in order], data.class_names)
    got = evaluate_voc(swapped, [detections[i] for i in order], metric="area", plus_one=True, iou_threshold=0.3)
    assert got.mAP == pytest.approx(expected["other_tie_order_every_point"]["0.3"], abs=1e-10)


def kit_overlap(a, b, plus_one):
    width = min(a[2], b[2]) - max(a[0], b[0]) + plus_one
    height = min(a[3], b[3]) - max(a[1], b[1]) + plus_one
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(c[2] - c[0] + plus_one) * (c[3] - c[1] + plus_one) for c in (a, b)]
    return width * height / (areas[0] + areas[1] - width * height)


def kit_average_precision(images, predictions, label, threshold, plus_one, metric):
    """Computes AP as VOCevaldet.m: one loop over all detections, with a `taken` flag per object."""
    objects = [[{"box": b, "difficult": d, "taken": False} for b, k, d in image if k == label] for image in images]
    positives = sum(not o["difficult"] for image in objects for o in image)
    if not positives:
        return None
    ranked = [(s, i, b) for i, detections in enumerate(predictions) for b, k, s in detections if k == label]
    ranked.sort(key=lambda d: -d[0])
    true_positives = []
    for _, image, box in ranked:
        best, best_overlap = None, -1.0
        for candidate in objects[image]:
            overlap = kit_overlap(box, candidate["box"], plus_one)
            if overlap > best_overlap:
                best, best_overlap = candidate, overlap
        if best is not None and best_overlap >= threshold:
            if best["difficult"]:
                continue
            true_positives.append(not best["taken"])
            best["taken"] = True
        else:
            true_positives.append(False)
    hits = np.cumsum(true_positives)
    points = [(h, h / (n + 1)) for n, h in enumerate(hits)]
    if metric == "voc07":
        reached = [[p for h, p in points if h / positives >= k * 0.1] for k in range(11)]
        return sum(max(ps, default=0.0) for ps in reached) / 11
    steps = [
        max(p for h, p in points if h >= target) if hits.size and hits[-1] >= target else 0.0
        for target in range(1, positives + 1)
    ]
    return sum(steps) / positives


corners = st.integers(0, 5)
boxes_on_a_grid = st.tuples(corners, corners, st.integers(1, 4), st.integers(1, 4)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
labels = st.integers(0, 1)
image_lists = st.lists(st.tuples(boxes_on_a_grid, labels, st.booleans()), max_size=4)
detection_lists = st.lists(st.tuples(boxes_on_a_grid, labels, st.sampled_from([0.25, 0.5, 0.75])), max_size=6)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(image_lists, detection_lists), min_size=1, max_size=4),
    st.sampled_from(["voc07", "area"]),
    st.booleans(),
    st.sampled_from([0.25, 0.5, 1.0]),
)
def test_ap_equals_the_development_kit_as_loops(pairs, metric, plus_one, threshold):
    images, predictions = [p for p, _ in pairs], [a for _, a in pairs]
    data = detection_data(
        [record([b for b, _, _ in p], [k for _, k, _ in p], ignore=[d for _, _, d in p]) for p in images],
        ("cat", "dog"),
    )
    detections = [detections_of([b for b, _, _ in a], [s for *_, s in a], [k for _, k, _ in a]) for a in predictions]
    result = evaluate_voc(data, detections, metric=metric, plus_one=plus_one, iou_threshold=threshold)
    for label, of_class in enumerate(result.classes):
        expected = kit_average_precision(images, predictions, label, threshold, plus_one, metric)
        if expected is None:
            assert np.isnan(of_class.AP)
        else:
            assert pytest.approx(expected, abs=1e-12) == of_class.AP
    present = [c.AP for c in result.classes if c.num_objects]
    assert result.mAP == pytest.approx(np.mean(present)) if present else np.isnan(result.mAP)


def test_a_curve_computed_by_hand():
    """Two objects; true, false and true positive: precisions 1, 1/2, 2/3 at recalls 1/2, 1/2, 1."""
    data = detection_data([record([[0, 0, 10, 10], [50, 50, 60, 60]], [0, 0])], ("cat",))
    detections = detections_of([[0, 0, 10, 10], [100, 100, 110, 110], [50, 50, 60, 60]], [0.9, 0.8, 0.7], [0, 0, 0])
    result = evaluate_voc(data, [detections], metric="area")
    assert result.mAP == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert evaluate_voc(data, [detections], metric="voc07").mAP == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)
    curve = result.classes[0].curve
    np.testing.assert_allclose(curve.recall, [0.5, 0.5, 1.0])
    np.testing.assert_allclose(curve.precision, [1.0, 0.5, 2 / 3])
    np.testing.assert_allclose(curve.scores, [0.9, 0.8, 0.7], rtol=1e-6)


@pytest.mark.parametrize(("hits", "points"), [(2, 3), (3, 3), (4, 5), (10, 11)])
def test_the_eleven_points_are_those_of_the_published_evaluators(hits, points):
    """In float64 3 * 0.1 is above 3/10; the published figures of seven images depend on this."""
    boxes = [[20 * i, 0, 20 * i + 10, 10] for i in range(10)]
    data = detection_data([record(boxes, [0] * 10)], ("cat",))
    result = evaluate_voc(data, [detections_of(boxes[:hits], np.linspace(0.9, 0.1, hits), [0] * hits)])
    assert result.mAP == pytest.approx(points / 11)


def test_a_duplicate_is_a_false_positive_and_a_difficult_object_is_ignored():
    box, hard = [0, 0, 10, 10], [50, 50, 60, 60]
    data = detection_data([record([box, hard], [0, 0], ignore=[False, True])], ("cat",))
    result = evaluate_voc(data, [detections_of([hard, hard, box, box], [0.9, 0.8, 0.7, 0.6], [0] * 4)], metric="area")
    of_class = result.classes[0]
    assert of_class.AP == 1.0
    assert (of_class.num_objects, of_class.num_difficult, of_class.num_detections) == (1, 1, 4)
    np.testing.assert_allclose(of_class.curve.precision, [1.0, 0.5])


def test_edges_without_plus_one_equal_pixel_indices_with_it():
    """The kit's inclusive pixels 1..10 are the edges 0..10: the same IoU, so the same figure."""
    generator = np.random.default_rng(0)

    def corners(count):
        low = generator.integers(0, 40, (count, 2))
        return np.concatenate([low, low + generator.integers(4, 12, (count, 2))], axis=1)

    objects_of_images = [corners(5) for _ in range(20)]
    predictions = [np.concatenate([t + generator.integers(-1, 2, t.shape), corners(4)]) for t in objects_of_images]
    scores = [generator.random(9) for _ in range(20)]

    def score(low, plus_one):
        shift = np.array([low, low, 0, 0])
        data = detection_data([record(t + shift, [0] * 5) for t in objects_of_images], ("cat",))
        detections = [detections_of(a + shift, s, [0] * 9) for a, s in zip(predictions, scores, strict=True)]
        return evaluate_voc(data, detections, metric="area", plus_one=plus_one).mAP

    as_edges, as_pixel_indices = score(0, plus_one=False), score(1, plus_one=True)
    assert 0.05 < as_edges < 0.95
    assert as_edges == as_pixel_indices
    assert score(0, plus_one=True) != as_edges


def test_classes_without_objects_are_not_in_the_mean():
    data = detection_data([record([[0, 0, 10, 10]], [0])], ("cat", "dog"))
    result = evaluate_voc(data, [detections_of([[0, 0, 10, 10], [0, 0, 10, 10]], [0.9, 0.8], [0, 1])])
    assert result.mAP == 1.0
    assert np.isnan(result.classes[1].AP) and result.classes[1].num_detections == 1
    assert np.isnan(evaluate_voc(detection_data([], ("cat",)), []).mAP)


def test_invalid_settings_are_rejected():
    data = detection_data([], ("cat",))
    with pytest.raises(ValueError, match="voc07"):
        evaluate_voc(data, [], metric="voc12")
    with pytest.raises(ValueError, match="iou_threshold"):
        evaluate_voc(data, [], iou_threshold=0.0)


@pytest.mark.parametrize(
    ("detections", "message"),
    [
        (detections_of([[0, 0, float("nan"), 10]], [0.9], [0]), "finite boxes"),
        (detections_of([[0, 0, 10, float("inf")]], [0.9], [0]), "finite boxes"),
        (detections_of([[0, 0, 10, 10]], [float("nan")], [0]), "finite score"),
        (detections_of([[0, 0, 10, 10]], [0.9], [1]), "0..0"),
        (detections_of([[0, 0, 10, 10]], [0.9], [-1]), "0..0"),
        (detections_of([[0, 0, 10, 10]], [0.9, 0.8], [0]), "finite score"),
        (detections_of([[0, 0, 10, 10]], [0.9], [0, 0]), "labels .n."),
        (detections_of([[10, 0, 0, 10]], [0.9], [0]), "order"),
        (detections_of([[0, 0, 10, 10]], [0.9], [0], class_names=("dog",)), "dog"),
    ],
)
def test_invalid_detections_are_rejected_with_the_path_of_the_image(detections, message):
    data = detection_data([record([[0, 0, 10, 10]], [0], path="folder/one.jpg")], ("cat",))
    with pytest.raises(DataError, match=message) as caught:
        evaluate_voc(data, [detections])
    assert "folder/one.jpg" in str(caught.value)


def test_invalid_ground_truth_is_rejected():
    detections = detections_of([], [], [])
    for invalid in (
        record([[0, 0, 10, 10]], [3]),
        record([[0, 0, float("nan"), 10]], [0]),
        record([[0, 0, 10, 10]], [0], ignore=[True, False]),
    ):
        with pytest.raises(DataError, match="a.jpg"):
            evaluate_voc(detection_data([invalid], ("cat",)), [detections])
    with pytest.raises(DataError, match="one Detections per image"):
        evaluate_voc(detection_data([record([], [])], ("cat",)), [])
    with pytest.raises(DataError, match="at least one class name"):
        evaluate_voc(detection_data([record([], [])], ()), [detections])
    with pytest.raises(DataError, match="category id"):
        evaluate_voc(detection_data([record([], [])], ("cat",), category_ids=(3, 4)), [detections])
