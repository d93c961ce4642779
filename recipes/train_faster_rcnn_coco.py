"""Faster R-CNN with a feature pyramid on COCO 2017, or on your own COCO or VOC folder.

    python recipes/train_faster_rcnn_coco.py --demo
    python recipes/train_faster_rcnn_coco.py --data-dir D --export
    python recipes/train_faster_rcnn_coco.py --weights-backbone resnet50.weights.h5

From a trained ResNet-50 it goes as torchvision does: 16 images a step, SGD at 0.02 with a warm-up of 1000 steps from
a thousandth of it, a tenth of it from epoch 16 of 26 and a hundredth from epoch 22, batch norms as the backbone brings
them, the stem and stage 2 fixed. torchvision reports 37.0 AP; nothing was trained that long here yet. From scratch it
is trained as RSANet is, by Adam, all of it. Images are stretched to a square here, of about the pixels of
torchvision's 800 x 1333, and varied more than by torchvision, which mirrors them. The demo has a small network of the
same kind. Files and flags are those of train_rsanet_coco.py. torchvision's own backbone becomes such a file by

    net = keras_lightdet.backbones.ResNet(depth=50, num_classes=1000)
    keras_lightdet.foreign_weights.load_resnet(net, "resnet50.pth")
    keras_lightdet.weights.save_weights(net, "resnet50.weights.h5")
"""

from detector_run import DetectorRun, parse_args
from shared_run import report_errors
from train_rsanet_coco import fetch
from two_stage_run import is_fine_tuning, two_stage_optimizer

from keras_lightdet import FasterRCNN

EPOCHS = 26
SCHEDULE = {
    "rate": 0.02,
    "batch_size": 16,
    "drops": (16 / EPOCHS, 22 / EPOCHS),
    "warmup_steps": 1000,
    "warmup_start": 1e-3,
}
FROM_NOISE = {"trainable_stages": 5, "batch_norm": "trained"}
DEMO = {"depth": 18, "width": 64, "head_width": 256}
DEMO_EPOCHS = 12


def main(args) -> None:
    """Trains, scores, draws and exports."""
    run = DetectorRun(args, fetch=fetch, metric="coco")
    model = FasterRCNN(
        class_names=run.class_names,
        input_shape=run.input_shape,
        weights_backbone=args.weights_backbone,
        **({} if is_fine_tuning(args) else FROM_NOISE),
        **(DEMO if args.demo else {}),
    )
    run.start_from(model)
    model.compile(two_stage_optimizer(run, **SCHEDULE))
    run.fit(model)
    run.finish(model)


if __name__ == "__main__":
    with report_errors():
        main(
            parse_args(
                __doc__,
                name="faster_rcnn_coco",
                epochs=EPOCHS,
                input_size=1024,
                batch_size=16,
                backbone="ResNet(depth=50)",
                demo_epochs=DEMO_EPOCHS,
            )
        )
