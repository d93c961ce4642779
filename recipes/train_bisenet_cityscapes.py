"""BiSeNet on Cityscapes (leftImg8bit/ and gtFine/ in one folder).

    python recipes/train_bisenet_cityscapes.py --demo  # drawn scenes, minutes on two cores
    python recipes/train_bisenet_cityscapes.py --data-dir D --export
    python recipes/train_bisenet_cityscapes.py --data-dir D --weights-backbone runs/backbone_imagenet/best.weights.h5

From a classifier's weights (train_backbone_imagenet.py --variant xception39) it follows the paper: SGD of momentum 0.9
and decay 1e-4, 2.5e-2 at batch 16 falling by a power of 0.9, scales of 0.75 to 2 (Yu et al. 2018); the warm-up before
and the average of the weights are ours. From noise it takes Adam, whose rate and length are ours. Cityscapes has to be
fetched by hand, as its terms demand. Whole images are scored, crops of 1024 x 1024 trained on. The best weights are
chosen and scored on "val": the labels of "test" are not public. The output folder holds best.weights.h5 and its record,
last/ (for --resume), metrics.json, scores.json, labels.txt, logs/ (TensorBoard), predictions.png and, with --export,
segmenter.tflite.
"""

from segmenter_run import parse_args, train
from train_bisenet_camvid import PAPER, SCRATCH_RATE

from keras_lightdet import BiSeNet

if __name__ == "__main__":
    args = parse_args(
        __doc__,
        name="bisenet_cityscapes",
        epochs=480,
        height=1024,
        width=2048,
        batch_size=16,
        variants=("xception39", "resnet18"),
        backbone="Xception39 or ResNet",
        crop_size=(1024, 1024),
    )
    train(args, BiSeNet, **PAPER, scratch_rate=SCRATCH_RATE)
