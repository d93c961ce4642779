"""Searches for a scale-permuted backbone as SpineNet was found (Du et al. 2020), on your own images or on COCO 2017.

    lightdet train search_spinenet --demo                                      # synthetic scenes, a few tiny graphs
    python recipes/search_spinenet.py --data-dir D --rounds 500 --epochs 5     # your images
    python recipes/search_spinenet.py --data-dir D --permuted-only             # order and connections only
    python recipes/search_spinenet.py --data-dir D --method evolve             # evolution instead of the controller

A recurrent controller decides the order of scales, the connections, and then shifts of levels and kinds of blocks
(section 3.2). Its reward is the AP of a proxy on images held out of the training split: a RetinaNet on the graph with a
quarter of SpineNet-49's widths and of its resampling, heads of 64 channels, 512 pixels, 5 epochs. The paper does not
state how its proxies were trained: here by Adam with a cosine to 0.

The output folder holds graphs.jsonl, a line for every graph with its AP, and found.json with the best so far, for
`train_spinenet_coco.py --graph` or `SpineNet(variant="49", blocks=json.loads(..)["blocks"])`. `--resume` continues a
killed search; it loses the graph that was in training.

Duration: the demo 9 minutes on one CPU core, six graphs with APs up to 0.042; COCO not measured.
The paper: 14,000 proxies on 100 machines, 7,392 of COCO's 118,287 images held out.
"""

from collections.abc import Sequence

import keras

from keras_lightdet import runs
from keras_lightdet.backbones.scale_permuted import Block
from keras_lightdet.data import AugmentSpec, train_batches
from keras_lightdet.evaluation import evaluate_coco, predict_detection
from keras_lightdet.runs.spinenet_search import (
    FOUND,
    GraphLog,
    SearchSettings,
    hold_out,
    load_search_data,
    proxy,
    search,
)
from keras_lightdet.training import warmup_cosine

DEFAULTS = {"rounds": 200, "batch": 10, "epochs": 5, "input_size": 512, "batch_size": 8, "hold_out": 1 / 16}
DEMO = {"rounds": 6, "batch": 3, "epochs": 20, "input_size": 96, "batch_size": 8, "hold_out": 1 / 4}
RATE, DEMO_RATE = 1e-3, 3e-3
AUGMENT = AugmentSpec(zoom_out=0, crop=0, mosaic=0)


@runs.report_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Searches, and prints the best AP."""
    settings = runs.start(SearchSettings, argv, __doc__, "spinenet_search", DEFAULTS, DEMO)

    # Data
    data = load_search_data(settings, runs.fetch_coco)
    print(runs.summarize("images", data))
    train_data, held_out = hold_out(data, settings.hold_out)

    def score(blocks: Sequence[Block]) -> float:
        """Trains the proxy of a graph and returns its AP; the same graph has the same score."""
        keras.backend.clear_session()
        keras.utils.set_random_seed(settings.seed)
        model = proxy(blocks, train_data.class_names, settings.input_size)
        steps_per_epoch, steps = settings.count_steps(len(train_data))
        rate = warmup_cosine(DEMO_RATE if settings.demo else RATE, steps, steps_per_epoch // 2)
        model.compile(keras.optimizers.Adam(rate, global_clipnorm=10.0))
        batches = train_batches(
            train_data, settings.input_size, settings.batch_size, seed=settings.seed, augment=AUGMENT
        )
        model.fit(batches, steps_per_epoch=steps, verbose=0)
        detections = predict_detection(model, held_out, settings.batch_size)
        return float(evaluate_coco(held_out, detections).figures()["AP"])

    # Search
    config = runs.run_config(settings, data, demo=settings.demo)
    log = GraphLog(settings.output_dir, score, config, resume=settings.resume)
    _, best = search(log, settings)
    print(f"best of {settings.rounds} graphs: AP {best:.4f}, in {settings.output_dir / FOUND}")


if __name__ == "__main__":
    main()
