"""LayerConvergence: the relative changes of the weights, worked out by hand, and after a resumed run."""

import signal
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from command_line import PLAIN, checkpoint_of, only_run, run_well
from conftest import small_run
from lightning import Callback, LightningModule, Trainer
from stopping import stop, training_step
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from classic_cnn.callbacks.convergence import LayerConvergence, weights


class Snapshots(Callback):
    """Keeps the weights as they are at the start and after each epoch."""

    def __init__(self) -> None:
        self.weights: list[dict[str, np.ndarray]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.on_train_epoch_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.weights.append({name: w.detach().numpy().copy() for name, w in weights(pl_module).items()})


CONVERGENCE = "+callbacks.convergence._target_=classic_cnn.callbacks.convergence.LayerConvergence"


def test_layer_convergence_logs_relative_changes_and_a_heat_map(tmp_path: Path) -> None:
    model, data, trainer = small_run(CONVERGENCE, "trainer.max_epochs=2", "~callbacks.plots", folder=tmp_path)
    snapshots = Snapshots()
    trainer.callbacks.append(snapshots)  # type: ignore[attr-defined]
    trainer.fit(model, data)
    board = EventAccumulator(str(tmp_path)).Reload()
    names = ["features.0", "features.3", "classifier.1", "classifier.3", "classifier.5"]
    assert {f"weight_change/{name}" for name in names} < set(board.Tags()["scalars"])
    for name in names:
        values = [w[name] for w in snapshots.weights]
        expected = [np.linalg.norm(b - a) / np.linalg.norm(a) for a, b in pairwise(values)]
        logged = [event.value for event in board.Scalars(f"weight_change/{name}")]
        assert logged == pytest.approx(expected, rel=1e-4)
    assert "weight_change/all layers" in board.Tags()["images"]


def test_layer_convergence_goes_on_with_a_resumed_run(tmp_path: Path) -> None:
    for epochs in (2, 3):
        overrides = (CONVERGENCE, "model/lr_scheduler=none", f"trainer.max_epochs={epochs}", "~callbacks.plots")
        model, data, trainer = small_run(*overrides, folder=tmp_path)
        last = tmp_path / "checkpoints/last.ckpt"
        trainer.fit(model, data, ckpt_path=str(last) if last.exists() else None, weights_only=True)
    [callback] = [c for c in trainer.callbacks if isinstance(c, LayerConvergence)]  # type: ignore[attr-defined]
    assert sorted(callback.changes) == [0, 1, 2]


def test_run_stopped_within_an_epoch_goes_on_with_the_changes_of_its_rest() -> None:
    arguments = ("model=lenet", *PLAIN, "trainer.max_epochs=2", CONVERGENCE)
    assert stop(arguments, training_step(13), signal.SIGTERM).status == 143
    run_well(f"ckpt_path={only_run()}/checkpoints/last.ckpt")
    [state] = (state for name, state in checkpoint_of(only_run())["callbacks"].items() if "LayerConvergence" in name)
    assert sorted(state["changes"]) == [0, 1]
    assert all(0 < change < 1 for change in state["changes"][1])
