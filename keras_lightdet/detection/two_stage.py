"""TwoStageDetector: a network that proposes regions, and one that looks at each of them."""

from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf
from keras import ops

from keras_lightdet.boxes import SelectSpec
from keras_lightdet.detection.anchor_placement import generate_anchors, size_of
from keras_lightdet.detection.model import DetectorModel
from keras_lightdet.detection.proposal_objective import ProposalObjective
from keras_lightdet.detection.region_objective import RegionObjective
from keras_lightdet.inference_stage import InferenceStage

_FEATURES = "features"  # what a stage's tensor is called, or its name starts with


@keras.saving.register_keras_serializable("keras_lightdet")
class TwoStageDetector(DetectorModel):
    """Two functional models with `ProposalObjective.propose` between them, through which no gradient flows.

    Args:
        rpn: Images `[B, H, W, 3]` -> `{"features": a map or a dict of maps, "objectness" [B, N], "rpn_deltas"
            [B, N, 4]}`.
        roi_head: `{"features", "rois" [B, R, 4]}` -> `{"class_logits" [B, R, K + 1], "box_deltas"}`: a layer
            "roi_align" that samples the features of each region, and a functional model "region_network".
        proposals: Meaning and losses of the first's outputs.
        regions: Meaning and losses of the second's.
        class_names, input_size, select, architecture, name: See `DetectorModel`.
    """

    def __init__(
        self,
        rpn: keras.Model,
        roi_head: keras.Model,
        proposals: ProposalObjective,
        regions: RegionObjective,
        *,
        class_names: Sequence[str],
        input_size: tuple[int, int],
        select: SelectSpec,
        architecture: Mapping | None = None,
        name: str | None = None,
    ):
        super().__init__(
            class_names=class_names,
            input_size=input_size,
            select=select,
            loss_names=(*proposals.loss_names, *regions.loss_names),
            architecture=architecture,
            name=name,
        )
        self.rpn = rpn
        self.roi_head = roi_head
        self.proposals = proposals
        self.regions = regions
        self.optimizer = None  # until `compile`; losses draw by its step
        self.built = True

    def networks(self, input_size: tuple[int, int] | None = None) -> list[tuple[keras.Model, list[tuple]]]:
        """Returns both networks, see `DetectorModel.networks`; the second looks at the proposals of inference."""
        image_shape = (*(input_size or self.input_size), 3)
        seen = self.rpn.compute_output_spec(keras.KerasTensor((1, *image_shape)))["features"]
        rois = (self.proposals.test.post_nms_top_k, 4)
        return [
            (self.rpn, [image_shape]),
            (self.roi_head, [*(x.shape[1:] for x in keras.tree.flatten(seen)), rois]),
        ]

    def class_layers(self) -> list[keras.layers.Layer]:
        """Returns the layers whose weights belong to the classes: all others serve any set of classes."""
        layers = self.roi_head.get_layer("region_network").layers
        return [layer for layer in layers if layer.name.endswith("_class")]

    def call(self, images, training: bool = False) -> dict:
        """Returns what `decode` reads: `{"rois", "valid", "class_logits", "box_deltas"}`, float32."""
        first = self._look(images, training)
        image_size = size_of(images)
        found = self.proposals.propose(
            first, generate_anchors(self.proposals.anchors, image_size), image_size, training=False
        )
        second = self._look_closer(first, found["boxes"], training)
        return {"rois": found["boxes"], "valid": ops.cast(found["valid"], "float32"), **second}

    def compute_losses(self, images, targets: dict, training: bool) -> dict:
        """Computes the four losses of a batch, see `DetectorModel.compute_losses`."""
        first = self._look(images, training)
        image_size = size_of(images)
        anchors = generate_anchors(self.proposals.anchors, image_size)
        targets = {**targets, "boxes": ops.where(targets["labels"][..., None] >= 0, targets["boxes"], 0.0)}
        seed = self._seed()
        losses = self.proposals.compute_losses(first, targets, anchors, seed)
        found = self.proposals.propose(first, anchors, image_size, training=True)
        drawn = self.regions.draw_regions(found, targets, seed + [0, 1])
        second = self._look_closer(first, drawn["rois"], training)
        return losses | self.regions.compute_losses(second, drawn, targets)

    def decode(self, raw: dict) -> tuple:
        """Returns boxes (xyxy pixels, clipped to the input), `[B, R, 4]` or one for each class, and scores."""
        height, width = self.input_size
        boxes, scores = self.regions.decode(raw)
        return ops.clip(boxes, 0.0, ops.convert_to_tensor([width, height, width, height], "float32")), scores

    def inference_stages(self) -> list[InferenceStage]:
        """Returns both networks and the choice of regions between them, see `DetectorModel.inference_stages`."""
        anchors = generate_anchors(self.proposals.anchors, self.input_size)
        warp, region_network = self.roi_head.get_layer("roi_align"), self.roi_head.get_layer("region_network")

        def look(given):
            raw = self._look(given["images"], training=False)
            return _named_features(raw.pop("features")) | raw

        def choose(given):
            found = self.proposals.propose(given, anchors, self.input_size, training=False)
            rois, valid = found["boxes"], tf.cast(found["valid"], tf.float32)
            return {"rois": rois, "valid": valid, "regions": warp(_features_of(given), rois)}

        def look_closer(given):
            return dict(region_network(given["regions"], training=False))

        features = tuple(_named_features(self.rpn.output["features"]))
        return [
            InferenceStage("proposal network", look, ("images",), True),
            InferenceStage("regions", choose, (*features, "objectness", "rpn_deltas"), False),
            InferenceStage("region network", look_closer, ("regions",), True),
        ]

    def _look(self, images, training: bool) -> dict:
        raw = self.rpn(ops.cast(images, self.compute_dtype), training=training)
        return {key: value if key == "features" else ops.cast(value, "float32") for key, value in raw.items()}

    def _look_closer(self, first: dict, rois, training: bool) -> dict:
        raw = self.roi_head({"features": first["features"], "rois": rois}, training=training)
        return {key: ops.cast(value, "float32") for key, value in raw.items()}

    def _seed(self) -> tf.Tensor:
        """What the step draws with: a resumed run draws what the unbroken one does, each replica its own."""
        step = self.optimizer.iterations if self.optimizer is not None else 0
        context = tf.distribute.get_replica_context()
        replica = 0 if context is None else context.replica_id_in_sync_group
        return tf.stack([tf.cast(step, tf.int32), 2 * tf.cast(replica, tf.int32)])

    def get_config(self) -> dict:
        """Returns the constructor's arguments, both networks included."""
        own = {key: getattr(self, key) for key in ("rpn", "roi_head", "proposals", "regions")}
        return {
            **super().get_config(),
            **{key: keras.saving.serialize_keras_object(value) for key, value in own.items()},
        }

    @classmethod
    def from_config(cls, config: dict) -> "TwoStageDetector":
        """Rebuilds the networks and the specs that `get_config` wrote."""
        config = dict(config)
        for key in ("rpn", "roi_head", "proposals", "regions", "select"):
            config[key] = keras.saving.deserialize_keras_object(config[key])
        return cls(**config)


def _named_features(features) -> dict:
    """Names a map, or each map of a pyramid, among a stage's tensors."""
    if isinstance(features, Mapping):
        return {f"{_FEATURES}_{level}": x for level, x in features.items()}
    return {_FEATURES: features}


def _features_of(given: Mapping):
    """The opposite of `_named_features`."""
    if _FEATURES in given:
        return given[_FEATURES]
    prefix = f"{_FEATURES}_"
    return {key.removeprefix(prefix): x for key, x in given.items() if key.startswith(prefix)}
