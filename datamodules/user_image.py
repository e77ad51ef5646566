"""A person's own image, made to look like the images of the data set."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from datamodules.bounded import MAX_PIXELS, open_picture

SIDE, DIGIT = 28, 20  # MNIST's digits are 20x20 pixels in a frame of 28x28
BLANK = 25  # contrast, of 255, below which nothing can be seen
WORKING_SIDE = 2048  # pixels; larger pictures are averaged down to it


def read_user_image(source: str | Path | BinaryIO, centred_digits: bool = True, max_pixels: int = MAX_PIXELS) -> Tensor:
    """An image file of any size, colour or gray, dark on light or light on dark, as uint8 (1, 28, 28), ink at 255.

    Digits are treated as MNIST's were: cut out, fitted into 20x20 pixels, placed by their centre of mass (LeCun et al.
    1998, section III.A). Other things fill the frame. A 28x28 image on black is taken as it is.

    Args:
        source: the file, or its content in an open one.
        centred_digits: whether digits are expected.
        max_pixels: of the picture; checked before it is decoded.

    Raises:
        ValueError: the file is missing, is not an image that can be read, is too large or shows nothing. The message
            starts with the path, if there is one.
    """
    try:
        pixels = read_gray(source, max_pixels)
        border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        paper = float(np.median(border))
        if pixels.shape == (SIDE, SIDE) and paper == 0 and pixels.max() >= BLANK:
            return torch.from_numpy(pixels.astype(np.uint8)).unsqueeze(0)
        ink = paper - pixels if paper > 127 else pixels - paper
        if ink.max() < BLANK:
            raise ValueError("shows nothing")
    except ValueError as error:
        name = f"{source}: " if isinstance(source, str | Path) else "the image "
        raise ValueError(f"{name}{error}") from error
    ink = np.clip(ink * (255 / ink.max()), 0, 255)
    rows, columns = np.nonzero(ink > 255 * 0.25)
    ink = ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    return torch.from_numpy(place(ink, DIGIT if centred_digits else SIDE, centred_digits)).unsqueeze(0)


def read_gray(source: str | Path | BinaryIO, max_pixels: int) -> np.ndarray:
    """The picture's brightness, float32 (H, W) in [0, 255], upright; what is transparent is white."""
    with open_picture(source, max_pixels=max_pixels) as file:
        image: Image.Image = ImageOps.exif_transpose(file)
        if image.has_transparency_data:  # what one sees through is paper
            rgba = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
        deep = image.mode.startswith("I;16")  # which Pillow would clip to 8 bits
        image = image if deep else image.convert("L")
        factor = -(-max(image.size) // WORKING_SIDE)
        pixels = np.asarray(image if deep or factor == 1 else image.reduce(factor))
    return pixels.astype(np.float32) / (257 if deep else 1)


def place(ink: np.ndarray, side: int, by_mass: bool) -> np.ndarray:
    """`ink` scaled to fit `side` pixels, in the middle of a 28x28 frame: of its mass, or of its box."""
    scale = side / max(ink.shape)
    height, width = (max(1, round(length * scale)) for length in ink.shape)
    small = np.asarray(Image.fromarray(ink.astype(np.uint8)).resize((width, height), Image.Resampling.LANCZOS))
    centre = np.array([height, width]) / 2
    if by_mass:
        # MNIST's digits have it at (14, 14) where the first pixel is 0, half a pixel off the middle of the frame
        centre = np.array([np.indices(small.shape)[axis].ravel() @ small.ravel() for axis in (0, 1)]) / small.sum()
    top, left = (int(np.clip(round(SIDE / 2 - c), 0, SIDE - n)) for c, n in zip(centre, small.shape, strict=True))
    frame = np.zeros((SIDE, SIDE), np.uint8)
    frame[top : top + height, left : left + width] = small
    return frame
