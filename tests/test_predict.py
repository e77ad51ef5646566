"""task=predict: digits of any size and colour, by a net that a run has trained."""

import csv
import os
from pathlib import Path

import torch
from command_line import only_run, run_well
from PIL import Image
from torch import Tensor

from datamodules.mnist import MNIST5k
from tasks.predict import batches
from tasks.run_records import read_run


def validation_digit(digit: int) -> Tensor:
    """The first of the validation images that show this digit, uint8 (28, 28)."""
    data = MNIST5k()
    data.setup()
    assert data.val_split is not None
    return data.val_split.images[data.val_split.labels == digit][0, 0]


def as_stored(digit: Tensor) -> Image.Image:
    return Image.fromarray(digit.numpy())


def as_big(digit: Tensor) -> Image.Image:
    return as_stored(digit).resize((280, 280), Image.Resampling.BICUBIC)


def as_black_on_white(digit: Tensor) -> Image.Image:
    return as_big(255 - digit)


def as_blue_on_yellow_in_a_corner(digit: Tensor) -> Image.Image:
    paper = Image.new("RGB", (400, 300), (250, 240, 160))
    paper.paste((20, 30, 120), (90, 10), mask=as_stored(digit).resize((150, 150), Image.Resampling.BICUBIC))
    return paper


def predictions_in(folder: Path) -> list[dict[str, str]]:
    with open(folder / "predictions.csv") as file:
        return list(csv.DictReader(file))


def test_predict_reads_digits_of_any_size_and_colour(trained: Path) -> None:
    expected = {}
    for drawn in (as_stored, as_big, as_black_on_white, as_blue_on_yellow_in_a_corner):
        for digit in (0, 1):
            file = f"{drawn.__name__}-{digit}.png"
            drawn(validation_digit(digit)).save(file)
            expected[file] = str(digit)
    run_well("task=predict", f"ckpt_path={trained}/checkpoints/best.ckpt", f"input=[{','.join(expected)}]")
    folder = only_run()
    rows = predictions_in(folder)
    assert {row["file"]: row["class_1"] for row in rows} == expected
    for row in rows:
        shares = [float(row[f"probability_{n}"]) for n in (1, 2, 3)]
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) <= 1.001
    with Image.open(folder / "predictions.png") as picture:
        assert picture.height > picture.width > 300


def test_predict_takes_a_single_file_and_names_three_classes_on_the_terminal(trained: Path) -> None:
    as_big(validation_digit(1)).save("one.png")
    outcome = run_well("task=predict", f"ckpt_path={trained}/checkpoints/best.ckpt", "input=one.png")
    (row,) = predictions_in(only_run())
    (line,) = [line for line in outcome.out.splitlines() if "one.png" in line]
    assert [row[f"class_{n}"] in line for n in (1, 2, 3)] == [True] * 3
    assert row["class_1"] == "1"


def test_folder_of_pictures_may_hold_folders_and_names_that_are_no_text(trained: Path) -> None:
    Path("mixed/a folder.png").mkdir(parents=True)
    as_big(validation_digit(1)).save("mixed/one.png")
    os.rename("mixed/one.png", b"mixed/bad\xff.png")
    run_well("task=predict", f"ckpt_path={trained}/checkpoints/best.ckpt", "input=mixed", "hydra.run.dir=outputs/p")
    (row,) = predictions_in(Path("outputs/p"))
    assert row["class_1"] == "1"
    assert read_run(Path("outputs/p"))["status"] == "finished"


def test_batches_are_as_large_as_what_the_net_reads_allows() -> None:
    images = torch.zeros(130, 1, 28, 28, dtype=torch.uint8)
    assert len(batches(images, MNIST5k())) == 1
    assert [len(part) for part in batches(images, MNIST5k(image_size=224))] == [15] * 8 + [10]
