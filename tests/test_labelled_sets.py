"""Labelled sets out of files: CSV, IDX and PNG are read back, and what is no such set ends in one line.

The malformed files are generated: every way of cutting a file short, and lies about its size.
"""

import gzip
import os
import resource
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import bounded
from datamodules.bounded import idx_header
from datamodules.formats import HEADER, RAW, WRITERS, image_set_writer
from datamodules.labelled_set import read_labelled
from datamodules.mnist import MNIST5k
from datamodules.user_image import read_user_image

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)
LABELS = np.array([3, 0, 9], np.uint8)


def save(form: str) -> Path:
    """A good set of three images."""
    with image_set_writer(Path("set"), form, 3) as writer:
        writer.write(IMAGES, LABELS)
    return Path("set")


def assert_read(path: str | Path) -> None:
    images, labels = read_labelled(path)
    assert images.dtype == torch.uint8
    assert np.array_equal(images[:, 0].numpy(), IMAGES)
    assert labels.tolist() == LABELS.tolist()


def refusal(path: str | Path) -> str:
    """The one line in which reading a set ends."""
    with pytest.raises(ValueError, match=r".") as caught:
        read_labelled(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert len(text) < 400
    return text


def error_or_result(read: Callable[[], Any]) -> tuple[str, Any]:
    """The message of the ValueError that reading raises, or what it returns."""
    try:
        return "", read()
    except ValueError as error:
        return str(error), None


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Reading may not take more than 600 MB beyond what the process has."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600_000


@pytest.mark.parametrize("form", WRITERS)
def test_what_is_written_is_read_back(form: str) -> None:
    assert_read(save(form))


@pytest.mark.parametrize("form", WRITERS)
def test_a_set_that_exists_is_not_written_over(form: str) -> None:
    path = save(form)
    with pytest.raises(ValueError, match="exists"), image_set_writer(path, form, 3):
        pass
    assert_read(path)


def test_idx_is_found_where_it_may_be_and_may_be_compressed() -> None:
    save("idx")
    for file in (Path("set") / RAW).glob("train-*"):
        Path(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
    for place in ("set", Path("set", RAW), "set/MNIST", "."):
        assert_read(place)


# --- CSV


def csv(change: Callable[[list[list[str]]], Any] = lambda table: None, header: str | None = HEADER) -> Path:
    """A CSV of the three images, after a change of its cells."""
    table = [list(map(str, row)) for row in np.column_stack([LABELS, IMAGES.reshape(3, -1)])]
    change(table)
    lines = [*([header] if header is not None else []), *(",".join(row) for row in table)]
    Path("set.csv").write_text("\n".join(lines) + "\n")
    return Path("set.csv")


HEADERS = {
    "Kaggle's": HEADER,
    "from 1": ",".join(["label", *(f"pixel{i}" for i in range(1, 785))]),
    "rows x columns": ",".join(["label", *(f"{row}x{column}" for row in range(1, 29) for column in range(1, 29))]),
    "quoted": ",".join(f'"{name}"' for name in HEADER.split(",")),
    "none": None,
}


@pytest.mark.parametrize("header", HEADERS)
def test_a_csv_may_have_any_of_the_usual_headers(header: str) -> None:
    assert_read(csv(header=HEADERS[header]))


def test_a_csv_may_end_without_a_line_break_or_with_windows_line_ends_or_empty_lines() -> None:
    path = csv()
    text = path.read_text()
    for other in (text[:-1], text.replace("\n", "\r\n"), f"{text}\n\n"):
        path.write_text(other)
        assert_read(path)


@pytest.mark.parametrize("header", ["", HEADER])
def test_a_csv_may_begin_with_the_mark_of_a_spreadsheet(header: str) -> None:
    lines = [*filter(None, [header]), ",".join(["7", *["0"] * 784]), ",".join(["2", *["255"] * 784])]
    Path("set.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    images, labels = read_labelled("set.csv")
    assert labels.tolist() == [7, 2]
    assert images.flatten(1).float().mean(1).tolist() == [0, 255]


@pytest.mark.parametrize("line", [2, 3, 4])
@pytest.mark.parametrize("place", ["in a cell", "at the end"])
def test_a_carriage_return_within_a_line_is_named_with_its_line(place: str, line: int) -> None:
    path = csv()
    lines = path.read_bytes().split(b"\n")
    lines[line - 1] = lines[line - 1].replace(b",", b",\r", 1) if place == "in a cell" else lines[line - 1] + b"\r\r"
    path.write_bytes(b"\n".join(lines))
    assert f"line {line}, pixel{0 if place == 'in a cell' else 783}" in refusal(path)


CELLS = [
    "",
    "nan",
    "NaN",
    "inf",
    "-1",
    "256",
    "1.5",
    "1e2",
    "0x10",
    "a",
    "1000000000000",
    "\N{SUPERSCRIPT TWO}",
    "'",
    "#",
]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("line", "column"), [(2, 0), (3, 400), (4, 784)])
def test_a_wrong_cell_is_named_with_its_line_and_column(cell: str, line: int, column: int) -> None:
    def change(table: list[list[str]]) -> None:
        table[line - 2][column] = cell

    text = refusal(csv(change))
    assert f"line {line}" in text
    assert HEADER.split(",")[column] in text or not cell.isascii()


@pytest.mark.parametrize("columns", [0, 1, 784, 786, 1000])
@pytest.mark.parametrize("line", [2, 4])
def test_a_line_of_another_length_is_named(columns: int, line: int) -> None:
    def change(table: list[list[str]]) -> None:
        table[line - 2] = (table[line - 2] * 2)[:columns] or ["x"]

    text = refusal(csv(change))
    assert f"line {line} has {max(1, columns)} column" in text


@pytest.mark.parametrize("columns", [1, 784, 786])
def test_a_csv_of_which_all_lines_have_another_length_is_refused(columns: int) -> None:
    text = refusal(csv(lambda table: table.__setitem__(slice(None), [(row * 2)[:columns] for row in table])))
    assert f"line 2 has {columns} column" in text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "label\n",
        "label,pixel0\n1,2\n",
        "words\n",
        "<html>\n",
        "\x89PNG\r\n",
        f"x{HEADER}\n",
        "1,2,3\n",
        ",\n",
    ],
)
def test_a_file_that_does_not_begin_like_a_csv_of_images_is_refused(text: str) -> None:
    Path("set.csv").write_bytes(text.encode("latin1"))
    assert "line 1" in refusal("set.csv")


