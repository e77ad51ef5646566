"""Reading files from outside: ordinary files only, and no more bytes or pixels of them than a limit allows."""

import gzip
import math
import os
import stat
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

MAX_BYTES = 1 << 30  # of a file, and of what it holds when decompressed: 1.3 million images of 28x28 pixels
MAX_PIXELS = 50_000_000  # of one picture; a phone's camera takes 12 to 50 million
PICTURE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # Pillow runs another program for some others

READ_ERRORS = (ValueError, OSError, EOFError, zlib.error)  # what reading a broken file raises


def reason(error: BaseException) -> str:
    """One line that says why a file could not be read, without the file's name.

    >>> reason(FileNotFoundError(2, "No such file or directory", "x.csv"))
    'No such file or directory'
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def open_file(path: str | Path, max_bytes: int = MAX_BYTES) -> BinaryIO:
    """Opens an ordinary file to read its bytes.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is a folder, a device or a pipe, or larger than `max_bytes`.
    """
    # without O_NONBLOCK, a pipe that nobody writes to would never open
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is not an ordinary file")
        if status.st_size > max_bytes:
            raise ValueError(f"has {status.st_size:,} bytes, more than the limit of {max_bytes:,}")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


IDX_TYPES = {"u1": 8, ">i4": 12}  # the type of its numbers that an IDX file names


def idx_header(shape: Sequence[int], dtype: str = "u1") -> bytes:
    """What precedes the numbers in an IDX file: two zero bytes, their type, the number of sizes, the sizes.

    >>> idx_header([258]).hex(" ")
    '00 00 08 01 00 00 01 02'
    """
    return bytes([0, 0, IDX_TYPES[dtype], len(shape)]) + np.array(shape, ">u4").tobytes()


def read_idx(path: Path, dimensions: int, max_bytes: int = MAX_BYTES, dtype: str = "u1") -> np.ndarray:
    """The array of an IDX file, raw or .gz. Never takes more memory than the file has content.

    Raises:
        OSError, EOFError, zlib.error: the file cannot be read or decompressed.
        ValueError: it is not an ordinary file, not IDX, cut short, or holds more than `max_bytes`.
    """
    with open_file(path, max_bytes) as file:
        stream: Any = gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file
        header = stream.read(4 + 4 * dimensions)
        if len(header) < 4 + 4 * dimensions or header[:4] != idx_header([0] * dimensions, dtype)[:4]:
            numbers = "bytes" if dtype == "u1" else "integers of four bytes"
            raise ValueError(
                f"is not an IDX file of {numbers} in {dimensions} dimension{'s' if dimensions > 1 else ''}"
            )
        shape = [int(size) for size in np.frombuffer(header, ">u4", offset=4)]
        size = math.prod(shape) * np.dtype(dtype).itemsize
        claimed = math.prod(max(length, 1) for length in shape)  # NumPy bounds the other sizes of an empty array, too
        if claimed * np.dtype(dtype).itemsize > max_bytes:
            sizes = "x".join(map(str, shape))
            raise ValueError(f"claims to hold {sizes} numbers, more than the limit of {max_bytes:,} bytes")
        array = np.empty(size, np.uint8)  # pages that are never written take no memory
        filled, memory = 0, memoryview(array.data)
        while filled < size and (count := stream.readinto(memory[filled : filled + (1 << 20)])):
            filled += count
        if filled < size:
            raise ValueError(f"is cut short: {filled:,} of {size:,} bytes")
        if stream.read(1):
            raise ValueError(f"goes on after its {size:,} bytes")
    return array.view(dtype).reshape(shape)


def first_intact(paths: Iterable[Path], read: Callable[[Path], np.ndarray]) -> np.ndarray:
    """What `read` makes of the first file that is intact: a damaged raw file does not hide an intact .gz beside it.

    Raises:
        ValueError: none is; says what is wrong with each.
    """
    problems = []
    for path in paths:
        try:
            return read(path)
        except READ_ERRORS as error:
            problems.append(f"{path.name} {reason(error)}")
    raise ValueError("; ".join(problems))


@contextmanager
def open_picture(
    source: str | Path | BinaryIO, formats: Sequence[str] = PICTURE_FORMATS, max_pixels: int = MAX_PIXELS
) -> Iterator[Image.Image]:
    """A picture whose size has been checked, before any pixel of it was decoded.

    Raises:
        ValueError: there is no such file, it is not a picture of one of the formats, is damaged, or has more than
            `max_pixels`. What is raised within the `with` statement comes out as a ValueError too.
    """
    file = source if not isinstance(source, str | Path) else None
    try:
        if file is None:
            file = open_file(source)  # type: ignore[arg-type]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is a tighter one
            with Image.open(file, formats=[*formats]) as image:
                if image.width * image.height > max_pixels:
                    raise ValueError(
                        f"has {image.width}x{image.height} pixels, more than the limit of {max_pixels / 1e6:g} million"
                    )
                yield image
    except FileNotFoundError:
        raise ValueError("no such file") from None
    except ValueError:
        raise
    except Image.DecompressionBombError:
        raise ValueError(f"has more pixels than the limit of {max_pixels / 1e6:g} million") from None
    except Exception as error:  # a decoder may raise anything on a damaged file
        if isinstance(error, OSError) and error.errno is not None:
            raise ValueError(reason(error)) from error
        raise ValueError(f"is not an image that can be read ({', '.join(formats)})") from error
    finally:
        if file is not None and file is not source:
            file.close()
