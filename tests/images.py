"""What is counted on stacked images by hand."""

import numpy as np


def clutter_of(image):
    """Pairs of neighbouring pixels, side by side or one above the other, that differ."""
    beside = np.count_nonzero(image[:, 1:] != image[:, :-1])
    below = np.count_nonzero(image[1:] != image[:-1])
    return int(beside + below)
