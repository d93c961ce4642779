"""Light-Head R-CNN on COCO 2017, or on your own COCO or VOC folder.

    python recipes/train_light_head_rcnn_coco.py --demo
    python recipes/train_light_head_rcnn_coco.py --data-dir D --export
    python recipes/train_light_head_rcnn_coco.py --weights-backbone backbone.weights.h5

From a trained backbone it goes as the authors do: 16 images a step, SGD at 0.01 with a warm-up of 500 steps from a
third of it, a tenth of it from epoch 19 of 30 and a hundredth from epoch 25, batch norms as the backbone brings them,
the stem (of setting L: and stage 2) fixed (Li et al. 2017). From scratch it is trained as RSANet is, by Adam, and 30
epochs are few. Images are stretched to a square here, of about the pixels of the authors' 800 x 1200. They report
30.7 AP for setting S at 700 x 1100 and 40.0 for L; nothing was trained that long here yet. Files and flags are those of
train_rsanet_coco.py; a step of setting L at its own size needs a large GPU.
"""

from detector_run import DetectorRun, parse_args
from shared_run import report_errors
from train_rsanet_coco import fetch
from two_stage_run import two_stage_optimizer

from keras_lightdet import LightHeadRCNN
from keras_lightdet.backbones.freezing import freeze

EPOCHS = 30
DEMO_EPOCHS = 20  # all 2000 proposals of each image are trained on: an epoch takes several times that of ThunderNet
SCHEDULE = {"rate": 0.01, "batch_size": 16, "drops": (19 / EPOCHS, 25 / EPOCHS)}
TRAINABLE_STAGES = {"s": 4, "l": 3}  # of a trained backbone, by variant: all but the stem, and L's stage 2


def main(args) -> None:
    """Trains, scores, draws and exports."""
    run = DetectorRun(args, fetch=fetch, metric="coco")
    model = LightHeadRCNN(
        class_names=run.class_names,
        input_shape=run.input_shape,
        variant=args.variant,
        weights_backbone=args.weights_backbone,
    )
    run.start_from(model)
    if args.weights_backbone:
        stages = TRAINABLE_STAGES[args.variant]
        freeze(model.rpn.get_layer("backbone"), trainable_stages=stages, batch_norm="frozen")
    model.compile(two_stage_optimizer(run, **SCHEDULE))
    run.fit(model)
    run.finish(model)


if __name__ == "__main__":
    with report_errors():
        main(
            parse_args(
                __doc__,
                name="light_head_rcnn_coco",
                epochs=EPOCHS,
                input_size=960,
                batch_size=16,
                variants=("s", "l"),
                backbone="XceptionLight or ResNet(depth=101)",
                demo_epochs=DEMO_EPOCHS,
            )
        )
