"""data=folder, kmnist, emnist, qmnist: sets of a person's own in each of their forms, and what is no such set."""

import gzip
import itertools
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import only_run, results_of, run, run_well
from conftest import compose
from hydra.utils import instantiate
from PIL import Image, ImageDraw

from datamodules import found_set, picture_folders
from datamodules.bounded import idx_header
from datamodules.contract import SampleSpec
from datamodules.folder import Folder
from datamodules.idx_sets import EMNIST, KMNIST, QMNIST
from datamodules.images import ImageData
from datamodules.mnist import MNIST
from datamodules.user_image import read_gray, read_user_image

ENDINGS = ("png", "jpg", "bmp")
COLOURS = {"blue": (20, 40, 200), "green": (30, 160, 40), "red": (200, 30, 20), "yellow": (220, 210, 20)}
QUICK = ("trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "~callbacks.plots")


def draw_picture(name: str, number: int, mode: str = "RGB") -> Image.Image:
    """A disc of the class's colour on white, of another size for each number."""
    image = Image.new("RGB", (20 + 7 * number % 40, 30 + 5 * number % 30), "white")
    ImageDraw.Draw(image).ellipse((3, 4, image.width - 5, image.height - 3), fill=COLOURS[name])
    return image.convert(mode)


def make_pictures(folder: Path, count: int, mode: str = "RGB") -> Path:
    for name in COLOURS:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            ending = ENDINGS[number % 3]
            draw_picture(name, number, mode).save(folder / name / f"{number:02}.{ending}")
    return folder


def read(data: ImageData) -> ImageData:
    data.prepare_data()
    data.setup()
    return data


def sizes(data: ImageData) -> list[int | None]:
    return [len(split.labels) if split else None for split in (data.train_split, data.val_split, data.test_split)]


def write_idx(path: Path, array: np.ndarray, dtype: str = "u1") -> None:
    content = idx_header(array.shape, dtype) + array.astype(dtype).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def digits(count: int, classes: int, first: int = 0, side: int = 28) -> tuple[np.ndarray, np.ndarray]:
    """Images whose left half is the brighter the higher the class is, and the classes, in turn."""
    labels = np.arange(count) % classes + first
    images = np.zeros((count, side, side), np.uint8)
    images[:, :, : side // 2] = (labels * 255 // (first + classes))[:, None, None]
    return images, labels


# --- pictures


def test_pictures_without_parts_are_split_evenly_over_the_classes_apart_from_the_seed() -> None:
    make_pictures(Path("set"), 20)
    data, other = read(Folder("set", seed=1)), read(Folder("set", seed=2))
    assert data.spec == SampleSpec(3, 28, 4)
    assert data.class_names == tuple(COLOURS)
    assert sizes(data) == [64, 8, 8]
    for name in ("train_split", "val_split", "test_split"):
        split = getattr(data, name)
        assert split.labels.bincount().tolist() == [len(split.labels) // 4] * 4
        assert all(map(torch.equal, split, getattr(other, name)))
    assert not torch.equal(read(Folder("set", split_seed=3)).val_split.images, data.val_split.images)  # type: ignore[union-attr]
    stored = [image.numpy().tobytes() for split in (data.train_split, data.val_split) for image in split.images]  # type: ignore[union-attr]
    test = {image.numpy().tobytes() for image in data.test_split.images}  # type: ignore[union-attr]
    assert not test & set(stored)
    assert "4 classes" in data.describe()
    assert "resized to 28x28" in data.describe()


def test_pictures_have_the_colours_of_their_files_and_any_size_is_asked_for() -> None:
    make_pictures(Path("set"), 20)
    data = read(Folder("set", image_size=32))
    assert data.train_split
    for image, label in zip(*data.train_split, strict=True):
        middle = image[:, 14:18, 14:18].float().mean((1, 2))
        assert (middle - torch.tensor(list(COLOURS.values())[label])).abs().max() < 40  # JPEG
    assert data.examples(3).shape == (3, 3, 32, 32)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("1", 1), ("RGB", 3)])
def test_channels_are_those_of_the_pictures_unless_they_are_given(mode: str, channels: int) -> None:
    make_pictures(Path("set"), 3, mode)
    assert Folder("set").spec.in_channels == channels
    assert read(Folder("set", in_channels=4 - channels)).examples(1).shape[1] == 4 - channels  # type: ignore[arg-type]


def test_one_picture_in_colour_among_gray_ones_makes_the_set_one_in_colour() -> None:
    make_pictures(Path("set"), 3, "L")
    draw_picture("red", 1).save("set/red/09.png")
    assert Folder("set").spec.in_channels == 3


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (("train", "val", "test"), [80, 80, 80]),
        (("Training", "validation"), [80, 80, None]),
        (("train", "test"), [72, 8, 80]),
        (("train",), [64, 8, 8]),
    ],
)
def test_folders_of_parts_are_used_and_those_that_lack_are_drawn(
    parts: tuple[str, ...], expected: list[int | None]
) -> None:
    for part in parts:
        make_pictures(Path("set", part), 20)
    assert sizes(read(Folder("set"))) == expected


