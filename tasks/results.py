"""results.json: what came of a run, written atomically into its folder. Imports no framework, to be read at once."""

import json
import math
import os
import re
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

SUMS = "SHA256SUMS"  # beside the record of a published net
RESULTS = "results.json"
MAX_BYTES = 10_000_000  # of a results.json, which has a few thousand
T = TypeVar("T")


@contextmanager
def atomic_writer(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """A file that takes its place only when it is whole: whoever reads it sees the old one or the new one.

    Raises:
        OSError: it cannot be written (the disk is full, say); names the path, and nothing is left of the attempt.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_writer(Path(folder, "note.txt")) as file:
    ...         _ = file.write("done")
    ...     Path(folder, "note.txt").read_text()
    'done'
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")  # on the same file system
    try:
        with open(temporary, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):
            raise OSError(error.errno, error.strerror or str(error), str(path)) from error
        raise


def is_temporary(path: Path) -> bool:
    """Whether a path is named as what a killed `atomic_writer` left.

    >>> is_temporary(Path(".last.ckpt.123-456")), is_temporary(Path(".last.ckpt.bak"))
    (True, False)
    """
    return re.fullmatch(r"\..+\.\d+-\d+", path.name) is not None


def write_results(folder: Path, record: Mapping[str, Any]) -> None:
    """Writes a run's record into its folder."""
    with atomic_writer(folder / RESULTS) as file:
        file.write(json.dumps(rounded(record), indent=2) + "\n")


def read_results(folder: Path) -> dict[str, Any]:
    """The record in a run's folder, empty where there is none.

    Raises:
        ValueError: there is one that cannot be read: it is too large, damaged, or no record.
    """
    path = folder / RESULTS
    if not path.is_file():
        return {}
    record = read_json(path)
    if not isinstance(record, dict):
        raise ValueError(f"{path}: holds no record")
    return record


def read_json(path: Path) -> Any:
    """The content of a file that a run or a task wrote, of at most `MAX_BYTES`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is too large, damaged, or not JSON.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
            raise ValueError("not an ordinary file")
        if status.st_size > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES:,} bytes")
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
        if re.search(r"\\u[dD][89a-fA-F]", text):  # half of a character, which no file and no plot can hold
            json.dumps(content, ensure_ascii=False).encode()
        return content
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: cannot be read ({' '.join(str(error).split())[:200]})") from error


def rounded(value: Any) -> Any:
    """Numbers to 6 significant digits, which a float32 has; what JSON has no number or no character for becomes a word.

    >>> rounded({"test/accuracy": 0.9891000390052795, "val/loss": float("nan")})
    {'test/accuracy': 0.9891, 'val/loss': 'nan'}
    """
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {rounded(key): rounded(inner) for key, inner in value.items()}
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()  # names of files that are no UTF-8
    return [rounded(inner) for inner in value] if isinstance(value, list | tuple) else value


def leaves(node: Any, key: str = "") -> dict[str, Any]:
    """The values of a nested mapping by their dotted keys.

    >>> leaves({"optimizer": {"lr": 0.1, "betas": [0.5, 0.9]}})
    {'optimizer.lr': 0.1, 'optimizer.betas': [0.5, 0.9]}
    """
    if not isinstance(node, Mapping):
        return {key: node}
    return {
        k: v for name, inner in node.items() for k, v in leaves(inner, f"{key}.{name}" if key else str(name)).items()
    }


def evenly_spaced(items: Sequence[T], count: int) -> list[T]:
    """At most `count` of the items, evenly from the first to the last.

    >>> evenly_spaced("abcdefghi", 3), evenly_spaced("ab", 3)
    (['a', 'e', 'i'], ['a', 'b'])
    """
    if len(items) <= count:
        return [*items]
    return [items[round(n * (len(items) - 1) / max(1, count - 1))] for n in range(count)]
