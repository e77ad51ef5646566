"""A person's own image, made to look like the images of the data set."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps
from scipy import ndimage
from torch import Tensor

from datamodules.bounded import MAX_PIXELS, open_picture

THIN = 2.0  # pixels of 28; MNIST's strokes are two to four wide
SIDE, DIGIT = 28, 20  # MNIST's digits are 20x20 pixels in a frame of 28x28
BLANK = 25  # contrast, of 255, below which nothing can be seen
WORKING_SIDE = 512  # pixels; larger pictures are averaged down to it
UNEVEN = 25  # difference of brightness along the border, of 255, from which on paper counts as unevenly lit
STROKE = 0.25  # of the shorter side: what is darker than its surroundings and narrower than this is ink, not shadow
FAINT, STRONG = 0.15, 0.5  # of the strongest ink: ruled lines lie between the two
BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # tags of a TIFF


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
        if pixels.shape == (SIDE, SIDE) and np.median(border_of(pixels)) == 0 and pixels.max() >= BLANK:
            return torch.from_numpy(pixels.astype(np.uint8)).unsqueeze(0)
        ink = find_ink(pixels)
        if ink.max() < BLANK:
            raise ValueError("shows nothing")
    except ValueError as error:
        name = f"{source}: " if isinstance(source, str | Path) else "the image "
        raise ValueError(f"{name}{error}") from error
    ink = without_ruled_lines(ink / ink.max()) * 255
    rows, columns = np.nonzero(ink > 255 * 0.25)
    ink = ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    return torch.from_numpy(place(ink, DIGIT if centred_digits else SIDE, centred_digits)).unsqueeze(0)


def read_gray(source: str | Path | BinaryIO, max_pixels: int) -> np.ndarray:
    """The picture's brightness, float32 (H, W) in [0, 255], upright; what is transparent is white."""
    with open_picture(source, max_pixels=max_pixels) as file:
        pixels = np.asarray(upright(file).convert("L"), np.float32)
        factor = -(-max(pixels.shape) // WORKING_SIDE)
        return pixels if factor == 1 else np.asarray(Image.fromarray(pixels).reduce(factor))


def upright(file: Image.Image) -> Image.Image:
    """An opened picture, turned as its camera says, in 8 bits per channel; what is transparent is white.

    >>> upright(Image.fromarray(np.array([[0, 256, 65535]], np.uint16))).tobytes().hex(" ")
    '00 01 ff'

    Raises:
        ValueError: see `check_depth`.
    """
    check_depth(file)
    image: Image.Image = ImageOps.exif_transpose(file)
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip to 8; one of them may stand for transparent
        pixels = np.asarray(image)
        white = pixels == image.info.get("transparency", -1)
        return Image.fromarray(np.where(white, 255, pixels >> 8).astype(np.uint8))
    if not image.has_transparency_data:
        return image
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)


def check_depth(file: Image.Image) -> None:
    """Refuses a picture that does not say which of its numbers are black and white, and that Pillow would clip.

    >>> check_depth(Image.new("F", (2, 2)))
    Traceback (most recent call last):
    ValueError: has floating-point pixels: 8 or 16 bits, unsigned, from black to white, are allowed: save it as PNG

    Raises:
        ValueError: its pixels are floating-point or signed numbers, have 12 or 32 bits, or 16 bits from white to black.
    """
    tags = getattr(file, "tag_v2", {})  # of a TIFF; what is deep in other formats, Pillow has scaled to 16 bits
    is_deep = file.mode[0] in "IF"
    if file.mode == "F":
        kind = "floating-point"
    elif set(tags.get(SAMPLE_FORMAT, (1,))) != {1}:
        kind = "signed"
    elif is_deep and tags.get(BITS_PER_SAMPLE, (16,)) != (16,):
        kind = f"{tags[BITS_PER_SAMPLE][0]}-bit"
    elif is_deep and tags.get(PHOTOMETRIC, 1) != 1:
        kind = "inverted 16-bit"
    elif file.mode == "LAB":  # which Pillow converts to no other
        kind = "LAB"
    else:
        return
    raise ValueError(f"has {kind} pixels: 8 or 16 bits, unsigned, from black to white, are allowed: save it as PNG")