def test_classes_called_like_parts_among_others_are_classes() -> None:
    make_pictures(Path("set"), 3)
    Path("set/red").rename("set/train")
    assert Folder("set").class_names == ("blue", "green", "train", "yellow")


def test_classes_of_numbers_are_in_the_order_of_numbers() -> None:
    make_pictures(Path("set"), 3)
    for name, number in zip(COLOURS, ("10", "9", "100", "1"), strict=True):
        Path("set", name).rename(f"set/{number}")
    assert Folder("set").class_names == ("1", "9", "10", "100")


def test_what_is_no_picture_is_left_out_and_counted() -> None:
    make_pictures(Path("set"), 3)
    Path("set/red/notes.txt").write_text("mine")
    Path("set/red/.DS_Store").write_text("")
    assert "1 other files left out" in read(Folder("set")).describe()


RAMP = np.linspace(0, 65_535, 28 * 28).round().astype(np.uint16).reshape(28, 28)


def pgm(maximum: int) -> bytes:
    numbers = np.round(RAMP * (maximum / 65_535)).astype(">u2")
    return b"P5 28 28 %d\n" % maximum + numbers.tobytes()


DEEP: dict[str, Callable[[Path], Any]] = {
    "png": lambda path: Image.fromarray(RAMP).save(path, "png"),
    "transparent.png": lambda path: Image.fromarray(RAMP).save(path, "png", transparency=65_535),  # white anyway
    "tif": lambda path: Image.fromarray(RAMP).save(path, "tiff"),
    "lzw.tif": lambda path: Image.fromarray(RAMP).save(path, "tiff", compression="tiff_lzw"),
    "big_endian.tif": lambda path: Image.frombytes("I;16B", (28, 28), RAMP.astype(">u2")).save(path, "tiff"),
    "pgm": lambda path: path.write_bytes(pgm(65_535)),
    "1023.pgm": lambda path: path.write_bytes(pgm(1_023)),
    "plain.pgm": lambda path: path.write_text(f"P2 28 28 65535 {' '.join(map(str, RAMP.flatten()))}"),
}


@pytest.mark.parametrize("form", DEEP)
def test_sixteen_bits_a_pixel_are_read_alike_in_every_format(form: str) -> None:
    for name in ("one", "two"):
        for number in range(3):
            Path("set", name).mkdir(parents=True, exist_ok=True)
            DEEP[form](Path("set", name, f"{number}.{form}"))
    data = read(Folder("set"))
    assert data.in_channels == 1
    assert data.train_split
    expected = (RAMP >> 8).astype(np.int16)
    for read_back in (data.train_split.images[0, 0].numpy(), read_gray(Path("set/one", f"0.{form}"), 28 * 28)):
        assert np.abs(read_back - expected).max() <= (1 if form == "1023.pgm" else 0)  # which has ten bits


