"""Matplotlib's figures as pixels, and as files."""

import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image


def pixels(figure: Figure) -> np.ndarray:
    """The figure's pixels, uint8 RGB `[height, width, 3]`."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def png(figure: Figure) -> bytes:
    """The figure as a PNG file, in 256 colours: a third of the size."""
    image, file = Image.fromarray(pixels(figure)), io.BytesIO()
    image.quantize(256, dither=Image.Dither.NONE).save(file, "png", optimize=True)
    return file.getvalue()
