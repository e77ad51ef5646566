"""run.py as a user calls it: in this process, which spares its seconds of imports, or in one of its own."""

import contextlib
import io
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from conftest import ROOT
from hydra.core.global_hydra import GlobalHydra

RUN = str(ROOT / "run.py")
SMALL = (
    "data=mnist_5k",
    "data.train_images_per_class=40",
    "data.batch_size=40",
    "trainer.accelerator=cpu",
)  # 10 batches an epoch
PLAIN = (*SMALL, "~callbacks.plots")  # figures take most of the time of so small a run


class Outcome(NamedTuple):
    """What a command left on the terminal."""

    status: int
    out: str
    err: str


def run(*arguments: str, full_error: bool = False) -> Outcome:
    """`python run.py ARGUMENTS` in the current folder, in this process, with HYDRA_FULL_ERROR=1 or without."""
    GlobalHydra.instance().clear()
    out, err, status = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [RUN, *arguments])
        patch.setattr(sys, "path", [*sys.path])
        patch.setenv("HYDRA_FULL_ERROR", str(int(full_error)))  # run.py sets it for Hydra
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                runpy.run_path(RUN, run_name="__main__")
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else int(bool(end.code))
    return Outcome(status, out.getvalue(), err.getvalue())


def run_well(*arguments: str) -> Outcome:
    """`run` for a command that has to succeed, without a word on stderr."""
    outcome = run(*arguments)
    assert outcome.status == 0, outcome.err
    assert outcome.err == ""
    return outcome


def assert_one_line(outcome: Outcome, *parts: str) -> None:
    """Status 2, and one line on stderr that begins with "Error:" and holds all the `parts`."""
    assert outcome.status == 2, outcome.err
    assert outcome.err.startswith("Error: ")
    assert outcome.err.endswith("\n")
    assert outcome.err.count("\n") == 1
    assert "Traceback" not in outcome.out
    for part in parts:
        assert part in outcome.err


def start(*arguments: str, before: tuple[str, ...] = (), place: Path | None = None) -> subprocess.Popen[str]:
    """`python run.py ARGUMENTS` in a folder, in a process of its own; `before` are options of Python itself."""
    environment = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}
    command = [sys.executable, "-u", *before, RUN, *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, cwd=place)


def finish(process: subprocess.Popen[str]) -> Outcome:
    """Waits for a started process and takes what it said."""
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()  # does nothing to one that has ended
    return Outcome(process.returncode, out, err)


def only_run(below: Path | str = "outputs") -> Path:
    """The folder of the only run there is."""
    (config,) = Path(below).rglob(".hydra")
    return config.parent.resolve()


def results_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


def change(folder: Path, **changes: Any) -> None:
    """Changes values of a run's results.json."""
    (folder / "results.json").write_text(json.dumps(results_of(folder) | changes))


def change_facts(folder: Path, **facts: Any) -> None:
    """Changes seed, model, data, experiment or overrides of a run, in its record and in its last checkpoint."""
    change(folder, **facts)
    content = checkpoint_of(folder)
    content["config"]["seed"] = facts.get("seed", content["config"]["seed"])
    content["config"]["choices"] |= {key: value for key, value in facts.items() if key in content["config"]["choices"]}
    content["overrides"] = facts.get("overrides", content["overrides"])
    torch.save(content, folder / "checkpoints" / "last.ckpt")


def checkpoint_of(folder: Path, name: str = "last") -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