def tiff(path: Path, pixels: np.ndarray, **tags: int) -> None:
    """A TIFF of which some tags say something else, so that its mode in Pillow is another one."""
    Image.fromarray(pixels).save(path, "tiff", tiffinfo={339: 1})  # which is left out otherwise
    content = path.read_bytes()
    for name, value in tags.items():
        start = struct.pack("<HHI", {"bits": 258, "photometric": 262, "sample_format": 339}[name], 3, 1)
        place = content.index(start) + len(start)
        content = content[:place] + struct.pack("<H", value) + content[place + 2 :]
    path.write_bytes(content)


UNCLEAR: dict[str, Callable[[Path], Any]] = {
    "floating-point": lambda path: tiff(path, (RAMP / 65_535).astype(np.float32)),
    "floating-point, from white": lambda path: tiff(path, (RAMP / 65_535).astype(np.float32), photometric=0),
    "floating-point PFM": lambda path: path.write_bytes(b"Pf\n28 28\n-1.0\n" + (RAMP / 65_535).astype("<f4").tobytes()),
    "signed": lambda path: tiff(path, RAMP.astype(np.int32)),
    "signed of 16 bits": lambda path: tiff(path, RAMP >> 1, sample_format=2),
    "signed of 8 bits": lambda path: tiff(path, (RAMP >> 9).astype(np.uint8), sample_format=2),
    "32-bit": lambda path: tiff(path, RAMP.astype(np.int32), sample_format=1),
    "12-bit": lambda path: tiff(path, RAMP, bits=12),
    "inverted": lambda path: tiff(path, RAMP, photometric=0),
    "LAB": lambda path: Image.new("LAB", (28, 28)).save(path),
}


@pytest.mark.parametrize("kind", UNCLEAR)
def test_a_picture_that_does_not_say_what_is_black_and_white_is_refused_at_the_start(kind: str) -> None:
    make_pictures(Path("set"), 4, "L")
    UNCLEAR[kind](Path("set/red/x.tif"))
    with pytest.raises(ValueError, match=rf"red/x\.tif has {kind.split()[0].strip(',')}.* 8 or 16 bits.* PNG"):
        Folder("set")
    with pytest.raises(ValueError, match=r"^set/red/x\.tif: has .* 8 or 16 bits.* PNG$"):
        read_user_image("set/red/x.tif")


@pytest.mark.extended
def test_a_net_is_trained_tested_and_used_where_the_set_is_not() -> None:
    make_pictures(Path("set"), 40)
    batches = ("data.batch_size=16", "trainer.max_epochs=6", "model.lr_scheduler.max_lr=0.01")
    run_well("model=lenet", "data=folder", "data.path=set", *batches, *QUICK)
    folder = only_run()
    results = results_of(folder)
    assert results["test/accuracy"] > 0.8  # 16 discs of four colours
    checkpoint = f"ckpt_path={folder}/checkpoints/best.ckpt"
    run_well("task=test", checkpoint, "data.path=set", *QUICK)
    (tested,) = {path.parent.resolve() for path in Path("outputs").rglob("results.json")} - {folder}
    assert results_of(tested)["test/accuracy"] == results["test/accuracy"]
    outcome = run("task=test", checkpoint, "trainer.accelerator=cpu")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert "data.path" in outcome.err
    Path("set").rename("elsewhere")
    for file in Path("elsewhere/red").glob("[1-3]*"):
        file.unlink()
    predicted = run_well("task=predict", checkpoint, "input=elsewhere/red", "trainer.accelerator=cpu")
    assert "red/08.bmp" in predicted.out
    (csv,) = Path("outputs").rglob("predictions.csv")
    rows = [line.split(",") for line in csv.read_text().splitlines()]
    assert [row[0] for row in rows[1:]] == sorted(map(str, Path("elsewhere/red").iterdir()))
    assert np.mean([row[1] == "red" for row in rows[1:]]) > 0.8


