"""task=fetch: brings a data set's files to this machine, so that runs only have to read them."""

from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from datamodules.contract import ArgumentError
from datamodules.folder import Folder


def fetch(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Fetches the files of `data` that `data.root` lacks: from the official mirrors, else by package managers.

    Files that are there are not changed. Where other files lie under the same names, the official ones go into a folder
    beside them. Sets that are never fetched are looked for.

    Raises:
        ValueError: the files cannot be fetched or written, or are not there and never fetched.
    """
    data = instantiate(cfg.data, _convert_="all")
    if isinstance(data, Folder):
        place = find(data)
        print(f"data         {data.name}: never fetched, and found in {place}")
        return {"data_folder": place}
    if not hasattr(data, "fetch"):
        print(f"data         {data.name}: needs no files")
        return {"data_folder": None}
    data_folder = data.fetch()
    print(f"data         {data.files.name}: all four files are in {data_folder}, checksums verified")
    return {"data_folder": str(data_folder)}


def find(data: Folder) -> str | None:
    """Where a set lies that a person has to bring.

    Raises:
        ValueError: it is not there, or damaged.
    """
    try:
        if data.found is None:  # by its constructor
            data.find()
    except ArgumentError as error:
        raise ValueError(f"{data.name} is never fetched: data.{error.name}={error.value}: {error.reason}") from None
    return data.path
