"""Milliseconds of a training step of Faster R-CNN R50-FPN, ours and torchvision's in turn on the same CPU.

    python tests/benchmarks/faster_rcnn_step.py [--steps 7] [--batch 2] [--side 320] [--threads 1]

Both have the same weights, pictures and boxes, frozen batch norms, three stages of five trained, and SGD with a rate of
0, so that every step is the same work. torchvision runs in a process of its own. It asserts nothing: times belong to
the machine. One thread is the default because PyTorch's wait for each other: on two cores that others use too its
steps take twice as long with two threads as with one.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))
CLASSES, BOXES, WARM_UP = 90, 8, 2


def some_batch(batch: int, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise pictures `[B, side, side, 3]`, boxes `[B, 8, 4]` and labels `[B, 8]`."""
    random = np.random.default_rng(0)
    low = random.uniform(0, 0.6 * side, (batch, BOXES, 2))
    boxes = np.concatenate([low, low + random.uniform(0.1 * side, 0.4 * side, low.shape)], -1)
    images = random.integers(0, 256, (batch, side, side, 3)).astype("float32")
    return images, boxes.astype("float32"), random.integers(0, CLASSES, (batch, BOXES))


def torchvision_step(batch: int, side: int, threads: int):
    """Returns a function that takes one step."""
    import torch
    from torchvision.models.detection import FasterRCNN  # before TensorFlow
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    from torch_tensors import draw_detector_tensor  # isort: skip

    torch.set_num_threads(threads)
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=3)
    net = FasterRCNN(backbone, CLASSES + 1, min_size=side, max_size=side).train()
    state = {key: draw_detector_tensor(key, tuple(value.shape)) for key, value in net.state_dict().items()}
    net.load_state_dict({key: torch.as_tensor(value) for key, value in state.items()})
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.0, momentum=0.9)
    images, boxes, labels = some_batch(batch, side)
    pictures = list(torch.as_tensor(images).permute(0, 3, 1, 2).contiguous() / 255)
    targets = [
        {"boxes": torch.as_tensor(own), "labels": torch.as_tensor(classes + 1)}
        for own, classes in zip(boxes, labels, strict=True)
    ]

    def step():
        losses = net(pictures, targets)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        return {key: float(value.detach()) for key, value in losses.items()}

    return step


def our_step(batch: int, side: int, threads: int):
    """Returns a function that takes one step."""
    import keras
    import tensorflow as tf
    from torch_tensors import draw_detector_state

    import keras_lightdet
    from keras_lightdet.convert import load_faster_rcnn
    from keras_lightdet.convert.torchvision_detection import faster_rcnn_module, named_layers

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    model = keras_lightdet.FasterRCNN(CLASSES, (side, side, 3))
    modules = {faster_rcnn_module(path): layer for path, layer in named_layers(model).items()}
    load_faster_rcnn(model, draw_detector_state(modules))
    model.compile(keras.optimizers.SGD(0.0, momentum=0.9))
    images, boxes, labels = some_batch(batch, side)
    targets = {"boxes": boxes, "labels": labels.astype("int32"), "ignore": np.zeros_like(labels, "uint8")}
    return lambda: model.train_on_batch(images, targets, return_dict=True)


def timed(step) -> tuple[float, float]:
    """Milliseconds of a step by the clock, and those of all its threads on a processor, which others slow less."""
    wall, busy = time.perf_counter(), time.process_time()
    step()
    return 1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - busy)


def work(*size: int) -> None:
    """The other process: a step and its milliseconds for every line it reads."""
    step = torchvision_step(*size)
    print("losses", step(), flush=True)
    for _ in sys.stdin:
        print(*timed(step), flush=True)


def main(args) -> None:
    """Takes steps in turn and prints both medians and their ratio."""
    size = ["--batch", str(args.batch), "--side", str(args.side), "--threads", str(args.threads)]
    worker = subprocess.Popen(
        [sys.executable, __file__, "--worker", *size], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    print("torchvision", worker.stdout.readline().strip())
    step = our_step(args.batch, args.side, args.threads)
    print("ours       ", {key: float(value) for key, value in step().items()})

    def other() -> tuple[float, ...]:
        worker.stdin.write("step\n")
        worker.stdin.flush()
        return tuple(float(number) for number in worker.stdout.readline().split())

    times = np.array([(timed(step), other()) for _ in range(WARM_UP + args.steps)][WARM_UP:])
    worker.stdin.close()
    worker.wait()
    for kind, rows in zip(("by the clock", "on the processor"), np.moveaxis(times, -1, 0), strict=True):
        (ours, theirs), ratios = np.median(rows, axis=0), rows[:, 0] / rows[:, 1]
        print(f"{kind}: ours {ours:.0f} ms, torchvision {theirs:.0f} ms, ratio {ours / theirs:.2f}", end=" ")
        print(f"(step by step {ratios.min():.2f} to {ratios.max():.2f})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    work(given.batch, given.side, given.threads) if given.worker else main(given)
