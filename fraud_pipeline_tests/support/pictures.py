"""What a PNG shows.

Belongs here: measuring pictures. Must not be here: making them.
"""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def share_of(color: str, png: bytes) -> float:
    """The share of pixels of about one colour."""
    wanted = np.array([int(color[at : at + 2], 16) for at in (1, 3, 5)])
    return float((np.abs(_pixels(png) - wanted).max(axis=2) < 20).mean())


def pixels_that_differ(png: bytes, other: bytes) -> int:
    """How many pixels of two PNGs of one size differ visibly."""
    return int((np.abs(_pixels(png) - _pixels(other)).max(axis=2) > 20).sum())


def picture_in(markdown: str) -> bytes:
    """The PNG that a markdown image carries."""
    return base64.b64decode(markdown.removesuffix(")").split("base64,")[1])


def _pixels(png: bytes) -> NDArray[np.int64]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), np.int64)
