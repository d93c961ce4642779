"""DropBlock: dropout of squares, because neighboring pixels of a feature map are correlated."""

from typing import Any

import keras
from keras import ops

from keras_lightdet.types import Config, Tensor


@keras.saving.register_keras_serializable("keras_lightdet")
class DropBlock(keras.layers.Layer):
    """Drops squares of `[B, H, W, C]` in training, independently in each channel (Ghiasi et al. 2018, algorithm 1).

    The other values are scaled up by the share that is dropped in the whole batch. A square larger than the map drops
    all of it.

    Args:
        rate: Probability that a value is dropped, 0 to below 1.
        block_size: Height and width of the squares in pixels of the map, odd.
        seed: Of the random draws.

    Reference:
        Ghiasi et al., "DropBlock: A regularization method for convolutional networks", NeurIPS 2018.
    """

    def __init__(self, rate: float, block_size: int = 7, *, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"Expected rate to be from 0 to below 1, got {rate!r}.")
        if block_size < 1 or block_size % 2 == 0:
            raise ValueError(f"Expected block_size to be odd, got {block_size!r}.")
        self.rate = rate
        self.block_size = block_size
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Returns `inputs`, in training with squares of zeros."""
        if not training or self.rate == 0:
            return inputs
        shape = ops.shape(inputs)
        rows, columns = (_Axis(side, self.block_size) for side in shape[1:3])
        # A center drops a whole square, and there are fewer possible centers than pixels.
        share = rows.share * columns.share
        probability = self.rate / (share * ops.cast(rows.centers * columns.centers, "float32"))
        draws = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator)
        centers = ops.logical_and(rows.is_center[None, :, None, None], columns.is_center[None, None, :, None])
        dropped = ops.cast(ops.logical_and(draws < probability, centers), "float32")
        dropped = ops.max_pool(dropped, self.block_size, 1, padding="same")
        kept = 1.0 - dropped
        scale = ops.cast(ops.size(kept), "float32") / ops.maximum(ops.sum(kept), 1.0)
        return inputs * ops.cast(kept * scale, inputs.dtype)

    def compute_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the shape of the inputs."""
        return input_shape

    def get_config(self) -> Config:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "rate": self.rate, "block_size": self.block_size, "seed": self.seed}


class _Axis:
    """The possible centers of squares along one side of a map, where the squares are inside the map.

    Attributes:
        centers: Their number; one if the square is larger than the map.
        is_center: Which pixels they are, bool `[side]`.
        share: Share of the side that a square covers.
    """

    def __init__(self, side: int | Tensor, size: int):
        self.centers = ops.maximum(side - size + 1, 1)
        first = ops.minimum(size // 2, (side - 1) // 2)
        index = ops.arange(side)
        self.is_center = ops.logical_and(index >= first, index < first + self.centers)
        self.share = ops.cast(ops.minimum(side, size), "float32") / ops.cast(side, "float32")
