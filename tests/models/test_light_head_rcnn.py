"""Light-Head R-CNN: cost, strides, training, weights and TFLite files."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from noise_images import draw_image
from small_detector import SIDE, random_batch, small_light_head

import keras_lightdet
from keras_lightdet.analysis import cost
from keras_lightdet.boxes import OhemSpec, SampleSpec, SelectSpec
from keras_lightdet.deploy import TFLiteDetector, export_detection
from keras_lightdet.errors import WeightsError
from keras_lightdet.weights import load_trunk, save_weights


# M parameters and G multiply-adds, counted by hand from the layer tables; the paper publishes neither.
@pytest.mark.parametrize(
    ("options", "size", "parameters", "macs"),
    [
        ({"variant": "l"}, (800, 1200), 67.94, 281.9),
        pytest.param({"variant": "l", "per_class_boxes": True}, (800, 1200), 68.59, 282.6, marks=pytest.mark.slow),
        ({}, (800, 1200), 4.87, 8.43),
        ({}, (700, 1100), 4.87, 7.05),
        ({}, (320, 320), 4.87, 1.95),
        ({"num_classes": 20}, (800, 1200), 4.75, 8.31),
    ],
)
def test_cost_is_that_of_the_layer_tables(options, size, parameters, macs):
    counts = cost(keras_lightdet.LightHeadRCNN(**options), (*size, 3))
    assert counts.uncounted == ()
    assert round(counts.trainable_parameters / 1e6, 2) == parameters
    assert round(counts.macs / 1e9, 1 if macs > 100 else 2) == macs


@pytest.mark.parametrize("variant", ["s", pytest.param("l", marks=pytest.mark.slow)])
def test_regions_are_pooled_at_the_stride_of_the_thin_map(variant):
    """Setting S has proposals from stride 16 and regions from stride 32, setting L both from stride 16."""
    model = keras_lightdet.LightHeadRCNN(3, (128, 192, 3), variant=variant)
    raw = model.rpn(np.zeros((1, 128, 192, 3)))
    stride = model.roi_align.options["stride"]
    assert raw["features"].shape[1:3] == (128 // stride, 192 // stride)
    assert stride == {"s": 32, "l": 16}[variant]
    assert raw["objectness"].shape[1] == len(model.proposal_objective.anchors.generate((128, 192))) == 8 * 12 * 15


def test_a_region_is_pooled_from_its_own_position():
    """A map whose values are its rows in pixels of the input, so that pooling returns the rows of the region."""
    model = small_light_head()
    roi_align = model.roi_align
    rows = np.broadcast_to(32.0 * np.arange(8)[None, :, None, None], (1, 8, 8, 490)).astype("float32")
    roi = np.float32([[[20, 64, 90, 134]]])
    pooled = np.array(roi_align(rows, roi))[0, 0, :, 0, 0]
    expected = 64 + 70 / 7 * (np.arange(7) + 0.75)  # the maximum of the samples at 1/4 and 3/4 of a bin
    np.testing.assert_allclose(pooled, expected, rtol=1e-5)


def test_training_settings_are_those_of_the_authors():
    model = keras_lightdet.LightHeadRCNN(3)
    rpn, regions = model.proposal_objective, model.region_objective
    assert (rpn.train.pre_nms_top_k, rpn.train.post_nms_top_k) == (12000, 2000)
    assert (rpn.test.pre_nms_top_k, rpn.test.post_nms_top_k) == (6000, 1000)
    assert regions.sample == OhemSpec(256, joint=True)
    assert (rpn.beta, regions.beta, regions.box_weight) == (1 / 9, 1.0, 2.0)
    np.testing.assert_allclose(1 / np.array(regions.coding.weights), [0.1, 0.1, 0.2, 0.2])
    sides = model.proposal_objective.anchors.generate((16, 16))
    areas = np.sqrt((sides[:, 2] - sides[:, 0]) * (sides[:, 3] - sides[:, 1]))
    np.testing.assert_allclose(np.unique(areas.round(3)), [32, 64, 128, 256, 512])


@pytest.mark.parametrize(
    "options", [{}, {"per_class_boxes": True}, pytest.param({"variant": "l"}, marks=pytest.mark.slow)]
)
def test_every_weight_is_trained(options):
    keras.utils.set_random_seed(1)
    model = small_light_head(**options)
    everything = SampleSpec(4000, 1.0)  # so that gradients depend on no random sample
    model.proposal_objective = dataclasses.replace(model.proposal_objective, sample=everything)
    model.region_objective = dataclasses.replace(model.region_objective, sample=everything)
    images, targets = random_batch(batch=2, boxes=8)
    with tf.GradientTape() as tape:
        loss = sum(model.compute_losses(images, targets, training=True).values())
    gradients = zip(model.trainable_weights, tape.gradient(loss, model.trainable_weights), strict=True)
    dead = [w.path for w, g in gradients if g is None or not np.all(np.isfinite(g)) or not np.any(g)]
    assert not dead


@pytest.mark.slow
def test_training_lowers_the_loss():
    keras.utils.set_random_seed(0)
    model = small_light_head()
    model.compile(keras.optimizers.Adam(1e-3))
    images, targets = random_batch(batch=2, boxes=4)
    losses = model.fit(images, targets, batch_size=2, epochs=15, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]


def test_a_box_for_each_class_is_the_box_of_its_label():
    """A bias of one class's deltas moves only its box: by a tenth of its sides, and exp(0.2) times as large."""
    keras.utils.set_random_seed(0)
    model = small_light_head(per_class_boxes=True)
    layer = model.region_network.get_layer("regions_box_class")
    layer.set_weights([np.zeros(layer.kernel.shape), np.float32([0] * 8 + [1] * 4)])
    rois = np.float32([[[10, 20, 30, 60]]])
    raw = model.roi_head({"features": np.ones((1, 2, 2, 490), "float32"), "rois": rois})
    boxes, _ = model.region_objective.decode({**raw, "rois": rois, "valid": np.ones((1, 1), "float32")})
    width, height = 20 * np.exp(0.2), 40 * np.exp(0.2)
    expected = [22 - width / 2, 44 - height / 2, 22 + width / 2, 44 + height / 2]
    np.testing.assert_allclose(boxes[0, 0], [rois[0, 0], rois[0, 0], expected], rtol=1e-5)


