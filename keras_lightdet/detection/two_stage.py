"""TwoStageDetector: a region proposal network, and a second network that classifies each proposal."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from keras_lightdet.detection.anchor_placement import generate_anchors, image_size_of
from keras_lightdet.detection.model import DetectorModel
from keras_lightdet.detection.proposal_objective import ProposalObjective
from keras_lightdet.detection.region_objective import RegionObjective
from keras_lightdet.inference_stage import InferenceStage
from keras_lightdet.types import DetectionTargets, Size, Tensor, Tensors

_FEATURES = "features"  # name of the feature map among a stage's tensors, or prefix of the names of several


@keras.saving.register_keras_serializable("keras_lightdet")
class TwoStageDetector(DetectorModel):
    """Two functional models with `ProposalObjective.propose` between them, through which no gradient flows.

    Args:
        rpn: Images `[B, H, W, 3]` -> `{"features": a map or a dict of maps, "objectness" [B, N], "rpn_deltas"
            [B, N, 4]}`.
        roi_head: `{"features", "rois" [B, R, 4]}` -> `{"class_logits" [B, R, K + 1], "box_deltas"}`: a RoI layer, which
            samples the features of each region, followed by a functional model, which classifies the regions.
        proposal_objective: The meaning of the outputs of `rpn`.
        region_objective: The meaning of the outputs of `roi_head`.
        **options: `class_names`, `input_size`, `select`, `architecture` and `name`; see `DetectorModel`.

    Raises:
        ValueError: If `roi_head` does not consist of these two.
    """

    config_objects = ("rpn", "roi_head", "proposal_objective", "region_objective", "select")

    def __init__(
        self,
        rpn: keras.Model,
        roi_head: keras.Model,
        proposal_objective: ProposalObjective,
        region_objective: RegionObjective,
        **options: Any,
    ):
        super().__init__(loss_names=(*proposal_objective.loss_names, *region_objective.loss_names), **options)
        _roi_layers(roi_head)
        self.rpn = rpn
        self.roi_head = roi_head
        self.proposal_objective = proposal_objective
        self.region_objective = region_objective
        self.optimizer = None  # until `compile`; the step is the seed of the samples
        self.built = True

    # Attributes would be saved under their own paths; these two are saved within `roi_head`.
    @property
    def roi_align(self) -> keras.layers.Layer:
        """The RoI layer: `(features, rois [B, R, 4])` -> the features of each region."""
        return _roi_layers(self.roi_head)[0]

    @property
    def region_network(self) -> keras.Model:
        """The functional model that classifies the regions: features of each region -> outputs of `roi_head`."""
        return _roi_layers(self.roi_head)[1]

    def networks(self, input_size: Size | None = None) -> list[tuple[keras.Model, list[tuple[int, ...]]]]:
        """Returns both networks, see `BaseModel.networks`; the second for the number of proposals at inference."""
        image_shape = (*(input_size or self.input_size), 3)
        features = self.rpn.compute_output_spec(keras.KerasTensor((1, *image_shape)))["features"]
        rois = (self.proposal_objective.test.post_nms_top_k, 4)
        return [
            (self.rpn, [image_shape]),
            (self.roi_head, [*(x.shape[1:] for x in keras.tree.flatten(features)), rois]),
        ]

    def class_layers(self) -> list[keras.layers.Layer]:
        """Returns the class prediction layers, see `BaseModel.class_layers`."""
        return [layer for layer in self.region_network.layers if layer.name.endswith("_class")]

    def call(self, images: Tensor, training: bool = False) -> Tensors:
        """Returns the input of `decode`: `{"rois", "valid", "class_logits", "box_deltas"}`, float32."""
        rpn_raw = self._run_rpn(images, training)
        image_size = image_size_of(images)
        anchors = generate_anchors(self.proposal_objective.anchors, image_size)
        proposals = self.proposal_objective.propose(rpn_raw, anchors, image_size, training=False)
        raw = self._run_roi_head(rpn_raw, proposals["boxes"], training)
        return {"rois": proposals["boxes"], "valid": ops.cast(proposals["valid"], "float32"), **raw}

    def compute_losses(self, images: Tensor, targets: DetectionTargets, training: bool) -> Tensors:
        """Computes the four losses of a batch, see `BaseModel.compute_losses`."""
        rpn_raw = self._run_rpn(images, training)
        image_size = image_size_of(images)
        anchors = generate_anchors(self.proposal_objective.anchors, image_size)
        targets = {**targets, "boxes": ops.where(targets["labels"][..., None] >= 0, targets["boxes"], 0.0)}
        seed = self._seed()
        losses = self.proposal_objective.compute_losses(rpn_raw, targets, anchors, seed)
        proposals = self.proposal_objective.propose(rpn_raw, anchors, image_size, training=True)
        regions = self.region_objective.sample_regions(proposals, targets, seed + [0, 1])
        raw = self._run_roi_head(rpn_raw, regions["rois"], training)
        return losses | self.region_objective.compute_losses(raw, regions, targets)

    def decode(self, raw: Tensors) -> tuple[Tensor, Tensor]:
        """Returns boxes (xyxy pixels, clipped to the input), `[B, R, 4]` or one per class, and scores `[B, R, K]`."""
        boxes, scores = self.region_objective.decode(raw)
        return self._clip_to_input(boxes), scores

    def inference_stages(self) -> list[InferenceStage]:
        """Returns both networks and the proposals between them, see `BaseModel.inference_stages`."""
        anchors = generate_anchors(self.proposal_objective.anchors, self.input_size)
        roi_align, region_network = self.roi_align, self.region_network

        def run_rpn(tensors: Tensors) -> Tensors:
            raw = self._run_rpn(tensors["images"], training=False)
            return _named_features(raw.pop("features")) | raw

        def propose_and_align(tensors: Tensors) -> Tensors:
            proposals = self.proposal_objective.propose(tensors, anchors, self.input_size, training=False)
            rois, valid = proposals["boxes"], tf.cast(proposals["valid"], tf.float32)
            return {"rois": rois, "valid": valid, "regions": roi_align(_features_of(tensors), rois)}

        def run_region_network(tensors: Tensors) -> Tensors:
            return dict(region_network(tensors["regions"], training=False))

        features = tuple(_named_features(self.rpn.output["features"]))
        return [
            InferenceStage("proposal network", run_rpn, ("images",), True),
            InferenceStage("regions", propose_and_align, (*features, "objectness", "rpn_deltas"), False),
            InferenceStage("region network", run_region_network, ("regions",), True),
        ]

    def _run_rpn(self, images: Tensor, training: bool) -> dict[str, Any]:
        """Returns the outputs of `rpn`; "features" may be a dict of maps."""
        raw = self.rpn(ops.cast(images, self.compute_dtype), training=training)
        return {key: value if key == "features" else ops.cast(value, "float32") for key, value in raw.items()}

    def _run_roi_head(self, rpn_raw: Mapping[str, Any], rois: Tensor, training: bool) -> Tensors:
        raw = self.roi_head({"features": rpn_raw["features"], "rois": rois}, training=training)
        return {key: ops.cast(value, "float32") for key, value in raw.items()}

    def _seed(self) -> Tensor:
        """Returns the seed of this step's and replica's samples; a resumed run draws those of an uninterrupted one."""
        step = self.optimizer.iterations if self.optimizer is not None else 0
        context = tf.distribute.get_replica_context()
        replica = 0 if context is None else context.replica_id_in_sync_group
        return tf.stack([tf.cast(step, tf.int32), 2 * tf.cast(replica, tf.int32)])


def _roi_layers(roi_head: keras.Model) -> tuple[keras.layers.Layer, keras.Model]:
    layers = [layer for layer in roi_head.layers if not isinstance(layer, keras.layers.InputLayer)]
    if len(layers) != 2 or not isinstance(layers[1], keras.Model):
        raise ValueError(
            "Expected roi_head to consist of a RoI layer and a functional model, got the layers "
            f"{[layer.name for layer in layers]}. Put all layers after the RoI layer into one keras.Model."
        )
    return layers[0], layers[1]


def _named_features(features: Tensor | Mapping[str, Tensor]) -> Tensors:
    """Returns the feature map, or each map of a pyramid, under its name among a stage's tensors."""
    if isinstance(features, Mapping):
        return {f"{_FEATURES}_{level}": x for level, x in features.items()}
    return {_FEATURES: features}


def _features_of(tensors: Tensors) -> Tensor | Tensors:
    """Returns the feature map or maps from a stage's tensors: the inverse of `_named_features`."""
    prefix = f"{_FEATURES}_"
    pyramid = {key.removeprefix(prefix): x for key, x in tensors.items() if key.startswith(prefix)}
    return pyramid or tensors[_FEATURES]
