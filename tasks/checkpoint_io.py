"""How a run's checkpoints are written and read: whole ones only, and with paths of the folder that they lie in."""

import copy
import io
import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from tasks.results import RESULTS, atomic_writer

NEW_RUN = "init_from= starts a new run from its weights"
SCORES = ("best_model_score", "current_score", "kth_value")  # of a ModelCheckpoint


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its target and renames it: a kill or a full disk leaves the earlier one as it was.

    Lightning's own way moves it from TMPDIR, which is a copy where that is another file system.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()  # torch hides the reason why a file cannot be written
        torch.save(checkpoint, content)
        with atomic_writer(path, "wb") as file:
            file.write(content.getbuffer())

    def remove_checkpoint(self, path: str | os.PathLike) -> None:
        """Removes a file; never a folder, whatever a checkpoint's record of earlier ones says."""
        if Path(path).is_file():
            Path(path).unlink()


class ResumedCheckpoint(WholeCheckpoints):
    """Hands out one checkpoint that has been read and checked already, with the paths of the folder it lies in.

    Args:
        checkpoint: its content.
        folder: the folder of the run's checkpoints. Whatever paths the checkpoint holds, only their names are used.

    Raises:
        ValueError: a state has a name that no callback has.
    """

    def __init__(self, checkpoint: dict[str, Any], folder: Path) -> None:
        super().__init__()
        self.folder = folder
        for key in checkpoint["callbacks"]:
            if not isinstance(key, str):
                kind = type(key).__name__
                raise ValueError(f"ckpt_path: cannot be resumed, a callback in it has a {kind} for a name; {NEW_RUN}")
        states = {key: rebuild_paths(key, state, folder) for key, state in checkpoint["callbacks"].items()}
        self.checkpoint = checkpoint | {"callbacks": states}

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes a checkpoint; the results of before are not those of the net that the folder holds then."""
        (self.folder.parent / RESULTS).unlink(missing_ok=True)
        super().save_checkpoint(checkpoint, path, storage_options)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return copy.deepcopy(self.checkpoint)  # whose tensors processes of ddp_spawn share, and optimizers change


def rebuild_paths(key: str, state: Any, folder: Path) -> Any:
    """A ModelCheckpoint's state with its files looked for in `folder`, by name; other states as they are.

    Raises:
        ValueError: a score in it is none, which the results of the run would name.
    """
    if not key.startswith("ModelCheckpoint") or not isinstance(state, dict):
        return state

    def here(path: Any) -> str:
        place = folder / Path(str(path)).name
        return str(place) if isinstance(path, str) and place.suffix == ".ckpt" and os.path.isfile(place) else ""

    paths = ("best_model_path", "kth_best_model_path", "last_model_path")
    best = state.get("best_k_models")
    models = best if isinstance(best, dict) else {}
    kept = {here(path): score for path, score in models.items() if here(path)}
    scores = [*map(state.get, SCORES), *models.values()]
    if not all(score is None or (isinstance(score, torch.Tensor) and score.numel() == 1) for score in scores):
        raise ValueError(f"ckpt_path: cannot be resumed, the scores of its best checkpoints are no numbers; {NEW_RUN}")
    return state | {name: here(state.get(name)) for name in paths} | {"dirpath": str(folder), "best_k_models": kept}
