"""ThunderNet on PASCAL VOC, or on your own VOC or COCO folder.

    python recipes/train_thundernet_voc.py --demo                                     # drawn scenes, minutes
    python recipes/train_thundernet_voc.py --data-dir D --variant snet49 --export     # your images
    python recipes/train_thundernet_voc.py --weights-backbone runs/snet_imagenet/best.weights.h5
                                                                                      # VOC 07+12 -> 07 test

From scratch it is trained as RSANet is: Adam, a warm-up of one epoch to 1e-3, a cosine down to 1e-6. The paper starts
from ImageNet's weights (train_snet_imagenet.py), by SGD: batch 64, 0.01 falling tenfold at a half and three quarters of
62,500 steps, at 240, 320 and 480 pixels in turn (Qin et al. 2019); that is what `--weights-backbone` and `--weights`
get, over as many epochs as are asked for. Files and flags are those of train_rsanet_voc.py.
"""

from collections.abc import Callable
from pathlib import Path

from detector_run import DetectorRun, Splits, parse_args
from shared_run import report_errors
from train_rsanet_voc import fetch
from two_stage_run import is_fine_tuning, two_stage_optimizer

from keras_lightdet import ThunderNet
from keras_lightdet.data import AugmentSpec

VARIANTS = ("snet146", "snet49", "snet535")
SCALES = (0.75, 1.0, 1.5)  # 240, 320 and 480 pixels
# The smallest anchor is 32 pixels on a map of stride 16: what a mosaic leaves of small objects fits none.
AUGMENT = AugmentSpec(mosaic=0.0)
SCRATCH_AUGMENT = AugmentSpec(mosaic=0.0, zoom_out=0.0)
SCHEDULE = {"rate": 0.01, "batch_size": 64, "drops": (0.5, 0.75)}
DEFAULTS = {"input_size": 320, "batch_size": 64, "variants": VARIANTS, "backbone": "SNet"}


def train(args, *, fetch: Callable[[Path], Splits], metric: str) -> None:
    """Trains, scores, draws and exports."""
    trained = is_fine_tuning(args)
    options = {"scales": SCALES, "augment": AUGMENT} if trained else {"augment": SCRATCH_AUGMENT}
    run = DetectorRun(args, fetch=fetch, metric=metric, **options)
    model = ThunderNet(
        class_names=run.class_names,
        input_shape=run.input_shape,
        variant=args.variant,
        weights_backbone=args.weights_backbone,
    )
    run.start_from(model)
    model.compile(two_stage_optimizer(run, **SCHEDULE))
    run.fit(model)
    run.finish(model)


def main(args) -> None:
    """Trains with VOC's score."""
    train(args, fetch=fetch, metric="voc07")


if __name__ == "__main__":
    with report_errors():
        main(parse_args(__doc__, name="thundernet_voc", epochs=240, **DEFAULTS))
