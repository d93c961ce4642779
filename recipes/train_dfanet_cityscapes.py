"""DFANet on Cityscapes (leftImg8bit/ and gtFine/ in one folder).

    python recipes/train_dfanet_cityscapes.py --demo  # drawn scenes, minutes on two cores
    python recipes/train_dfanet_cityscapes.py --data-dir D --export
    python recipes/train_dfanet_cityscapes.py --data-dir D --weights-backbone runs/backbone_imagenet/best.weights.h5

From a classifier's weights (train_backbone_imagenet.py --variant xception_a) it follows the paper: SGD of momentum 0.9
and decay 1e-5, 0.2 at batch 48 falling by a power of 0.9, scales of 0.75 to 1.75 (Li et al. 2019); the warm-up before
and the average of the weights are ours. From noise it takes Adam, whose rate and length are ours. Cityscapes has to be
fetched by hand, as its terms demand. Images are stretched to 1024 x 1024. The best weights are chosen and scored on
"val": the labels of "test" are not public. The output folder holds best.weights.h5 and its record, last/ (for
--resume), metrics.json, scores.json, labels.txt, logs/ (TensorBoard), predictions.png and, with --export or --demo,
segmenter.tflite.
"""

from segmenter_run import parse_args, train
from train_dfanet_camvid import PAPER, SCRATCH_RATE

from keras_lightdet import DFANet

if __name__ == "__main__":
    args = parse_args(
        __doc__,
        name="dfanet_cityscapes",
        epochs=480,
        height=1024,
        width=1024,
        batch_size=48,
        variants=("a", "b"),
        backbone="XceptionDFANet",
    )
    train(args, DFANet, **PAPER, scratch_rate=SCRATCH_RATE)
