"""The backbones of BiSeNet and DFANet as classifiers on ImageNet, or on your own folders of classes.

    python recipes/train_backbone_imagenet.py --demo                           # drawn objects, minutes on two cores
    python recipes/train_backbone_imagenet.py --data-dir D --variant resnet18  # D/train/<class>/.., D/val/<class>/..
    python recipes/train_backbone_imagenet.py --variant xception_a             # imagenet2012 of TensorFlow Datasets

"xception39" and "resnet18" are BiSeNet's, "xception_a" and "xception_b" DFANet's. Both papers start from ImageNet and
do not say how that was trained; no weights of the Xceptions were published. They get 90 epochs of 256 images at 224
pixels, SGD from 0.3, decay 4e-5, of a re-implementation of DFANet, whose Xception A with another block came to 57.3 %
top-1; ResNet-18 gets 0.1 and 1e-4 (He et al. 2016, section 3.4). In a line down to 0 the rates fall for all: that is
ours. Other batch sizes get their share of the rate. TensorFlow Datasets cannot fetch ImageNet: put its archives where
it says. DFANet's attention starts from the classifier's dense layer if that knows 1000 classes. The output folder holds
best.weights.h5 and its record, which `--weights-backbone` of the BiSeNet and DFANet recipes takes, last/ (for
--resume), metrics.json, labels.txt and logs/ (TensorBoard).
"""

from functools import partial

from classifier_run import Schedule, parse_args, train

from keras_lightdet.backbones import ResNet, Xception39, XceptionDFANet

VARIANTS = {
    "xception39": Xception39,
    "resnet18": partial(ResNet, depth=18),
    "xception_a": partial(XceptionDFANet, variant="a"),
    "xception_b": partial(XceptionDFANet, variant="b"),
}
XCEPTION = Schedule(rate=0.3, batch_size=256, decay=4e-5, smoothing=0.0, epochs=90)
RESNET = Schedule(rate=0.1, batch_size=256, decay=1e-4, smoothing=0.0, epochs=90)


if __name__ == "__main__":
    args = parse_args(__doc__, name="backbone_imagenet", variants=tuple(VARIANTS), schedule=XCEPTION)
    train(args, VARIANTS[args.variant], RESNET if args.variant == "resnet18" else XCEPTION)
