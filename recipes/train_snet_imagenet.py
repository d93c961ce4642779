"""SNet, ThunderNet's backbone, as a classifier on ImageNet, or on your own folders of classes.

    python recipes/train_snet_imagenet.py --demo                               # drawn objects, minutes on two cores
    python recipes/train_snet_imagenet.py --data-dir D --variant snet49        # D/train/<class>/.., D/val/<class>/..
    python recipes/train_snet_imagenet.py                                      # imagenet2012 of TensorFlow Datasets

The recipe of ThunderNet's authors: 300,000 steps of 512 images at 224 pixels, SGD falling in a line from 0.5 to 0,
decay 4e-5, label smoothing 0.1, random crops, mirrors and colors (Qin et al. 2019); they report 32.2 % top-1 errors
for SNet146. Other batch sizes get their share of the rate. TensorFlow Datasets cannot fetch ImageNet: put its archives
where it says. The output folder holds best.weights.h5 and its record, which `--weights-backbone` of the ThunderNet
recipes takes, last/ (for --resume), metrics.json, labels.txt and logs/ (TensorBoard).
"""

from functools import partial

from classifier_run import Schedule, parse_args, train

from keras_lightdet.backbones import SNet

VARIANTS = ("snet146", "snet49", "snet535")
SCHEDULE = Schedule(rate=0.5, batch_size=512, decay=4e-5, smoothing=0.1, steps=300_000)


if __name__ == "__main__":
    args = parse_args(__doc__, name="snet_imagenet", variants=VARIANTS, schedule=SCHEDULE)
    train(args, partial(SNet, variant=args.variant), SCHEDULE)
