"""A person's own image: photos and drawings become images like the data set's."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor
from torch.nn import functional as F

from datamodules.images import ImageData
from datamodules.in_memory import Split, first_of_each_class
from datamodules.user_image import read_user_image
from tasks.checkpoint import load


@pytest.fixture(scope="module")
def digits(mnist_5k: ImageData) -> Split:
    """Five digits of each class that training does not see."""
    assert mnist_5k.val_split
    return first_of_each_class(mnist_5k.val_split, 5)


def photo_of(digit: Tensor, paper: tuple[int, int, int], ink: tuple[int, int, int]) -> Image.Image:
    """A digit (1, 28, 28), ten times as large, off the centre of a sheet of paper."""
    alpha = Image.fromarray(digit[0].numpy()).resize((280, 280), Image.Resampling.BICUBIC)
    sheet = Image.new("RGB", (500, 420), paper)
    sheet.paste(Image.new("RGB", alpha.size, ink), (160, 40), alpha)
    return sheet


def test_picture_like_mnists_is_taken_as_it_is(digits: Split, tmp_path: Path) -> None:
    Image.fromarray(digits.images[7, 0].numpy()).save(tmp_path / "digit.png")
    assert torch.equal(read_user_image(tmp_path / "digit.png"), digits.images[7])


PAPERS_AND_INKS = [((255, 255, 255), (0, 0, 0)), ((235, 230, 215), (25, 40, 120)), ((20, 45, 30), (250, 250, 240))]


@pytest.mark.parametrize(("paper", "ink"), PAPERS_AND_INKS, ids=["black on white", "blue on cream", "chalk"])
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_photo_becomes_nearly_the_digit_it_shows(
    ending: str, paper: Any, ink: Any, digits: Split, mnist_5k: ImageData, tmp_path: Path
) -> None:
    photos = []
    for digit in digits.images:
        photo_of(digit, paper, ink).save(tmp_path / f"photo.{ending}")
        photos.append(read_user_image(tmp_path / f"photo.{ending}"))
    read_back = torch.stack(photos)
    assert (read_back.dtype, read_back.shape) == (torch.uint8, digits.images.shape)
    assert read_back.amax((1, 2, 3)).min() > 240
    alike = F.cosine_similarity(read_back.flatten(1).float(), digits.images.flatten(1).float())
    assert alike.median() > 0.95
    assert alike.min() > 0.7
    assert mnist_5k.train_split
    known, labels = mnist_5k.train_split
    nearest = torch.cdist(read_back.flatten(1).float(), known.flatten(1).float()).argmin(1)
    of_originals = torch.cdist(digits.images.flatten(1).float(), known.flatten(1).float()).argmin(1)
    right, right_originals = (int((labels[n] == digits.labels).sum()) for n in (nearest, of_originals))
    assert right >= right_originals - 2  # of 50


def test_what_is_no_digit_fills_the_frame(tmp_path: Path) -> None:
    sheet = Image.new("L", (300, 300), 255)
    sheet.paste(0, (100, 50, 160, 250))  # 60 wide, 200 high
    sheet.save(tmp_path / "bar.png")
    bar = read_user_image(tmp_path / "bar.png", centred_digits=False)[0]
    rows, columns = np.nonzero(bar.numpy() > 127)
    assert (rows.min(), rows.max()) == (0, 27)
    assert columns.max() - columns.min() + 1 == 8
    assert (columns.min(), columns.max()) == (10, 17)


@pytest.mark.parametrize(
    "blank",
    [
        Image.new("RGB", (200, 100), "white"),
        Image.new("L", (50, 50), 0),
        Image.new("L", (28, 28), 0),
        Image.new("LA", (9, 9)),
    ],
    ids=["white", "black", "black of 28x28", "transparent"],
)
def test_blank_picture_is_refused(blank: Image.Image, tmp_path: Path) -> None:
    blank.save(tmp_path / "blank.png")
    with pytest.raises(ValueError, match=r"^.*blank\.png: shows nothing$"):
        read_user_image(tmp_path / "blank.png")


def test_what_one_sees_through_is_paper(digits: Split, tmp_path: Path) -> None:
    alpha = Image.fromarray(digits.images[12, 0].numpy()).resize((280, 280), Image.Resampling.BICUBIC)
    drawing = Image.new("RGBA", (500, 420), (0, 0, 0, 0))
    drawing.paste(Image.new("RGBA", alpha.size, (0, 0, 0, 255)), (160, 40), alpha)
    drawing.save(tmp_path / "drawing.png")
    photo_of(digits.images[12], (255, 255, 255), (0, 0, 0)).save(tmp_path / "photo.png")
    difference = read_user_image(tmp_path / "drawing.png").float() - read_user_image(tmp_path / "photo.png").float()
    assert difference.abs().mean() < 3


def test_photo_taken_with_the_camera_on_its_side_is_turned_upright(digits: Split, tmp_path: Path) -> None:
    upright = photo_of(digits.images[12], (255, 255, 255), (0, 0, 0))
    upright.save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: to be turned by 90 degrees to the right
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    assert torch.equal(read_user_image(tmp_path / "turned.png"), read_user_image(tmp_path / "upright.png"))


def test_sixteen_bits_a_pixel_are_as_good_as_eight(digits: Split, tmp_path: Path) -> None:
    eight = photo_of(digits.images[12], (255, 255, 255), (0, 0, 0)).convert("L")
    eight.save(tmp_path / "eight.png")
    Image.fromarray(np.asarray(eight).astype(np.uint16) * 257).save(tmp_path / "sixteen.png")
    assert torch.equal(read_user_image(tmp_path / "sixteen.png"), read_user_image(tmp_path / "eight.png"))


def test_missing_file_and_file_that_is_no_picture_are_refused(digits: Split, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^[^=]*no\.png: no such file$"):
        read_user_image(tmp_path / "no.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"text\.png: is not an image"):
        read_user_image(tmp_path / "text.png")
    with pytest.raises(ValueError, match=rf"{tmp_path}: is not an ordinary file"):
        read_user_image(tmp_path)
    photo_of(digits.images[0], (255, 255, 255), (0, 0, 0)).save(tmp_path / "half.jpg")
    content = (tmp_path / "half.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"half\.jpg: is not an image"):
        read_user_image(tmp_path / "half.jpg")


def shadow(height: int, width: int, softness: float) -> np.ndarray:
    """Light that falls on the left part of a sheet only: 1 there, 0.45 in the shadow, an oblique edge between."""
    rows, columns = np.mgrid[:height, :width]
    edge = Image.fromarray(((columns + 0.6 * rows > 0.6 * width) * 255).astype(np.uint8))
    return 1 - 0.55 * np.asarray(edge.filter(ImageFilter.GaussianBlur(softness)), np.float32) / 255


LIGHTS = {
    "even": lambda height, width: np.ones((height, width)),
    "shadow": lambda height, width: shadow(height, width, 6),
    "sharp shadow": lambda height, width: shadow(height, width, 1),
    "lamp on one side": lambda height, width: np.tile(np.linspace(1, 0.35, width), (height, 1)),
}
RULINGS = {"blank": (0, 0), "lined": (35, 0), "squared": (30, 30)}


def hard_photo(digit: Tensor, light: str, ruling: str, generator: np.random.Generator) -> Image.Image:
    """A digit (1, 28, 28) on ruled and unevenly lit paper, with a camera's noise."""
    height, width = 420, 500
    paper = np.full((height, width), 225.0)
    by_row, by_column = RULINGS[ruling]
    for row in range(15, height, by_row) if by_row else ():
        paper[row : row + 2] = 170
    for column in range(10, width, by_column) if by_column else ():
        paper[:, column : column + 2] = 170
    ink = np.zeros((height, width))
    top, left = 40 + generator.integers(80), 60 + generator.integers(120)
    large = Image.fromarray(digit[0].numpy()).resize((280, 280), Image.Resampling.BICUBIC)
    ink[top : top + 280, left : left + 280] = np.asarray(large) / 255
    pixels = (paper * (1 - ink) + 35 * ink) * LIGHTS[light](height, width)
    return Image.fromarray(np.clip(pixels + generator.normal(0, 4, pixels.shape), 0, 255).astype(np.uint8))


