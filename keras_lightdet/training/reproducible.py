"""Makes a run on CPU come out the same to the last bit each time."""

import keras
import tensorflow as tf


def make_reproducible(seed: int) -> None:
    """Seeds Python, NumPy and TensorFlow, and makes sums of gradients independent of the threads' timing.

    To be called at a program's start, before a model is built or a function traced; it holds for the process.
    A tensor that is used three times or more has its gradients added by one AddN, which adds into the buffer of
    any input that happens to be free by then. After TensorFlow's graph optimizer has shared buffers, that is a
    matter of timing, and `enable_op_determinism` does not change it. So the optimizer is switched off, which
    costs no measurable time in the training of these networks on a CPU.

    Args:
        seed: Any integer from 0 to 2^32 - 1.
    """
    keras.utils.set_random_seed(seed)
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
