"""Puts four pictures of this folder together for the README: python .github/images/collage.py.

cgan_mnist.png is from experiment=cgan_mnist, small_data.png from experiment=small_data; excites.png is what
task=explain shows of the LeNet-5 of `make run`, and demo.png is what task=demo shows.
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

HERE = Path(__file__).parent
STEP, GAP = 30, 2  # pixels from one digit of cgan_mnist.png to the next, and between them


def read(name: str) -> np.ndarray:
    return np.asarray(Image.open(HERE / name).convert("RGB"))


def digits() -> np.ndarray:
    """The generated digits with a column, instead of a row, for each class."""
    grid = read("cgan_mnist.png")
    rows, columns = grid.shape[0] // STEP, grid.shape[1] // STEP
    turned = np.zeros((columns * STEP + GAP, rows * STEP + GAP, 3), np.uint8)
    for row in range(rows):
        for column in range(columns):
            tile = grid[row * STEP : (row + 1) * STEP, column * STEP : (column + 1) * STEP]
            turned[column * STEP : (column + 1) * STEP, row * STEP : (row + 1) * STEP] = tile
    return turned


def features() -> np.ndarray:
    """Four of the eight feature maps, two in a row."""
    plot = read("excites.png")
    return np.concatenate([plot[35:235, :724], plot[35:235, 726:1450]])


def main() -> None:
    figure, panels = plt.subplots(2, 2, figsize=(12, 8.6), layout="constrained", facecolor="white")
    pictures = {
        "Digits from a conditional GAN, one class per column": digits(),
        "task=explain: what excites four feature maps of LeNet-5": features(),
        "task=demo: draw a digit, watch the nets, let a GAN draw": read("demo.png")[10:630, 130:1260],
        "Test accuracy with few real images and with generated ones": read("small_data.png"),
    }
    for axes, (title, picture) in zip(panels.flat, pictures.items(), strict=True):
        axes.imshow(picture, interpolation="lanczos")
        axes.set_title(title, fontsize=12)
        axes.axis("off")
    figure.savefig(HERE / "collage.png", dpi=90)


if __name__ == "__main__":
    main()