def test_a_csv_without_an_image_is_refused() -> None:
    Path("set.csv").write_text(f"{HEADER}\n")
    assert "holds no image" in refusal("set.csv")


def test_a_label_beyond_the_classes_is_refused() -> None:
    assert "the label 10" in refusal(csv(lambda table: table[1].__setitem__(0, "10")))


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("content", [b"1" * 300_000_000, HEADER.encode() + b"\n" + bytes(300_000_000)])
def test_a_csv_of_one_long_line_is_not_read_whole(content: bytes) -> None:
    Path("set.csv").write_bytes(content)
    assert "has more than" in refusal("set.csv")


def test_a_csv_that_is_cut_anywhere_is_refused_or_has_whole_images() -> None:
    content = csv().read_bytes()
    for length in (*range(0, len(HEADER), 500), *range(len(HEADER), len(content), 97)):
        Path("cut.csv").write_bytes(content[:length])
        message, images = error_or_result(lambda: read_labelled("cut.csv"))
        assert message.startswith("cut.csv: ") if message else images is not None
        if images is not None:  # cut behind a line, or within the digits of its last cell
            assert np.array_equal(images[0][:, 0, :27].numpy(), IMAGES[: len(images[0]), :27])


# --- IDX


def idx(images: np.ndarray | bytes, labels: np.ndarray | bytes, ending: str = "") -> Path:
    """Two IDX files out of arrays, or with any content."""
    folder = Path("set")
    folder.mkdir(exist_ok=True)
    for name, part in (("train-images-idx3-ubyte", images), ("train-labels-idx1-ubyte", labels)):
        content = part if isinstance(part, bytes) else idx_header(part.shape) + part.tobytes()
        (folder / f"{name}{ending}").write_bytes(gzip.compress(content) if ending else content)
    return folder