def test_a_net_is_not_tested_on_other_classes() -> None:
    make_pictures(Path("set"), 3)
    known = Folder("set").found_arguments
    Path("set/red").rename("set/orange")
    with pytest.raises(ValueError, match=r"data\.path=set: has the classes blue, green, orange.* red"):
        read(Folder("set", **known))


# --- IDX


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("test", ["t10k", "test"])
def test_idx_files_of_26_classes_that_count_from_1(test: str, ending: str) -> None:
    for part, count in (("train", 520), (test, 52)):
        images, labels = digits(count, 26, first=1)
        write_idx(Path("set", f"{part}-images-idx3-ubyte{ending}"), images)
        write_idx(Path("set", f"{part}-labels-idx1-ubyte{ending}"), labels)
    data = read(Folder("set"))
    assert data.spec == SampleSpec(1, 28, 26)
    assert data.class_names == tuple(map(str, range(1, 27)))
    assert sizes(data) == [468, 52, 52]
    assert data.test_split
    assert torch.equal(data.test_split.images[:, 0], torch.from_numpy(images))
    assert data.test_split.labels.tolist() == (labels - 1).tolist()


def test_a_net_of_26_classes_is_trained_from_the_command_line() -> None:
    images, labels = digits(260, 26, side=20)
    write_idx(Path("set/train-images-idx3-ubyte"), images)
    write_idx(Path("set/train-labels-idx1-ubyte"), labels)
    outcome = run_well("model=lenet", "data=folder", "data.path=set", "trainer.max_epochs=1", *QUICK)
    assert "26 classes" in outcome.out
    assert "resized to 28x28" in outcome.out
    assert results_of(only_run())["status"] == "finished"


def emnist(root: Path, split: str, classes: int, first: int = 0) -> np.ndarray:
    """EMNIST's files with few images, stored as they are: rows and columns exchanged. Returns the upright images."""
    for part, count in (("train", 5 * classes), ("test", classes)):
        images, labels = digits(count, classes, first)
        write_idx(root / f"emnist-{split}-{part}-images-idx3-ubyte.gz", images.swapaxes(1, 2))
        write_idx(root / f"emnist-{split}-{part}-labels-idx1-ubyte.gz", labels)
    return images


SPLITS = {"letters": 26, "balanced": 47, "bymerge": 47, "byclass": 62, "digits": 10, "mnist": 10}


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("folder", ["emnist", "EMNIST/raw", "emnist/gzip"])
def test_emnist_is_found_by_its_name_and_turned_upright(folder: str, split: Any) -> None:
    upright = emnist(Path("root", folder), split, SPLITS[split], first=int(split == "letters"))
    emnist(Path("root", folder), "other", 3)
    data = read(EMNIST(split, root="root"))
    assert data.spec.num_classes == len(data.class_names) == SPLITS[split]
    assert sizes(data) == [4 * SPLITS[split], SPLITS[split], SPLITS[split]]
    assert data.test_split
    assert torch.equal(data.test_split.images[:, 0], torch.from_numpy(upright))
    assert data.test_split.labels.tolist() == list(range(SPLITS[split]))
    names = {"letters": ("A", "Z"), "byclass": ("0", "z"), "balanced": ("0", "t"), "bymerge": ("0", "t")}
    assert (data.class_names[0], data.class_names[-1]) == names.get(split, ("0", "9"))


def test_emnist_in_a_folder_of_its_own_is_turned_upright_too() -> None:
    upright = emnist(Path("letters"), "letters", 26, first=1)
    assert torch.equal(read(Folder("letters")).test_split.images[:, 0], torch.from_numpy(upright))  # type: ignore[union-attr]


