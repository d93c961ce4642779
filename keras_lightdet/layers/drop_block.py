"""DropBlock: dropout of squares, because neighboring pixels of a feature map tell the same."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_lightdet")
class DropBlock(keras.layers.Layer):
    """Drops squares of `[B, H, W, C]` in training, in each channel on its own (Ghiasi et al. 2018, algorithm 1).

    What is kept is scaled up for the share that was dropped, over the whole batch. A square larger than the map drops
    all of it.

    Args:
        rate: Chance that a value is dropped, 0 to below 1.
        block_size: Side of the squares in pixels of the map, odd.
        seed: Of the draws.

    Reference:
        Ghiasi et al., "DropBlock: A regularization method for convolutional networks", NeurIPS 2018.
    """

    def __init__(self, rate: float, block_size: int = 7, *, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"Expected rate to be from 0 to below 1, got {rate!r}.")
        if block_size < 1 or block_size % 2 == 0:
            raise ValueError(f"Expected block_size to be odd, got {block_size!r}.")
        self.rate = rate
        self.block_size = block_size
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs, training=False):
        """Returns `inputs` with squares of zeros in training, else as they are."""
        if not training or self.rate == 0:
            return inputs
        shape = ops.shape(inputs)
        rows, columns = (_Axis(side, self.block_size) for side in shape[1:3])
        # One center drops a whole square, and centers have fewer places than there are pixels.
        share = rows.share * columns.share
        chance = self.rate / (share * ops.cast(rows.places * columns.places, "float32"))
        draws = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator)
        centers = ops.logical_and(rows.inside[None, :, None, None], columns.inside[None, None, :, None])
        dropped = ops.cast(ops.logical_and(draws < chance, centers), "float32")
        dropped = ops.max_pool(dropped, self.block_size, 1, padding="same")
        kept = 1.0 - dropped
        scale = ops.cast(ops.size(kept), "float32") / ops.maximum(ops.sum(kept), 1.0)
        return inputs * ops.cast(kept * scale, inputs.dtype)

    def compute_output_shape(self, input_shape):
        """The shape stays."""
        return input_shape

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "rate": self.rate, "block_size": self.block_size, "seed": self.seed}


class _Axis:
    """Where centers of squares may lie along one side of a map, so that the squares lie wholly inside.

    Attributes:
        places: How many there are; one if the square is larger than the map.
        inside: Which of the pixels they are, bool `[side]`.
        share: Part of the side that a square covers.
    """

    def __init__(self, side, size: int):
        self.places = ops.maximum(side - size + 1, 1)
        first = ops.minimum(size // 2, (side - 1) // 2)
        index = ops.arange(side)
        self.inside = ops.logical_and(index >= first, index < first + self.places)
        self.share = ops.cast(ops.minimum(side, size), "float32") / ops.cast(side, "float32")
