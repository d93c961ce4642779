"""Writes the pixels that MediaPipe passes to a network for each image of a .npz: its ImageEmbedder runs the identity.

python mediapipe_pixels.py identity.tflite images.npz pixels.npz
"""

import sys

import mediapipe
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision

model, images, results = sys.argv[1:]
options = vision.ImageEmbedderOptions(base_options=BaseOptions(model_asset_path=model), l2_normalize=False)
embedder = vision.ImageEmbedder.create_from_options(options)
pixels = []
for image in np.load(images).values():
    result = embedder.embed(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image))
    pixels.append(np.array(result.embeddings[0].embedding))
np.savez(results, *pixels)