def test_qmnist_is_found_by_its_name_and_its_labels_are_the_first_of_eight_numbers() -> None:
    for part, count in (("train", 50), ("test", 20)):
        images, labels = digits(count, 10)
        write_idx(Path("root/qmnist", f"qmnist-{part}-images-idx3-ubyte.gz"), images)
        rows = np.column_stack([labels, np.full((count, 7), 70_000)])
        write_idx(Path("root/qmnist", f"qmnist-{part}-labels-idx2-int.gz"), rows, ">i4")
    data = read(QMNIST(root="root"))
    assert sizes(data) == [40, 10, 20]
    assert data.test_split
    assert data.test_split.labels.tolist() == labels.tolist()
    assert data.centred_digits


def idx_set(parts: tuple[str, ...] = ("train",), prefix: str = "") -> None:
    for part in parts:
        images, labels = digits(30, 3)
        write_idx(Path(f"set/{prefix}{part}-images-idx3-ubyte"), images)
        write_idx(Path(f"set/{prefix}{part}-labels-idx1-ubyte"), labels)


HUGE = 2**32 - 1


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("count", [0, 30, HUGE])
def test_qmnists_labels_without_a_column_are_refused(count: int, part: str) -> None:
    idx_set(("train", part))
    Path(f"set/{part}-labels-idx1-ubyte").unlink()
    Path(f"set/{part}-labels-idx2-int").write_bytes(idx_header([count, 0], ">i4"))
    assert f"{part}-labels-idx2-int" in refusal("set")


@pytest.mark.parametrize("shape", [*itertools.product((0, 1, HUGE), repeat=3)])
def test_idx_files_whose_sizes_do_not_go_together_are_refused_with_these_sizes(shape: tuple[int, ...]) -> None:
    idx_set()
    Path("set/train-images-idx3-ubyte").write_bytes(idx_header(shape) + bytes(int(0 not in shape)))
    assert "x".join(map(str, shape)) in refusal("set")


@pytest.mark.parametrize(("images", "labels"), [(30, 0), (0, 30)])
def test_a_part_of_which_one_file_is_empty_is_refused_and_an_empty_part_left_out(images: int, labels: int) -> None:
    idx_set(("train", "t10k"))
    write_idx(Path("set/t10k-images-idx3-ubyte"), digits(images, 3)[0])
    write_idx(Path("set/t10k-labels-idx1-ubyte"), digits(labels, 3)[1])
    assert f"{images}x28x28 test images and {labels} labels" in refusal("set")
    write_idx(Path("set/t10k-images-idx3-ubyte"), digits(0, 3)[0])
    write_idx(Path("set/t10k-labels-idx1-ubyte"), digits(0, 3)[1])
    assert sizes(read(Folder("set"))) == [24, 3, 3]  # as task=generate writes it


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize(("name", "dtype"), [("labels-idx1-ubyte", "u1"), ("labels-idx2-int", ">i4")])
def test_more_labels_than_any_set_has_are_refused_before_they_are_read(name: str, dtype: str, ending: str) -> None:
    idx_set()
    Path("set/train-labels-idx1-ubyte").unlink()
    file = Path("set", f"train-{name}{ending}")
    header = idx_header([1 << 26] if dtype == "u1" else [1 << 24, 1], dtype)
    file.write_bytes(gzip.compress(header) if ending else header)
    if not ending:
        os.truncate(file, (1 << 26) + len(header))  # without a byte on the disk
    assert "more than the limit" in refusal("set")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("t10k-images-idx3-ubyte", "test-images-idx3-ubyte"),
        ("train-images-idx3-ubyte", "train-images.idx3-ubyte"),
        ("train-labels-idx1-ubyte", "train-labels-idx2-int"),
    ],
)
def test_two_idx_files_for_the_same_are_refused_and_one_beside_its_gz_is_not(first: str, second: str) -> None:
    idx_set(("train", "t10k"))
    content = Path("set", first).read_bytes()
    Path("set", f"{first}.gz").write_bytes(gzip.compress(content))
    assert sizes(read(Folder("set"))) == [27, 3, 30]
    Path("set", second).write_bytes(content)
    text = refusal("set")
    assert first in text
    assert second in text


