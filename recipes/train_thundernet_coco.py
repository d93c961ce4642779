"""ThunderNet on COCO 2017, or on your own COCO or VOC folder.

    python recipes/train_thundernet_coco.py --demo
    python recipes/train_thundernet_coco.py --data-dir D --variant snet49 --export
    python recipes/train_thundernet_coco.py --weights-backbone runs/snet_imagenet/best.weights.h5

As train_thundernet_voc.py, scored by COCO's AP, over the paper's 375,000 steps of 64 images. The paper has 19.1, 23.6
and 28.0 AP for SNet49, 146 and 535; nothing was trained that long here yet.
"""

from detector_run import parse_args
from shared_run import report_errors
from train_rsanet_coco import fetch
from train_thundernet_voc import DEFAULTS, train


def main(args) -> None:
    """Trains with COCO's score."""
    train(args, fetch=fetch, metric="coco")


if __name__ == "__main__":
    with report_errors():
        main(parse_args(__doc__, name="thundernet_coco", epochs=203, **DEFAULTS))
