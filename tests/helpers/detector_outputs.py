"""Our outputs for the comparison with torchvision's Faster R-CNN, and the comparison."""

import dataclasses

import numpy as np
from torch_tensors import ALL_ANCHORS, ALL_REGIONS, DETECTORS, ODD_SIZE, PROPOSALS, draw_image, draw_truth, summarize

import keras_lightdet
from keras_lightdet.boxes import ProposalSpec, SampleSpec, SelectSpec, select_detections

SELECT = SelectSpec(0.05, 0.5, max_detections=100, pre_nms_top_k=20_000)  # torchvision has no top-k before NMS


def build(name):
    """Builds our detector with torchvision's arguments."""
    model = keras_lightdet.FasterRCNN(**DETECTORS[name], select=SELECT)
    few, everything = ProposalSpec(*PROPOSALS[name]), SampleSpec(ALL_ANCHORS, 0.5)
    model.proposal_objective = dataclasses.replace(model.proposal_objective, train=few, test=few, sample=everything)
    model.region_objective = dataclasses.replace(model.region_objective, sample=SampleSpec(ALL_REGIONS, 1.0))
    return model


def outputs_of(model, name):
    """Returns the outputs of the first network, the proposals, the detections and the losses."""
    image = draw_image(*DETECTORS[name]["input_shape"][:2])
    first, odd, raw = model.rpn(image), model.rpn(draw_image(*ODD_SIZE)), model(image)
    selected = {key: np.array(value[0]) for key, value in select_detections(*model.decode(raw), SELECT).items()}
    count = selected.pop("count")
    selected = {key: value[:count] for key, value in selected.items()}
    rois = np.array(raw["rois"][0])[np.array(raw["valid"][0]) > 0]
    return {
        "objectness": np.array(first["objectness"][0]),
        "rpn_deltas": np.array(first["rpn_deltas"][0]),
        "odd_objectness": np.array(odd["objectness"][0]),
        "odd_rpn_deltas": np.array(odd["rpn_deltas"][0]),
        "rois": rois,
        **selected,
        "labels": selected["labels"] + 1,  # torchvision's background is its label 0
        **losses(model, name, image),
    }


def losses(model, name, image):
    """Returns the four losses over all anchors and regions."""
    boxes, labels = draw_truth(*model.input_size, DETECTORS[name]["num_classes"])
    targets = {"boxes": boxes, "labels": labels.astype("int32"), "ignore": np.zeros(labels.shape, "uint8")}
    return {key: np.array(value) for key, value in model.compute_losses(image, targets, training=False).items()}


def shorten(outputs):
    """Replaces the outputs for each anchor by summaries."""
    long = {key for key in outputs if key.endswith(("objectness", "rpn_deltas"))}
    return {key: summarize(key, values) if key in long else values for key, values in outputs.items()}


def assert_same(outputs, expected, tolerance=1e-4):
    """Asserts the same rows in the same order, within a fraction of each output's largest value."""
    errors = {}
    for key, values in outputs.items():
        reference = expected[key]
        assert values.shape == reference.shape, f"{key}: {values.shape}, torchvision {reference.shape}"
        errors[key] = float(np.abs(values - reference).max() / np.abs(reference).max())
    assert max(errors.values()) < tolerance, errors
    return errors
