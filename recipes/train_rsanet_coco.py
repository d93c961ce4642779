"""RSANet on COCO, or on your own COCO or VOC folder.

    python recipes/train_rsanet_coco.py --demo                    # drawn scenes, minutes on two cores
    python recipes/train_rsanet_coco.py --data-dir D --export     # annotations/instances_train.json, .. and images
    python recipes/train_rsanet_coco.py                           # COCO 2017 train -> val, fetched once (25 GB)

The paper's recipe as in train_rsanet_voc.py at 320 pixels, batch 24, scored by COCO's AP. Its COCO model has 4.35 M
parameters, which 80 classes alone do not explain; this one has 3.40 M, and `widths=(32, 64, 128, 256, 640)` below
gives 4.39 M.
"""

from pathlib import Path

import keras
from detector_run import DetectorRun, Splits, parse_args
from shared_run import report_errors

from keras_lightdet import RSANet
from keras_lightdet.data import load_tfds
from keras_lightdet.training import ema_momentum


def fetch(folder: Path) -> Splits:
    """Fetches COCO 2017."""
    return Splits(load_tfds("coco/2017", "train", cache_dir=folder), load_tfds("coco/2017", "val", cache_dir=folder))


def main(args) -> None:
    """Trains, scores, draws and exports."""
    run = DetectorRun(args, fetch=fetch, metric="coco")
    model = RSANet(
        class_names=run.class_names,
        input_shape=run.input_shape,
        variant="coco",
        anchors=run.fit_anchors(3, per_level=3),
    )
    run.start_from(model)
    rate = run.warmup_cosine(1e-3, final=1e-6)
    average = {"use_ema": True, "ema_momentum": ema_momentum(run.total_steps)}
    model.compile(keras.optimizers.Adam(rate, global_clipnorm=10.0, **average))
    run.fit(model)
    run.finish(model)


if __name__ == "__main__":
    with report_errors():
        main(parse_args(__doc__, name="rsanet_coco", epochs=120, input_size=320))