def border_of(pixels: np.ndarray) -> np.ndarray:
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


def find_ink(pixels: np.ndarray) -> np.ndarray:
    """How much darker than the paper each pixel is, or how much lighter than a dark one, in [0, 255].

    The paper is as bright as the border. Where that is uneven, as under a shadow, each place is compared with the paper
    around it: the picture without all strokes, by a morphological closing, which leaves the edge of a shadow in place.
    """
    border = border_of(pixels)
    paper = float(np.median(border))
    low, high = np.percentile(border, [10, 90])
    if high - low < UNEVEN:
        return np.clip(paper - pixels if paper > 127 else pixels - paper, 0, 255)
    pixels = ndimage.gaussian_filter(pixels, max(pixels.shape) / WORKING_SIDE)  # a shadow's noise weighs more, too
    size = max(3, round(STROKE * min(pixels.shape)))
    coarse = pixels[::8, ::8]  # enough to tell dark strokes from light ones; a step of 4 takes 16 times as long
    darkest, lightest = np.percentile(coarse - ndimage.median_filter(coarse, max(3, size // 4)), [1, 99])
    if lightest > -darkest:
        pixels = 255 - pixels
    background = ndimage.grey_closing(pixels, size, mode="nearest")
    ink = np.clip(255 * (1 - pixels / np.maximum(background, 1)), 0, 255)  # a shadow darkens paper and ink alike
    return without_corners(ink)


def without_corners(ink: np.ndarray) -> np.ndarray:
    """Ink without what is small beside the rest and touches the border: there, shadows have no surroundings."""
    regions, count = ndimage.label(ink > 0.25 * ink.max(), np.ones((3, 3)))
    amounts = ndimage.sum_labels(ink, regions, np.arange(count + 1))
    amounts[0] = 0
    small = np.flatnonzero(amounts < 0.2 * amounts.max())
    dropped = np.isin(regions, np.intersect1d(small[small > 0], border_of(regions)))
    return np.where(ndimage.binary_dilation(dropped, iterations=3), 0, ink)


def without_ruled_lines(ink: np.ndarray) -> np.ndarray:
    """Ink in [0, 1] without the faint lines that run over the border of the picture, if there are such lines."""
    border = border_of(ink)
    if np.mean((border > FAINT) & (border < STRONG)) < 0.01:
        return ink
    near = max(3, round(0.02 * max(ink.shape)))
    strokes = ndimage.maximum_filter(ink > STRONG, near)  # with their soft edges
    return np.where(strokes, ink, 0)


def place(ink: np.ndarray, side: int, by_mass: bool) -> np.ndarray:
    """`ink` scaled to fit `side` pixels, in the middle of a 28x28 frame: of its mass, or of its box."""
    scale = side / max(ink.shape)
    if by_mass:
        ink = at_least_as_thick(ink, THIN / scale)
    height, width = (max(1, round(length * scale)) for length in ink.shape)
    small = np.asarray(Image.fromarray(ink.astype(np.uint8)).resize((width, height), Image.Resampling.LANCZOS))
    small = small * (255 / max(1, small.max()))  # reducing has mixed the ink with its background
    centre = np.array([height, width]) / 2
    if by_mass:
        # MNIST's digits have it at (14, 14) where the first pixel is 0, half a pixel off the middle of the frame
        centre = np.array([np.indices(small.shape)[axis].ravel() @ small.ravel() for axis in (0, 1)]) / small.sum()
    top, left = (int(np.clip(round(SIDE / 2 - c), 0, SIDE - n)) for c, n in zip(centre, small.shape, strict=True))
    frame = np.zeros((SIDE, SIDE), np.uint8)
    frame[top : top + height, left : left + width] = small.round()
    return frame


def at_least_as_thick(ink: np.ndarray, pixels: float) -> np.ndarray:
    """`ink` in [0, 255] with its strokes widened to about so many pixels, where they are thinner: a pencil's, say."""
    depth = ndimage.distance_transform_edt(np.pad(ink, 1) > 128)
    thickness = 2 * np.percentile(depth[depth > 0], 90) if depth.any() else 1.0
    missing = round(pixels - thickness)
    return ndimage.maximum_filter(ink, missing + 1) if missing > 0 else ink