GOOD_IMAGES, GOOD_LABELS = idx_header(IMAGES.shape) + IMAGES.tobytes(), idx_header(LABELS.shape) + LABELS.tobytes()


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_that_is_cut_anywhere_is_refused(ending: str) -> None:
    for length in (*range(20), 784, 1600, len(GOOD_IMAGES) - 1):
        assert "train-images-idx3-ubyte" in refusal(idx(GOOD_IMAGES[:length], LABELS, ending))
    for length in range(len(GOOD_LABELS)):
        assert "train-labels-idx1-ubyte" in refusal(idx(IMAGES, GOOD_LABELS[:length], ending))


def test_gzip_that_is_cut_or_changed_anywhere_is_refused() -> None:
    packed = gzip.compress(GOOD_LABELS)
    idx(IMAGES, LABELS, ".gz")
    file = Path("set/train-labels-idx1-ubyte.gz")
    for length in range(len(packed)):
        file.write_bytes(packed[:length])
        refusal("set")
    for place in range(10, len(packed)):
        file.write_bytes(packed[:place] + bytes([packed[place] ^ 255]) + packed[place + 1 :])
        refusal("set")


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("place", range(4))
def test_another_magic_number_is_refused(place: int, ending: str) -> None:
    for value in (1, 8, 13, 255):
        content = GOOD_IMAGES[:place] + bytes([value]) + GOOD_IMAGES[place + 1 :]
        if content != GOOD_IMAGES:
            assert "is not an IDX file" in refusal(idx(content, LABELS, ending))


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize(
    "shape",
    [(2, 28, 28), (4, 28, 28), (3, 28, 27), (1_000_000, 28, 28), (1 << 31, 28, 28), (2**32 - 1,) * 3, (0, 28, 28)],
)
def test_sizes_that_do_not_fit_the_content_are_refused(shape: tuple[int, ...], ending: str) -> None:
    refusal(idx(idx_header(shape) + IMAGES.tobytes(), LABELS, ending))
    if shape[0] != len(LABELS):
        refusal(idx(IMAGES, idx_header(shape[:1]) + LABELS.tobytes(), ending))


@pytest.mark.parametrize("shape", [(3, 20, 20), (3, 784, 1), (2, 28, 28), (0, 28, 28)])
def test_images_of_another_shape_or_number_are_refused(shape: tuple[int, ...]) -> None:
    assert "holds" in refusal(idx(np.zeros(shape, np.uint8), LABELS))


def test_idx_without_an_image_is_refused() -> None:
    assert "holds no image" in refusal(idx(IMAGES[:0], LABELS[:0]))


@pytest.mark.usefixtures("little_memory")
def test_a_gzip_bomb_is_not_unpacked() -> None:
    packer = zlib.compressobj(1, wbits=31)
    with open("bomb", "wb") as file:
        for part in (GOOD_IMAGES, *[bytes(1 << 24)] * 60):  # 1 GB of zeros after what the header says
            file.write(packer.compress(part))
        file.write(packer.flush())
    idx(IMAGES, LABELS, ".gz")
    Path("bomb").rename("set/train-images-idx3-ubyte.gz")
    assert "goes on after" in refusal("set")


def test_content_beyond_the_limit_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("large").touch()
    os.truncate("large", bounded.MAX_BYTES + 1)
    idx(IMAGES, LABELS)
    Path("large").rename("set/train-images-idx3-ubyte")
    assert "more than the limit" in refusal("set")


# --- PNG


