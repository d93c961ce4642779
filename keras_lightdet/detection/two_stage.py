"""TwoStageDetector: a network that proposes regions, and one that looks at each of them."""

from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf
from keras import ops

from keras_lightdet.boxes import SelectSpec
from keras_lightdet.detection.model import DetectorModel
from keras_lightdet.detection.proposal_head import ProposalHead
from keras_lightdet.detection.region_head import RegionHead


@keras.saving.register_keras_serializable("keras_lightdet")
class TwoStageDetector(DetectorModel):
    """Two functional models with `ProposalHead.propose` between them, through which no gradient flows.

    Args:
        rpn: Images `[B, H, W, 3]` -> `{"features": a map or a dict of maps, "objectness" [B, N], "rpn_deltas"
            [B, N, 4]}`.
        roi_head: `{"features", "rois" [B, R, 4]}` -> `{"class_logits" [B, R, K + 1], "box_deltas"}`.
        proposals: Meaning and losses of the first's outputs.
        regions: Meaning and losses of the second's.
        class_names, input_size, select, architecture, name: See `DetectorModel`.
    """

    def __init__(
        self,
        rpn: keras.Model,
        roi_head: keras.Model,
        proposals: ProposalHead,
        regions: RegionHead,
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
        return [layer for layer in self.roi_head.layers if layer.name.endswith("_class")]

    def call(self, images, training: bool = False) -> dict:
        """Returns what `decode` reads: `{"rois", "valid", "class_logits", "box_deltas"}`, float32."""
        first = self._look(images, training)
        image_size = self._size_of(images)
        found = self.proposals.propose(first, self._place_anchors(image_size), image_size, training=False)
        second = self._look_closer(first, found["boxes"], training)
        return {"rois": found["boxes"], "valid": ops.cast(found["valid"], "float32"), **second}

    def compute_losses(self, images, targets: dict, training: bool) -> dict:
        """Computes the four losses of a batch, see `DetectorModel.compute_losses`."""
        first = self._look(images, training)
        image_size = self._size_of(images)
        anchors = self._place_anchors(image_size)
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

    @staticmethod
    def _size_of(images) -> tuple:
        """`(height, width)`, as numbers where the graph knows them."""
        dynamic = tf.shape(images)
        return tuple(images.shape[axis] or dynamic[axis] for axis in (1, 2))

    def _place_anchors(self, image_size: tuple) -> tf.Tensor:
        if all(isinstance(side, int) for side in image_size):
            return tf.constant(self.proposals.anchors.place(image_size))
        # Batches of changing size (multi-scale training): the anchors come from NumPy at each step.
        placed = tf.numpy_function(
            lambda size: self.proposals.anchors.place(tuple(size)), [tf.stack(image_size)], tf.float32
        )
        return tf.ensure_shape(placed, [None, 4])

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
