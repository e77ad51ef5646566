"""Runs that are stopped at a chosen moment, and what it means that two runs ended the same."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from command_line import PLAIN, Outcome, checkpoint_of, results_of, run
from lightning import LightningModule

from classic_cnn.lenet import LeNet5

AUGMENTED = ("data/augment=crop", "model.optimizer.lr=0.01")  # and a learning rate that goes one cycle
LENET = ("model=lenet", *PLAIN, "trainer.max_epochs=3", "trainer.log_every_n_steps=4", *AUGMENTED)
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}


def assert_same_end(folder: Path, reference: Path) -> None:
    """Two runs end with the same weights, optimizer, schedule and best checkpoint, and say so in their results."""
    end, expected = checkpoint_of(folder), checkpoint_of(reference)
    for key in ("state_dict", "epoch", "global_step"):
        torch.testing.assert_close(end[key], expected[key], rtol=0, atol=0)
    for mine, other in zip(end["optimizer_states"], expected["optimizer_states"], strict=True):
        torch.testing.assert_close(mine["state"], other["state"], rtol=0, atol=0)
        assert mine["param_groups"] == other["param_groups"]
    assert end["lr_schedulers"] == expected["lr_schedulers"]
    assert best_score(end) == best_score(expected)
    best, expected_best = checkpoint_of(folder, "best"), checkpoint_of(reference, "best")
    torch.testing.assert_close(best["state_dict"], expected_best["state_dict"], rtol=0, atol=0)
    results, expected_results = results_of(folder), results_of(reference)
    changing = {"folder", "started", "seconds", "cpu_seconds", "images_per_second", "machine"}
    changing |= {"overrides", "best_checkpoint", "last_checkpoint"}
    for key in expected_results.keys() - changing - {"val/evaluation_seconds"}:
        assert results[key] == expected_results[key], key
    typed, expected_typed = (
        [text for text in result["overrides"] if not text.startswith("ckpt_path=")]
        for result in (results, expected_results)
    )
    assert typed == expected_typed
    images = [result["seconds"] * result["images_per_second"] for result in (results, expected_results)]
    assert images[0] == pytest.approx(images[1], rel=1e-4)  # counted through the stop


def best_score(checkpoint: dict[str, Any]) -> Any:
    states = [state for name, state in checkpoint["callbacks"].items() if "ModelCheckpoint" in name]
    (best,) = (state for state in states if Path(state["best_model_path"]).stem == "best")
    return best["best_model_score"]


class Moment(NamedTuple):
    """Where a signal comes: when `method` of `owner` is called for the `call`-th time."""

    owner: type
    method: str
    call: int

    def send(self, patch: pytest.MonkeyPatch, signals: tuple[signal.Signals, ...]) -> None:
        original: Callable[..., Any] = getattr(self.owner, self.method)
        calls = 0

        def interrupted(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == self.call:
                for number in signals:
                    signal.raise_signal(number)
            return original(*arguments)

        patch.setattr(self.owner, self.method, interrupted)


def stop(arguments: tuple[str, ...], moment: Moment, *signals: signal.Signals) -> Outcome:
    """The outcome of a run that gets these signals at this moment."""
    with pytest.MonkeyPatch.context() as patch:
        moment.send(patch, signals)
        return run(*arguments)


def training_step(call: int, net: type[LightningModule] = LeNet5) -> Moment:
    return Moment(net, "training_step", call)
