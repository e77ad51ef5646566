"""The console of a run: one line of progress at 80 columns, one line per epoch in a log file, a short table."""

import re
import signal
from pathlib import Path

import pytest
from command_line import PLAIN, only_run, results_of, run_well
from stopping import stop, training_step

GAN = ("model=gan", "model.network.width=0.05", *PLAIN, "callbacks.evaluation.final_count=20")


def lines_of(out: str) -> list[str]:
    """What a terminal showed, each state of a line that was overwritten as a line of its own."""
    without_colours = re.sub(r"\x1b\[[0-9;]*m", "", out)
    return [line.rstrip() for line in re.split(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\n]", without_colours) if line.strip()]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.extended
@pytest.mark.usefixtures("terminal")
def test_progress_of_epochs_is_one_line_of_80_columns() -> None:
    out = run_well("model=lenet", *PLAIN, "trainer.max_epochs=2", "trainer.log_every_n_steps=5").out
    lines = lines_of(out)
    assert max(map(len, lines)) <= 80
    epochs = [line for line in lines if line.startswith("Epoch")]
    assert {line.split()[1] for line in epochs} == {"1/2", "2/2"}
    assert re.search(r" 10/10 .* loss: \d\.\d{3} acc: 0\.\d{3} val_acc: 0\.\d{3}$", epochs[-1])
    assert "\x1b[1A\x1b[1A" not in out.replace("\x1b[2K", "")  # never goes up by two lines: there is only one


@pytest.mark.usefixtures("terminal")
def test_progress_of_a_budget_of_steps_counts_steps() -> None:
    budget = ("trainer.max_epochs=-1", "trainer.max_steps=15")
    for arguments in (("model=lenet", *PLAIN), (*GAN, "model.discriminator_steps=2")):
        bars = [line for line in lines_of(run_well(*arguments, *budget).out) if line.startswith("Step")]
        assert re.search(r" 15/15 ", bars[-1])
        assert all("/15 " in line for line in bars)


@pytest.mark.extended
@pytest.mark.usefixtures("terminal")
def test_long_evaluation_says_what_it_is_doing() -> None:
    lines = lines_of(run_well(*GAN, "trainer.max_epochs=1", "callbacks.evaluation.every_n_epochs=1").out)
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("Scoring: ") for line in lines)


def test_log_file_has_one_line_per_epoch_with_its_means() -> None:
    out = run_well("model=lenet", *PLAIN, "trainer.max_epochs=3").out
    epochs = re.findall(r"^epoch (\S+)  loss (\S+)  acc (\S+)  val_acc (\S+)  val_loss \S+  \S+ s$", out, re.MULTILINE)
    assert [number for number, *_ in epochs] == ["1/3", "2/3", "3/3"]
    results = results_of(only_run())
    assert float(epochs[-1][1]) == pytest.approx(results["train/loss"], rel=1e-3)
    assert float(epochs[-1][2]) == pytest.approx(results["train/accuracy"], rel=1e-3)
    assert "\r" not in out
    assert "\x1b" not in out


@pytest.mark.parametrize("without", ["~callbacks.progress_bar", "callbacks.progress_bar.refresh_rate=0"])
def test_progress_can_be_left_out(without: str) -> None:
    out = run_well("model=lenet", *PLAIN, "trainer.max_epochs=1", without).out
    assert "epoch" not in out.lower()
    assert "\u2501" not in out  # of the bar that Lightning brings itself


def test_run_that_goes_on_within_an_epoch_shows_it() -> None:
    stop(("model=lenet", *PLAIN, "trainer.max_epochs=2"), training_step(13), signal.SIGTERM)
    out = run_well(f"ckpt_path={only_run()}/checkpoints/last.ckpt").out
    assert re.findall(r"^epoch (\S+)  loss", out, re.MULTILINE) == ["2/2"]


def test_losses_of_a_gan_are_means_over_its_last_epoch_however_short() -> None:
    """Ten steps, of which none is logged by default."""
    run_well(*GAN, "trainer.max_epochs=1")
    results = results_of(only_run())
    assert 0 < results["train/generator_loss"] < 5
    assert 0 < results["train/discriminator_loss"] < 5


def test_table_at_the_end_has_few_rows_and_says_what_is_better() -> None:
    out = run_well(*GAN, "trainer.max_epochs=1").out
    rows = [line.split() for line in out.splitlines() if line.startswith(" val/")]
    assert len(rows) <= 9
    assert {row[0]: row[-1] for row in rows}["val/fid"] == "lower"
    more = re.search(r"^metrics +(\d+) more in results.json$", out, re.MULTILINE)
    assert more is not None
    assert int(more[1]) > 9
    assert max(map(len, out.splitlines())) <= 80


def test_profilers_tables_are_files_that_the_last_lines_name() -> None:
    out = run_well("model=lenet", *PLAIN, "trainer.max_epochs=1", "trainer.profiler=simple").out
    [file] = re.findall(r"^profile +(.+/fit-profile.txt)$", out, re.MULTILINE)
    assert "run_training_batch" in Path(file).read_text()
