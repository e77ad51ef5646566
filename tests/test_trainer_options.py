"""Options of Trainer that people reach for: each run ends well, or is refused in one line."""

from pathlib import Path

import pytest
from command_line import PLAIN, only_run, results_of, run, run_well
from conftest import MODELS, quick

from classic_cnn.lenet import LeNet5

RUNS = (  # separated by spaces where they do not touch each other
    "trainer.fast_dev_run=true",
    "trainer.fast_dev_run=2",
    "trainer.check_val_every_n_epoch=5",
    "trainer.enable_checkpointing=false",
    "trainer.logger=false",
    "trainer.logger=null trainer.limit_test_batches=0",
    "trainer/logger=none trainer.max_steps=3",
    "trainer/logger=csv trainer.limit_train_batches=0.2",
    "trainer.limit_train_batches=1 trainer.enable_progress_bar=false",
    "trainer.limit_val_batches=0",
    "trainer.overfit_batches=2 trainer.max_time=00:00:10:00",
    "trainer.val_check_interval=0.5 trainer.profiler=simple trainer.log_every_n_steps=0",
    "trainer.deterministic=true trainer.detect_anomaly=true trainer.gradient_clip_val=1.0",
    "trainer.num_sanity_val_steps=1 trainer.enable_model_summary=true",
    "~callbacks.checkpoint",
    "~callbacks.last",
    "callbacks.early_stopping={_target_:lightning.pytorch.callbacks.EarlyStopping,monitor:val/loss}",
)


RUNS_OF_A_GAN = (
    "trainer.fast_dev_run=true",
    "trainer.gradient_clip_val=1.0",
    "trainer.limit_val_batches=0",
    "trainer/logger=none",
    "trainer.enable_checkpointing=false",
)


@pytest.mark.extended
@pytest.mark.parametrize("options", RUNS)
def test_run_with_the_options_ends_well(options: str) -> None:
    run_well("model=lenet", *PLAIN, "trainer.max_epochs=2", *options.split(" "))
    results = results_of(only_run())
    assert results["status"] == "finished"
    for name in ("best_checkpoint", "last_checkpoint"):
        assert name not in results or Path(results[name]).is_file()


@pytest.mark.extended
@pytest.mark.parametrize("option", RUNS_OF_A_GAN)
def test_run_of_a_gan_with_the_option_ends_well_or_is_refused_in_one_line(option: str) -> None:
    small = ("model.network.width=0.05", "callbacks.evaluation.final_count=20", "trainer.max_epochs=1")
    outcome = run("model=gan", *PLAIN, *small, option)
    assert outcome.status in (0, 2), outcome.err
    assert outcome.err.count("\n") == (outcome.status == 2), outcome.err


@pytest.mark.extended
@pytest.mark.parametrize(
    "model", [name if name in ("lenet", "gan") else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]
)
def test_every_model_can_be_debugged(model: str) -> None:
    short = (*quick(model), *(("callbacks.evaluation.final_count=20",) if "gan" in model else ()))
    out = run_well("experiment=debug", f"model={model}", *PLAIN, *short).out
    results = results_of(only_run())
    assert (results["status"], results["epochs"]) == ("finished", 2)
    assert "/fit-profile.txt" in out


def test_debugging_names_the_operation_whose_gradient_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LeNet5, "loss", lambda _, logits, labels: (logits * 0).sqrt().mean())
    outcome = run("experiment=debug", "model=lenet", *PLAIN)
    assert outcome.status == 1
    assert "MulBackward0' returned nan values" in outcome.err


@pytest.mark.parametrize("cell", ["", "elman", "lstm", "gru"])
@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "bf16-mixed"])
def test_precision_works(precision: str, cell: str) -> None:
    model = ("model=recurrent", f"model.cell={cell}", "model.units=4") if cell else ("model=lenet",)
    run_well(*model, *PLAIN, "trainer.max_epochs=1", f"trainer.precision={precision}")


def test_mixed_precision_that_a_cpu_does_not_have_is_refused_not_replaced() -> None:
    outcome = run("model=lenet", *PLAIN, "trainer.precision=16-mixed")
    assert outcome.status == 2
    assert outcome.err.startswith("Error: trainer.precision=16-mixed: is not for a CPU")
    assert outcome.err.count("\n") == 1