@pytest.mark.parametrize("kind", ["images", "labels"])
@pytest.mark.parametrize("part", ["train", "t10k", "test", "val"])
def test_a_part_of_which_one_idx_file_is_missing_is_refused(part: str, kind: str) -> None:
    idx_set(tuple({"train", part}))
    next(Path("set").glob(f"{part}-{kind}*")).unlink()
    assert f"lacks the file of {part.replace('t10k', 'test')} {kind}" in refusal("set")


def test_a_set_of_idx_files_may_be_called_labels() -> None:
    idx_set(prefix="my-labels-")
    assert sizes(read(Folder("set"))) == [24, 3, 3]


def test_kmnist_is_found_by_its_name_and_mnist_in_its_place_refused() -> None:
    folder = Path(read(MNIST()).source.removesuffix(", checksums verified"))
    for part, count in (("train", 50), ("t10k", 20)):
        images, labels = digits(count, 10)
        write_idx(Path("root/kmnist", f"{part}-images-idx3-ubyte"), images)
        write_idx(Path("root/kmnist", f"{part}-labels-idx1-ubyte"), labels)
    data = read(KMNIST(root="root"))
    assert (sizes(data), data.class_names[0]) == ([40, 10, 20], "o")
    Path("other").mkdir()
    Path("other/KMNIST").symlink_to(folder)
    with pytest.raises(ValueError, match=r"data\.root=other: other/KMNIST holds MNIST"):
        read(KMNIST(root="other"))


@pytest.mark.parametrize("name", ["kmnist", "emnist", "qmnist"])
def test_a_named_set_that_is_not_there_is_answered_in_one_line_and_not_fetched(name: str) -> None:
    Path("root").mkdir()
    outcome = run("model=lenet", f"data={name}", "data.root=root", *QUICK)
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert "data.root=root" in outcome.err
    assert f"root/{name}/" in outcome.err
    assert not list(Path("root").iterdir())


@pytest.mark.parametrize("name", ["kmnist", "emnist", "qmnist"])
def test_fetching_a_named_set_says_where_its_files_belong_or_that_they_are_there(name: str) -> None:
    Path("root").mkdir()
    outcome = run("task=fetch", f"data={name}", "data.root=root")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    for text in ("never fetched", "data.root=root", "train-images-idx3-ubyte.gz", f"root/{name}/"):
        assert text in outcome.err
    assert "needs no files" not in outcome.out
    assert not list(Path("root").iterdir())
    classes = instantiate(compose(f"data={name}").data).spec.num_classes
    prefix = {"kmnist": "", "emnist": "emnist-balanced-", "qmnist": "qmnist-"}[name]
    for kind, array in zip(("images-idx3", "labels-idx1"), digits(2 * classes, classes), strict=True):
        write_idx(Path("root", name, f"{prefix}train-{kind}-ubyte"), array)
    assert f"found in root/{name}" in run_well("task=fetch", f"data={name}", "data.root=root").out
    Path("root", name, f"{prefix}train-images-idx3-ubyte").write_text("words")
    outcome = run("task=fetch", f"data={name}", "data.root=root")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert "train-images-idx3-ubyte is not an IDX file" in outcome.err


def test_fetching_a_set_of_ones_own_says_where_it_is() -> None:
    make_pictures(Path("set"), 3)
    assert "found in set" in run_well("task=fetch", "data=folder", "data.path=set").out
    known = ("data.class_names=[one,two]", "data.in_channels=1")  # with which it is not looked for at the start
    outcome = run("task=fetch", "data=folder", "data.path=gone", *known)
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert "data.path=gone" in outcome.err


