"""EfficientDet on PASCAL VOC, or on your own VOC or COCO folder.

    python recipes/train_efficientdet_voc.py --demo                                         # drawn scenes
    python recipes/train_efficientdet_voc.py --data-dir D --variant lite0 --export          # your images, from noise
    python recipes/train_efficientdet_voc.py --variant d0 --weights coco/best.weights.h5    # fine-tuning

Fine-tuning is the authors' for VOC: 50 epochs of 64 images a step from a detector's weights, with backbone and fusion
left as they are. Otherwise it is trained as train_efficientdet_coco.py does, and 50 epochs are few. Scored by mAP of
VOC 2007.
"""

from detector_run import parse_args
from shared_run import report_errors
from train_efficientdet_coco import DEFAULTS, build, start, train
from train_rsanet_voc import fetch

FIXED = ("backbone", "fusion")


def main(args) -> None:
    """Trains with VOC's score."""
    run = start(args, metric="voc07", fetch=fetch)
    model = build(run)
    if args.weights:
        for layer in model.network.layers:
            layer.trainable = not layer.name.startswith(FIXED)
    train(run, model)


if __name__ == "__main__":
    with report_errors():
        main(parse_args(__doc__, name="efficientdet_voc", epochs=50, **DEFAULTS))
