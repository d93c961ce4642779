"""Milliseconds of a training step, ours and a PyTorch peer's in turn on the same CPU.

    python tests/benchmarks/training_step.py faster_rcnn     # R50-FPN at 320, 2 images, beside torchvision's
    python tests/benchmarks/training_step.py efficientdet    # Lite0 at 320, 8 images, beside effdet's

Both have the same images and boxes, and SGD with a rate of 0, so that every step is the same work. Faster R-CNN has
the same weights too, frozen batch norms, and three stages of five trained. The peer runs in a process of its own. It
asserts nothing: times belong to the machine. One thread is the default because PyTorch's wait for each other: on two
cores that others use too its steps take twice as long with two threads as with one.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS / "helpers"))
CLASSES, BOXES, WARM_UP = 90, 8, 2


def some_batch(batch: int, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise images `[B, side, side, 3]`, boxes `[B, 8, 4]` and labels `[B, 8]`."""
    random = np.random.default_rng(0)
    low = random.uniform(0, 0.6 * side, (batch, BOXES, 2))
    boxes = np.concatenate([low, low + random.uniform(0.1 * side, 0.4 * side, low.shape)], -1)
    images = random.integers(0, 256, (batch, side, side, 3)).astype("float32")
    return images, boxes.astype("float32"), random.integers(0, CLASSES, (batch, BOXES))


def torchvision_faster_rcnn(batch: int, side: int):
    """Returns a function that takes one step of torchvision's Faster R-CNN."""
    import torch
    from torchvision.models.detection import FasterRCNN  # before TensorFlow
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    from torch_tensors import draw_detector_tensor  # isort: skip

    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=3)
    net = FasterRCNN(backbone, CLASSES + 1, min_size=side, max_size=side).train()
    state = {key: draw_detector_tensor(key, tuple(value.shape)) for key, value in net.state_dict().items()}
    net.load_state_dict({key: torch.as_tensor(value) for key, value in state.items()})
    images, boxes, labels = some_batch(batch, side)
    pictures = list(torch.as_tensor(images).permute(0, 3, 1, 2).contiguous() / 255)
    targets = [
        {"boxes": torch.as_tensor(own), "labels": torch.as_tensor(classes + 1)}
        for own, classes in zip(boxes, labels, strict=True)
    ]
    return torch_step(net, lambda: net(pictures, targets))


def effdet_lite0(batch: int, side: int):
    """Returns a function that takes one step of effdet's EfficientDet-Lite0, which labels its anchors in the step."""
    import torch
    import torchvision  # noqa: F401 - effdet and timm come behind it
    from effdet import DetBenchTrain, get_efficientdet_config
    from effdet.efficientdet import EfficientDet

    config = get_efficientdet_config("tf_efficientdet_lite0")
    config.update(num_classes=CLASSES, image_size=(side, side))
    net = DetBenchTrain(EfficientDet(config, pretrained_backbone=False), create_labeler=True).train()
    images, boxes, labels = some_batch(batch, side)
    pictures = torch.as_tensor((images - 127) / 128).permute(0, 3, 1, 2).contiguous()
    targets = {
        "bbox": torch.as_tensor(boxes[..., [1, 0, 3, 2]]),
        "cls": torch.as_tensor(labels + 1).float(),
    }

    def losses():
        found = net(pictures, targets)
        return {"loss": found["loss"]}

    return torch_step(net, losses)


def torch_step(net, losses: Callable[[], dict]):
    """Returns a function that takes a step down the sum of the losses and tells them."""
    import torch

    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.0, momentum=0.9)

    def step():
        found = losses()
        optimizer.zero_grad()
        sum(found.values()).backward()
        optimizer.step()
        return {key: float(value.detach()) for key, value in found.items()}

    return step


def our_faster_rcnn(side: int):
    """Returns ours with the weights of torchvision's."""
    from torch_tensors import draw_detector_state

    import keras_lightdet
    from keras_lightdet.foreign_weights import load_faster_rcnn
    from keras_lightdet.foreign_weights.torchvision_detection import faster_rcnn_modules

    model = keras_lightdet.FasterRCNN(CLASSES, (side, side, 3))
    modules = faster_rcnn_modules(model)
    load_faster_rcnn(model, draw_detector_state(modules))
    return model


def our_lite0(side: int):
    """Returns ours from noise."""
    import keras_lightdet

    return keras_lightdet.EfficientDet(CLASSES, (side, side, 3), variant="lite0")


class Race(NamedTuple):
    """Who runs: our detector of a side, the peer's step of a batch and a side, its name, and the usual batch."""

    ours: Callable
    peer: Callable
    name: str
    batch: int


RACES = {
    "faster_rcnn": Race(our_faster_rcnn, torchvision_faster_rcnn, "torchvision", 2),
    "efficientdet": Race(our_lite0, effdet_lite0, "effdet", 8),
}


def our_step(build: Callable, batch: int, side: int, threads: int):
    """Returns a function that takes one step."""
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    model = build(side)
    model.compile(keras.optimizers.SGD(0.0, momentum=0.9))
    images, boxes, labels = some_batch(batch, side)
    targets = {"boxes": boxes, "labels": labels.astype("int32"), "ignore": np.zeros_like(labels, "uint8")}
    return lambda: model.train_on_batch(images, targets, return_dict=True)


def timed(step) -> tuple[float, float]:
    """Milliseconds of a step by the clock, and those of all its threads on a processor, which others slow less."""
    wall, busy = time.perf_counter(), time.process_time()
    step()
    return 1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - busy)


def work(peer: Callable, batch: int, side: int, threads: int) -> None:
    """The other process: a step and its milliseconds for every line it reads."""
    import torch

    torch.set_num_threads(threads)
    step = peer(batch, side)
    print("losses", step(), flush=True)
    for _ in sys.stdin:
        print(*timed(step), flush=True)


def main(args) -> None:
    """Takes steps in turn and prints both medians and their ratio."""
    race = RACES[args.detector]
    size = ["--batch", str(args.batch or race.batch), "--side", str(args.side), "--threads", str(args.threads)]
    worker = subprocess.Popen(
        [args.peer_python, __file__, args.detector, "--worker", *size],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    print(f"{race.name:11}", worker.stdout.readline().strip())
    step = our_step(race.ours, args.batch or race.batch, args.side, args.threads)
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
        print(f"{kind}: ours {ours:.0f} ms, {race.name} {theirs:.0f} ms, ratio {ours / theirs:.2f}", end=" ")
        print(f"(step by step {ratios.min():.2f} to {ratios.max():.2f})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector", choices=RACES)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--batch", type=int, help="images; default: that of the detector")
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peer-python", default=sys.executable, help="of an environment that has the peer")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(RACES[given.detector].peer, given.batch, given.side, given.threads)
    else:
        main(given)