@pytest.mark.extended
@pytest.mark.parametrize("ruling", RULINGS)
@pytest.mark.parametrize("light", LIGHTS)
def test_digit_is_read_in_a_shadow_and_on_ruled_paper(
    light: str, ruling: str, digits: Split, mnist_5k: ImageData, tmp_path: Path
) -> None:
    generator, photos = np.random.default_rng(0), []
    images, labels = first_of_each_class(digits, 2)
    for digit in images:
        hard_photo(digit, light, ruling, generator).save(tmp_path / "photo.png")
        photos.append(read_user_image(tmp_path / "photo.png"))
    read_back = torch.stack(photos).flatten(1).float()
    assert F.cosine_similarity(read_back, images.flatten(1).float()).median() > 0.9
    assert mnist_5k.train_split
    known, known_labels = mnist_5k.train_split
    nearest = torch.cdist(read_back, known.flatten(1).float()).argmin(1)
    assert (known_labels[nearest] == labels).sum() >= 18  # of 20


@pytest.mark.parametrize(
    ("side", "pen"), [(280, 1), (280, 3), (280, 20), (512, 1), (512, 4), (1500, 4), (4000, 16), (4000, 128)]
)
def test_a_digit_of_any_pen_is_as_strong_as_the_sets_digits(side: int, pen: int) -> None:
    picture = Image.new("L", (side, side), 255)
    seven = [(0.3 * side, 0.25 * side), (0.7 * side, 0.25 * side), (0.45 * side, 0.8 * side)]
    ImageDraw.Draw(picture).line(seven, fill=0, width=pen)
    picture.save("seven.png")
    loaded: tuple[Any, Any] = load("published/lenet_mnist")
    net, data = loaded
    image = data.read_user_image("seven.png")
    assert image.max() == 255
    with torch.no_grad():
        probabilities = net.predict_step((data.transform(image.unsqueeze(0)), None), 0)
    assert probabilities.argmax() == 7
    assert probabilities.max() > 0.9


def test_two_far_dots_are_a_picture() -> None:
    picture = Image.new("L", (512, 512), 255)
    for place in (10, 500):
        picture.putpixel((place, place), 0)
    picture.save("dots.png")
    assert read_user_image("dots.png").max() == 255