def png(width: int = 28, height: int = 28, depth: int = 8, colour: int = 0, body: bytes = bytes(29 * 28)) -> bytes:
    """A PNG file that says what one likes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(body, 9))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


def png_set(content: bytes) -> Path:
    Path("set/0").mkdir(parents=True, exist_ok=True)
    Path("set/0/0.png").write_bytes(content)
    return Path("set")


def picture(mode: str, size: tuple[int, int] = (28, 28), form: str = "png") -> bytes:
    Image.new(mode, size).save("picture", form)
    return Path("picture").read_bytes()


def test_the_png_of_this_test_is_a_good_one() -> None:
    assert read_labelled(png_set(png()))[0].shape == (1, 1, 28, 28)


def test_png_that_is_cut_anywhere_is_refused() -> None:
    content = Path(save("png"), "3/0.png").read_bytes()
    for length in (*range(60), *range(60, len(content) - 16, 31)):  # what follows the pixels is not needed
        Path("set/3/0.png").write_bytes(content[:length])
        assert "3/0.png" in refusal("set")


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize(
    "size", [(27, 28), (28, 29), (100_000, 100_000), (13_000, 13_000), (2**31 - 1, 2**31 - 1), (0, 28)]
)
def test_png_that_claims_another_size_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    assert "0/0.png" in refusal(png_set(png(*size, body=bytes(1 << 26))))


@pytest.mark.parametrize("mode", ["1", "RGB", "RGBA", "LA", "P", "I;16"])
def test_png_of_another_mode_is_refused(mode: str) -> None:
    assert "is not a gray image of 28x28" in refusal(png_set(picture(mode)))


@pytest.mark.parametrize(
    "content", [b"", b"text", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 28 28\n"]
)
def test_what_is_no_png_is_refused(content: bytes) -> None:
    assert "0/0.png" in refusal(png_set(content))


@pytest.mark.parametrize("form", ["jpeg", "gif", "bmp", "tiff"])
def test_another_format_under_that_name_is_refused(form: str) -> None:
    assert "0/0.png" in refusal(png_set(picture("L", form=form)))


@pytest.mark.parametrize("folder", ["0x", "1_000", "-1", "\N{SUPERSCRIPT TWO}", "9" * 30])
def test_a_folder_that_is_no_number_of_a_class_is_refused(folder: str) -> None:
    Path("set", folder).mkdir(parents=True)
    Path("set", folder, "0.png").write_bytes(png())
    refusal("set")


# --- any file


def huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)  # without a byte on the disk


STRANGE: dict[str, Callable[[Path], Any]] = {
    "nothing": lambda path: None,
    "a pipe": os.mkfifo,
    "a folder": lambda path: path.mkdir(),
    "a loop": lambda path: path.symlink_to(path.name),
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a dead link": lambda path: path.symlink_to("nowhere"),
    "empty": lambda path: path.touch(),
    "huge": huge,
}
PLACES = ["set.csv", "set/train-images-idx3-ubyte", "set/train-images-idx3-ubyte.gz", "set/0/0.png", "set/0", "set"]


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("kind", STRANGE)
@pytest.mark.parametrize("place", PLACES)
def test_what_is_no_ordinary_file_is_refused(place: str, kind: str) -> None:
    path = Path(place)
    path.parent.mkdir(parents=True, exist_ok=True)
    if "idx3" in place:
        Path("set/train-labels-idx1-ubyte").write_bytes(GOOD_LABELS)
    STRANGE[kind](path)
    refusal(place.split("/")[0])


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("kind", STRANGE)
def test_a_users_image_that_is_no_ordinary_file_is_refused(kind: str) -> None:
    path = Path("image.png")
    STRANGE[kind](path)
    with pytest.raises(ValueError, match=r"^image\.png: ") as caught:
        read_user_image(path)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("size", [(100_000, 100_000), (13_000, 13_000), (50_000_001, 1), (2**31 - 1, 2**31 - 1)])
def test_a_users_image_with_too_many_pixels_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    Path("image.png").write_bytes(png(*size, body=bytes(1 << 26)))
    with pytest.raises(ValueError, match=r"^image\.png: (has .* limit|is not an image)"):
        read_user_image("image.png")
    with open("image.png", "rb") as file, pytest.raises(ValueError, match=r"^the image "):
        read_user_image(file)


@pytest.mark.parametrize("form", ["png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm"])
def test_a_users_image_that_is_cut_anywhere_is_refused_or_read(form: str) -> None:
    Image.fromarray(np.repeat(IMAGES[0].repeat(3, 0).repeat(3, 1)[..., None], 3, 2)).save("image", form)
    content = Path("image").read_bytes()
    for length in range(0, len(content), max(1, len(content) // 60)):
        Path("image").write_bytes(content[:length])
        message, image = error_or_result(lambda: read_user_image("image"))
        assert message.startswith("image: ") if message else image is not None


def test_postscript_is_not_run() -> None:
    Path("image.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 28 28\n%%EndComments\nshowpage\n")
    with pytest.raises(ValueError, match="is not an image"):
        read_user_image("image.png")


def test_extra_images_that_cannot_be_read_end_in_the_same_line() -> None:
    data = MNIST5k(extra_train_path="nowhere")
    with pytest.raises(ValueError, match=r"^nowhere: no such file or folder$"):
        data.setup()
