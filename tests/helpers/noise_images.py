"""Random images for comparing two runtimes."""

import numpy as np
from small_detector import SIDE


def draw_image(seed, size=(SIDE, SIDE)):
    """Draws rectangles on random noise: all regions of an image differ, and so do all scores."""
    draw = np.random.default_rng(seed)
    image = draw.integers(0, 256, (*size, 3))
    for _ in range(5):
        top, left = (int(draw.integers(0, side - 12)) for side in size)
        height, width = draw.integers(10, 40, 2)
        image[top : top + height, left : left + width] = draw.integers(0, 256, 3) + draw.integers(-20, 20, 3)
    return np.clip(image, 0, 255).astype(np.uint8)
