"""RSANet on PASCAL VOC, or on your own VOC or COCO folder.

    python recipes/train_rsanet_voc.py --demo                    # drawn scenes, minutes on two cores
    python recipes/train_rsanet_voc.py --data-dir D --export     # your images
    python recipes/train_rsanet_voc.py                           # VOC 07+12 trainval -> 07 test, fetched once

The paper's recipe: Adam from scratch, batch 12 at 416 pixels (24 at 320), one epoch of warm-up to 1e-3, cosine down
to 1e-6 (Zhou et al. 2021). It gives no epochs and no augmentation; those here are ours. The output folder holds
best.weights.h5 and its record, last/ (for --resume), metrics.json, scores.json, labels.txt, logs/ (TensorBoard),
predictions.png and detector.tflite.
"""

from pathlib import Path

import keras
from detector_run import DetectorRun, Splits, parse_args
from shared_run import report_errors

from keras_lightdet import RSANet
from keras_lightdet.data import join_data, load_tfds
from keras_lightdet.training import ema_momentum


def fetch(folder: Path) -> Splits:
    """Fetches VOC 2007 and 2012, as is usual for the 2007 test."""
    trainval = [load_tfds(name, "trainval", cache_dir=folder) for name in ("voc/2007", "voc/2012")]
    return Splits(join_data(trainval), load_tfds("voc/2007", "test", cache_dir=folder))


def main(args) -> None:
    """Trains, scores, draws and exports."""
    run = DetectorRun(args, fetch=fetch, metric="voc07")
    model = RSANet(
        class_names=run.class_names, input_shape=run.input_shape, anchors=run.fit_anchors(num_levels=3, per_level=3)
    )
    run.start_from(model)
    rate = run.warmup_cosine(1e-3, final=1e-6)
    average = {"use_ema": True, "ema_momentum": ema_momentum(run.total_steps)}
    model.compile(keras.optimizers.Adam(rate, global_clipnorm=10.0, **average))
    run.fit(model)
    run.finish(model)


if __name__ == "__main__":
    with report_errors():
        main(parse_args(__doc__, name="rsanet_voc", epochs=120, input_size=416))