def test_weights_restore_the_detector_and_their_trunk_loads_for_other_classes(tmp_path):
    model = small_light_head(per_class_boxes=True)
    path = save_weights(model, tmp_path / "best.weights.h5")
    image = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3))
    restored = keras_lightdet.LightHeadRCNN(weights=path)
    restored.proposal_objective = model.proposal_objective
    np.testing.assert_array_equal(restored(image)["box_deltas"], model(image)["box_deltas"])
    other = small_light_head(per_class_boxes=True, class_names=("cat", "dog"))
    load_trunk(other, path)
    for name in ("rpn_box", "thin_row_column_conv2"):
        kept, expected = (net.rpn.get_layer(name).get_weights()[0] for net in (other, model))
        np.testing.assert_array_equal(kept, expected)
    with pytest.raises(WeightsError, match="per_class_boxes"):
        keras_lightdet.LightHeadRCNN(weights=path, per_class_boxes=False)


@pytest.mark.parametrize("options", [{"variant": "m"}, {"input_shape": (64, 64)}, {"num_classes": 2}])
def test_arguments_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="Expected"):
        small_light_head(**options)


def test_float_file_equals_keras(tmp_path):
    keras.utils.set_random_seed(3)
    model = small_light_head(select=SelectSpec(score_threshold=0.05, iou_threshold=0.5, max_detections=20))
    region_network = model.region_network
    for seed, name in enumerate(("regions_class", "regions_box")):  # so that classes and boxes differ clearly
        kernel = region_network.get_layer(name).kernel
        kernel.assign(tf.random.stateless_normal(kernel.shape, [3, seed], stddev=0.3))
    images = [draw_image(seed) for seed in range(4)]
    path = tmp_path / "small.tflite"
    report = export_detection(model, path, calibration=images)
    assert report.num_detections > 0
    assert report.keras_agreement == 1.0
    assert not [op for op in report.ops if op.startswith(("Flex", "CUSTOM"))]
    detector = TFLiteDetector(path)
    for image in images:
        actual, expected = detector.detect(image, 0.05), model.detect(image, 0.05)
        np.testing.assert_array_equal(actual.labels, expected.labels)
        np.testing.assert_allclose(actual.boxes, expected.boxes, atol=2e-2)
        np.testing.assert_allclose(actual.scores, expected.scores, atol=1e-4)
