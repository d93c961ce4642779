"""Makes a run on a CPU bit-for-bit reproducible."""

import keras
import tensorflow as tf


def make_reproducible(seed: int) -> None:
    """Seeds Python, NumPy and TensorFlow, and makes sums of gradients independent of the timing of threads.

    Call it at the start of a program, before a model is built or a function traced; it holds for the process.
    The gradients of a tensor with three or more uses are summed by one AddN, which adds into the buffer of any input
    that is free at that moment. After TensorFlow's graph optimizer has shared buffers, this depends on timing, and
    `enable_op_determinism` does not change it. The graph optimizer is therefore disabled, which costs no measurable
    time in the training of these networks on a CPU.

    Args:
        seed: Any integer from 0 to 2^32 - 1.
    """
    keras.utils.set_random_seed(seed)
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