# --- CSV


def write_csv(path: Path, count: int, classes: int, header: str | None = None, side: int = 28) -> None:
    images, labels = digits(count, classes, side=side)
    lines = [",".join(map(str, row)) for row in np.column_stack([labels, images.reshape(count, -1)])]
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([*([header] if header else []), *lines]) + "\n")


HEADERS = {
    "none": None,
    "pixel1": ",".join(["label", *(f"pixel{number}" for number in range(1, 785))]),
    "1x1": ",".join(["label", *(f"{row}x{column}" for row in range(1, 29) for column in range(1, 29))]),
}


@pytest.mark.parametrize("header", HEADERS)
def test_a_csv_is_split_and_csvs_of_parts_are_used(header: str) -> None:
    write_csv(Path("set.csv"), 70, 7, HEADERS[header])
    data = read(Folder("set.csv"))
    assert (data.spec, sizes(data)) == (SampleSpec(1, 28, 7), [56, 7, 7])
    write_csv(Path("set/mnist_train.csv"), 70, 7, HEADERS[header])
    write_csv(Path("set/mnist_test.csv"), 14, 7, HEADERS[header])
    assert sizes(read(Folder("set"))) == [63, 7, 14]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a_train", "b_train"),
        ("a_train", "b_test"),
        ("a_train", "test"),
        ("train", "training"),
        ("train", "a_train"),
        ("a_train", "A_Training"),
        ("a_test", "a_t10k"),
    ],
)
def test_csvs_of_two_sets_or_two_of_one_part_are_refused(first: str, second: str) -> None:
    write_csv(Path("set/a_train.csv" if "train" not in first else f"set/{first}.csv"), 40, 4)
    for name in (first, second):
        write_csv(Path(f"set/{name}.csv"), 40, 4)
    text = refusal("set")
    assert f"{first}.csv" in text
    assert f"{second}.csv" in text


def test_csvs_that_are_no_part_of_a_set_do_not_count() -> None:
    for name in ("a_train", "a_test", "sample_submission", "notes"):
        write_csv(Path(f"set/{name}.csv"), 40, 4)
    assert sizes(read(Folder("set"))) == [36, 4, 40]


def test_a_csv_may_have_squares_of_another_size() -> None:
    write_csv(Path("set.csv"), 40, 4, side=8)
    data = read(Folder("set.csv", image_size=16))
    assert data.examples(2).shape == (2, 1, 16, 16)
    assert "8x8" in data.describe()


@pytest.mark.parametrize("line", [1, 5, 40])
def test_a_wrong_line_of_a_csv_is_named(line: int) -> None:
    write_csv(Path("set.csv"), 40, 4)
    lines = Path("set.csv").read_text().splitlines()
    lines[line - 1] = lines[line - 1].replace(",0,", ",x,", 1)
    Path("set.csv").write_text("\n".join(lines))
    assert f"line {line}" in refusal("set.csv")


# --- what is no set


def refusal(path: str) -> str:
    """The one line in which reading a set ends, at the start if possible."""
    with pytest.raises(ValueError, match=r".") as caught:
        read(Folder(path))
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


