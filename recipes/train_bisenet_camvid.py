"""BiSeNet on CamVid in SegNet's form (480 x 360, 11 classes), or on your own images in SegNet's layout or in parallel
folders.

    python recipes/train_bisenet_camvid.py --demo  # drawn scenes, minutes on two cores
    python recipes/train_bisenet_camvid.py --data-dir D --export
    python recipes/train_bisenet_camvid.py --data-dir D --weights-backbone runs/backbone_imagenet/best.weights.h5

From a classifier's weights (train_backbone_imagenet.py --variant xception39) it follows the paper: SGD of momentum 0.9
and decay 1e-4, 2.5e-2 at batch 16 falling by a power of 0.9, scales of 0.75 to 2 (Yu et al. 2018); the warm-up before
and the average of the weights are ours. From noise it takes Adam, whose rate and length are ours. CamVid's licence is
non-commercial; the papers train and test at 960 x 720, which that form is not. The best weights are chosen on "val" and
scored on "test" where there are both. The output folder holds best.weights.h5 and its record, last/ (for --resume),
metrics.json, scores.json, labels.txt, logs/ (TensorBoard), predictions.png and, with --export or --demo,
segmenter.tflite.
"""

from segmenter_run import parse_args, train

from keras_lightdet import BiSeNet

# The paper's, of training from a classifier's weights.
PAPER = {"scales": (0.75, 2.0), "rate": 0.025, "batch_size": 16, "decay": 0.0001}
SCRATCH_RATE = 2e-3


if __name__ == "__main__":
    args = parse_args(
        __doc__,
        name="bisenet_camvid",
        epochs=60,
        height=360,
        width=480,
        batch_size=8,
        variants=("xception39", "resnet18"),
        backbone="Xception39 or ResNet",
    )
    train(args, BiSeNet, **PAPER, scratch_rate=SCRATCH_RATE)
