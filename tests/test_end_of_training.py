"""The end of a training is in its checkpoint, and a run that goes on from there is the one that was not interrupted."""

from pathlib import Path
from typing import Any

import pytest
from command_line import PLAIN, checkpoint_of, run_well
from torch import Tensor

CONSTANT = ("model=lenet", *PLAIN, "model/lr_scheduler=none")
PLATEAU = ("model=lenet", *PLAIN, "model/lr_scheduler=plateau", "model.optimizer.lr=0.01")
IMPATIENT = ("model.lr_scheduler.patience=0", "model.lr_scheduler.threshold=0.5", "model.lr_scheduler.factor=0.5")
GAN = ("model=gan", *PLAIN, "model.network.width=0.05", "callbacks.evaluation=null")


def weights(folder: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = checkpoint_of(folder)["state_dict"]
    return state


def assert_same(first: Path, second: Path) -> None:
    assert checkpoint_of(first)["global_step"] == checkpoint_of(second)["global_step"]
    assert {name for name, value in weights(first).items() if not value.equal(weights(second)[name])} == set()


@pytest.mark.parametrize("steps", [5, *(pytest.param(steps, marks=pytest.mark.extended) for steps in (10, 14, 20))])
def test_run_that_max_steps_ended_goes_on_exactly(steps: int) -> None:
    """Of ten steps an epoch: within the first, at its end, within the second, at the end of all."""
    run_well(*CONSTANT, "trainer.max_epochs=3", "hydra.run.dir=whole")
    run_well(*CONSTANT, "trainer.max_epochs=3", f"trainer.max_steps={steps}", "hydra.run.dir=cut")
    assert checkpoint_of(Path("cut"))["global_step"] == steps
    run_well("ckpt_path=cut/checkpoints/last.ckpt", "trainer.max_steps=-1")
    assert_same(Path("whole"), Path("cut"))


@pytest.mark.parametrize("schedule", [CONSTANT, (*PLATEAU, *IMPATIENT)], ids=["no schedule", "plateau"])
@pytest.mark.parametrize("every", [1, pytest.param(2, marks=pytest.mark.extended)])
def test_run_that_trains_longer_is_the_one_that_had_the_time_at_once(schedule: tuple[str, ...], every: int) -> None:
    overrides = (*schedule, f"trainer.check_val_every_n_epoch={every}")
    if schedule != CONSTANT and every == 2:
        overrides = (*schedule, "trainer.val_check_interval=0.5")
    run_well(*overrides, "trainer.max_epochs=4", "hydra.run.dir=whole")
    run_well(*overrides, "trainer.max_epochs=3", "hydra.run.dir=short")
    run_well("ckpt_path=short/checkpoints/last.ckpt", "trainer.max_epochs=4")
    assert_same(Path("whole"), Path("short"))
    schedulers = [checkpoint_of(Path(name))["lr_schedulers"] for name in ("whole", "short")]
    assert schedulers[0] == schedulers[1]


ENDS = [
    (*CONSTANT, "trainer.max_epochs=3", "trainer.check_val_every_n_epoch=2"),
    (*GAN, "trainer.max_epochs=2", "trainer.val_check_interval=3"),
]
MORE_ENDS = [
    (*CONSTANT, "trainer.max_epochs=2", "trainer.val_check_interval=3"),
    (*CONSTANT, "trainer.max_epochs=2", "callbacks.last.every_n_train_steps=3"),
    (*CONSTANT, "trainer.max_epochs=3", "callbacks.last.every_n_epochs=2"),
    (*GAN, "trainer.max_epochs=3", "trainer.check_val_every_n_epoch=2"),
]


@pytest.mark.parametrize(
    "changes",
    [*ENDS, *(pytest.param(changes, marks=pytest.mark.extended) for changes in MORE_ENDS)],
    ids=lambda changes: f"{changes[0]} {changes[-1]}",
)
def test_last_checkpoint_is_the_end(changes: tuple[str, ...]) -> None:
    run_well(*changes, "hydra.run.dir=run")
    epochs = int(next(text for text in changes if text.startswith("trainer.max_epochs")).partition("=")[2])
    names = ("last", "best") if changes[0] == "model=gan" else ("last",)  # nothing is compared there
    for name in names:
        progress: dict[str, Any] = checkpoint_of(Path("run"), name)["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        assert progress["total"]["ready"] == 10 * epochs


def test_budget_of_time_ends_behind_a_whole_step() -> None:
    budget = ("trainer.max_time={milliseconds:1}", "trainer.accumulate_grad_batches=4")
    run_well(*CONSTANT, "trainer.max_epochs=9", *budget, "hydra.run.dir=run")
    assert checkpoint_of(Path("run"))["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]["ready"] == 4