@pytest.mark.parametrize("when", ["at the start", "when it is read"])
def test_a_command_whose_set_is_wrong_ends_in_one_line_and_leaves_nothing_behind(when: str) -> None:
    make_pictures(Path("set"), 4)
    content = Path("set/red/01.jpg").read_bytes()
    Path("set/red/01.jpg").write_bytes(content[: 0 if when == "at the start" else len(content) // 2])
    outcome = run("model=lenet", "data=folder", "data.path=set", *QUICK)
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert "data.path=set" in outcome.err
    assert "red/01.jpg" in outcome.err
    assert not list(Path().glob("outputs/*/*/*"))


def bomb(path: Path) -> None:
    """A PNG that claims to have 10 billion pixels."""
    draw_picture("red", 1).save(path, "png")
    content = bytearray(path.read_bytes())
    content[16:24] = (100_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)


def move(*steps: tuple[str, str]) -> Any:
    """Renames one path after the other; their folders are made."""
    for old, new in steps:
        Path(new).parent.mkdir(exist_ok=True)
        Path(old).rename(new)


FAULTS: dict[str, tuple[Callable[[], Any], str]] = {
    "missing": (lambda: move(("set", "gone")), "no file or folder"),
    "a looped link": (lambda: move(("set", "gone")) or os.system("ln -s set set"), "symbolic links"),
    "an empty folder": (lambda: move(("set", "gone")) or os.system("mkdir set"), "class folders"),
    "a pipe": (lambda: move(("set", "gone")) or os.system("mkfifo set"), "not an ordinary file"),
    "one class": (lambda: move(*((f"set/{name}", name) for name in ("red", "green", "blue"))), "1 classes"),
    "words": (lambda: Path("set/red/05.png").write_text("words"), "red/05.png"),
    "a pixel bomb": (lambda: bomb(Path("set/red/05.png")), "red/05.png has"),
    "a pipe as a picture": (lambda: os.system("mkfifo set/red/x.png"), "red/x.png is not an ordinary file"),
    "a looped link as a picture": (lambda: os.symlink("x.png", "set/red/x.png"), "red/x.png"),
    "a folder as a picture": (lambda: move(("set/red/03.png", "set/red/x.png/03.png")), "red/x.png"),
    "few pictures": (lambda: move(*((f"set/red/0{n}.{ENDINGS[n % 3]}", f"x{n}") for n in range(7))), "red has 2"),
    "a name that a config interprets": (lambda: move(("set/red", "set/${red}")), "${red}"),
    "a name that a plot interprets": (lambda: move(("set/red", "set/$r_e$d")), "'$r_e$d'"),
    "a name with a line break": (lambda: move(("set/red", "set/a\nb")), r"a\nb"),
    "parts without one to train on": (lambda: move(("set", "test"), ("test", "set/test")), "train/"),
    "two training folders": (lambda: move(("set", "x"), ("x", "set/train"), ("set/train/red", "set/training")), "ing/"),
    "idx without labels": (lambda: write_idx(Path("set/train-images-idx3-ubyte"), digits(9, 3)[0]), "train labels"),
    "idx of two sets": (lambda: (emnist(Path("set"), "letters", 26), emnist(Path("set"), "digits", 10)), "several"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_set_is_answered_in_one_line(fault: str) -> None:
    make_pictures(Path("set"), 9)
    change, says = FAULTS[fault]
    change()
    assert says in refusal("set")


@pytest.fixture
def small_limits() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(picture_folders, "MAX_PICTURES", 30)
        patch.setattr(found_set, "MAX_CLASSES", 3)
        yield


@pytest.mark.usefixtures("small_limits")
def test_limits_of_pictures_and_classes_are_kept() -> None:
    make_pictures(Path("set"), 5)
    assert "4 classes" in refusal("set")
    for number in range(30):
        Path("set/red", f"x{number}").touch()
    assert "more than 30" in refusal("set")


def test_pictures_that_would_take_too_much_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_folders, "MAX_BYTES", 100_000)
    make_pictures(Path("set"), 20)
    assert "188,160 bytes" in refusal("set")


@pytest.mark.parametrize("override", ["data.in_channels=2", "data.class_names=[one]", "data.split_seed=-1"])
def test_a_wrong_argument_is_answered_in_one_line(override: str) -> None:
    make_pictures(Path("set"), 3)
    outcome = run("data=folder", "data.path=set", override)
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert override.split("=")[0] in outcome.err


def test_config_of_a_named_set_builds_it() -> None:
    assert instantiate(compose("data=emnist", "data.split=letters").data).spec.num_classes == 26
