"""Images that nobody took: dead leaves, with the statistics of photographs.

Ellipses and rectangles of random place, size, direction and colour cover one another. With sizes r
as frequent as 1 / r^3 the images look alike at every scale, have edges, and a spectrum that falls
as that of photographs does (Lee, Mumford and Huang, 2001); nets learn more from them than from
other noise (Baradad et al., 2021).
"""

from __future__ import annotations

import numpy as np

from prunecvt_passes.model import Array

SHAPES = 64  # per image
SMALLEST, LARGEST = 0.03, 0.5  # radius over the longer side of the image
STRETCH = 0.5  # deviation of the logarithm of width over height
COMMON = 2.0  # what the colours of a shape have in common, over what each has of its own
COLOURS = 4  # most channels that are taken as colours


def dead_leaves(shape: tuple[int, ...], chance: np.random.Generator) -> Array:
    """Images [samples, channels, height, width] of variance 1 over all."""
    count, channels, height, width = shape
    images = np.zeros(shape, np.float32)
    side = max(height, width)
    rows, columns = np.arange(height)[None, :, None], np.arange(width)[None, None]
    for _ in range(SHAPES):
        drawn = chance.random((5, count, 1, 1))
        stretch = np.exp(STRETCH * chance.standard_normal((count, 1, 1)))
        ratio = (LARGEST / SMALLEST) ** 2
        radius = side * LARGEST / np.sqrt(1 + drawn[0] * (ratio - 1))
        down, right = rows - drawn[1] * height, columns - drawn[2] * width
        turn = np.pi * drawn[3]
        along = (right * np.cos(turn) + down * np.sin(turn)) * stretch
        across = (down * np.cos(turn) - right * np.sin(turn)) / stretch
        ellipse = along**2 + across**2 < radius**2
        rectangle = np.maximum(np.abs(along), np.abs(across)) < radius
        inside = np.where(drawn[4] < 0.5, ellipse, rectangle)
        colour = chance.standard_normal((count, channels, 1, 1))
        if 1 < channels <= COLOURS:
            colour = colour + COMMON * chance.standard_normal((count, 1, 1, 1))
        np.copyto(images, colour.astype(np.float32), where=inside[:, None])
    images /= max(float(images.std()), 1e-30)
    return images
