"""What check_tflite.py does with a segmenter's file: its score beside Keras', and its masks in MediaPipe."""

import argparse
from pathlib import Path

import numpy as np
from detector_files import load_detector, load_label_split

from keras_lightdet.data.segmentation.loading import SegmentationData
from keras_lightdet.deploy import TFLiteSegmenter, flatbuffer
from keras_lightdet.deploy.mediapipe_check import segment_with_mediapipe
from keras_lightdet.deploy.runtime import MASKS
from keras_lightdet.evaluation import SegmentationResult, class_table, evaluate_segmentation
from keras_lightdet.evaluation.segmentation import count_confusion
from keras_lightdet.images import read_image, resize_image

MEDIAPIPE_IMAGES = 8
MIN_SAME_PIXELS = 0.99  # MediaPipe beside the file itself, and beside Keras
MIN_SAME_PIXELS_INT8 = 0.97  # MediaPipe beside Keras, of an int8 file


def is_segmenter(content: bytes) -> bool:
    """Tells whether a file's one output are masks."""
    _, outputs = flatbuffer.signature_tensors(flatbuffer.unpack(content))
    return list(outputs) == [MASKS]


def check_segmenter(args: argparse.Namespace, *, int8: bool) -> list[str]:
    """Prints all figures; returns what is wrong with the file."""
    segmenter = TFLiteSegmenter(args.tflite)
    print(f"classes: {', '.join(segmenter.class_names)}")
    if not args.data_dir:
        return []
    data = load_label_split(args.data_dir, segmenter.class_names, test=True)
    model = load_detector(args.weights) if args.weights else None
    faults = compare_scores(segmenter, model, data, args)
    if not args.no_mediapipe:
        faults += compare_with_mediapipe(segmenter, model, data, args.tflite, int8=int8)
    return faults


def compare_scores(segmenter: TFLiteSegmenter, model, data: SegmentationData, args: argparse.Namespace) -> list[str]:
    """Scores the file, and the Keras model beside it where there is one."""
    count = len(data.class_names)
    pairs = ((data.read_labels(i), segmenter.segment(record.path)) for i, record in enumerate(data.records))
    confusion = sum(count_confusion(truth, found, count) for truth, found in pairs)
    own = SegmentationResult(data.class_names, confusion)
    print(f"\n{len(data)} images of {args.data_dir}:\n{class_table(own)}")
    if model is None:
        return []
    keras_figures, figures = evaluate_segmentation(model, data).figures(), own.figures()
    print(f"\n{'':16}{'tflite':>10}{'keras':>10}")
    for name, value in figures.items():
        print(f"{name:16}{100 * value:10.2f}{100 * keras_figures[name]:10.2f}")
    drop = 100 * (keras_figures["mIoU"] - figures["mIoU"])
    return [f"mIoU is {drop:.2f} points below Keras' (at most {args.max_drop})"] if drop > args.max_drop else []


def compare_with_mediapipe(
    segmenter: TFLiteSegmenter, model, data: SegmentationData, path: Path, *, int8: bool
) -> list[str]:
    """Runs some images of the network's size in MediaPipe's ImageSegmenter, and compares its category masks."""
    chosen = np.linspace(0, len(data) - 1, min(MEDIAPIPE_IMAGES, len(data))).astype(int)
    images = [resize_image(read_image(data.records[index].path), segmenter.input_size) for index in chosen]
    masks, names = segment_with_mediapipe(path, images)
    faults = [] if names == segmenter.class_names else [f"MediaPipe reads the labels {names}"]
    others = {"the file": (segmenter, MIN_SAME_PIXELS)}
    if model is not None:
        others["Keras"] = (model, MIN_SAME_PIXELS_INT8 if int8 else MIN_SAME_PIXELS)
    for name, (other, least) in others.items():
        same = float(np.mean([np.mean(own == mask) for own, mask in zip(other.segment(images), masks, strict=True)]))
        print(f"MediaPipe, images at the network's size: {same:.2%} of the pixels have the class of {name}")
        if same < least:
            faults.append(f"MediaPipe gives other classes than {name} in {1 - same:.2%} of the pixels")
    return faults
