"""Small trained nets that travel with the project, a folder each: weights, config, record, and the sums of the three.

Such a folder may come from anywhere: it is read as data, like any checkpoint, and holds no pickle.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from datamodules.bounded import READ_ERRORS, open_file, reason
from tasks.folders import short
from tasks.results import RESULTS, SUMS, atomic_writer, rounded

PUBLISHED = Path(__file__).parents[1] / "published"
WEIGHTS, CONFIG = "weights.safetensors", "config.json"
OF_DATA = "data."  # begins the names of the data module's tensors among the weights
FILES = {WEIGHTS: 1 << 30, CONFIG: 1 << 20, RESULTS: 1 << 20, SUMS: 1 << 12}  # and the bytes that each may have


def published_names() -> list[str]:
    """The nets that travel with the project, as `ckpt_path=` takes them.

    >>> "published/lenet_mnist" in published_names()
    True
    """
    return sorted(f"published/{file.parent.name}" for file in PUBLISHED.glob(f"*/{SUMS}"))


def find_net(path: str | Path) -> Path | None:
    """The folder of a net that is named by its path or, from any place, by `published/NAME`; None if it is no such one.

    >>> find_net("published/lenet_mnist").name
    'lenet_mnist'
    """
    if Path(path, SUMS).is_file():
        return Path(path)
    return PUBLISHED / Path(path).name if Path(path).as_posix() in published_names() else None


def version_of(file: Path) -> tuple[int, ...]:
    """What changes when a checkpoint or a file of such a folder does."""
    files = [file / name for name in FILES] if file.is_dir() else [file]
    states = [part.stat() for part in files if part.is_file()]
    return tuple(number for state in states for number in (state.st_mtime_ns, state.st_size, state.st_ino))


def alternatives(path: str | Path) -> str:
    """What there is where a checkpoint of that name is not."""
    found = [*Path(path).glob("checkpoints/*.ckpt")] or [*Path(path).parent.glob("*.ckpt")]
    here = sorted(short(other.absolute()) for other in found)
    others = here or (published_names() if str(path).startswith("published") else [])
    return f"there is {', '.join(others)}" if others else "look in outputs/"


def read_net(folder: Path) -> dict[str, Any]:
    """The content of such a folder, as that of a checkpoint: its config is not looked at.

    Raises:
        ValueError: a file is missing, too large, damaged or another one than its sum says.
    """
    content = {}
    for name, limit in FILES.items():
        try:
            with open_file(folder / name, limit) as file:
                content[name] = file.read(limit + 1)
        except READ_ERRORS as error:
            raise ValueError(f"its {name} cannot be read: {reason(error)}") from error
    sums = content.pop(SUMS).decode(errors="replace").splitlines()
    for name, data in content.items():
        if f"{hashlib.sha256(data).hexdigest()}  {name}" not in sums:
            raise ValueError(f"its {name} is damaged: it is not the file that {SUMS} names")
    try:
        config = json.loads(content[CONFIG])
        weights = safetensors.torch.load(content[WEIGHTS])
    except Exception as error:  # of any kind: it may be any file
        raise ValueError("damaged, or not a net that task=publish wrote") from error
    content = config if isinstance(config, dict) else {}
    of_data = {name.removeprefix(OF_DATA): weights.pop(name) for name in [*weights] if name.startswith(OF_DATA)}
    return {**content, **({data_key(content.get("config")): of_data} if of_data else {}), "state_dict": weights}


def data_key(config: Any) -> str:
    """Where Lightning keeps the state of a run's data module in its checkpoints: the name of its class."""
    data = config.get("data") if isinstance(config, dict) else None
    return str(data.get("_target_")).rpartition(".")[2] if isinstance(data, dict) else ""


def write_net(
    folder: Path, checkpoint: Mapping[str, Any], record: Mapping[str, Any], data_state: Mapping[str, Tensor]
) -> int:
    """Writes the weights of a checkpoint, the config of net and data, and a record; returns their size in bytes.

    `data_state` is what the data module has learned of its training images; it is kept with the weights.

    Trainer and callbacks are left out: they are those of the command that uses the net.
    """
    weights: dict[str, Tensor] = {name: value.contiguous().clone() for name, value in checkpoint["state_dict"].items()}
    weights |= {f"{OF_DATA}{name}": value for name, value in data_state.items()}
    config = {name: checkpoint["config"][name] for name in ("model", "data", "seed", "choices")}
    plain = {"format": checkpoint["format"], "config": config, "overrides": checkpoint["overrides"]}
    content = {
        WEIGHTS: safetensors.torch.save(weights),
        CONFIG: (json.dumps(plain, indent=2) + "\n").encode(),
        RESULTS: (json.dumps(rounded(record), indent=2) + "\n").encode(),
    }
    content[SUMS] = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in content.items()).encode()
    if (folder / SUMS).is_file():  # of a job of a sweep that was killed before it had its record
        for name in FILES:
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.part")  # as long as it is not whole
    temporary.mkdir()
    try:
        for name, data in content.items():
            with atomic_writer(temporary / name, "wb") as file:
                file.write(data)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return sum(map(len, content.values()))
