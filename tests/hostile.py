"""Commands of records that come from a stranger, and a module that leaves a file where it is imported."""

import os
from pathlib import Path

import pytest
from conftest import CONF

TARGET = "evil.Callback"
HOSTILE = [
    f"callbacks.x._target_={TARGET}",
    f"+callbacks.x._target_={TARGET}",
    f"callbacks.x={{_target_:{TARGET}}}",
    f"callbacks.checkpoint._target_={TARGET}",
    f"model.optimizer._target_={TARGET}",
    f"data._target_={TARGET}",
    f"trainer.logger.x={{_target_:{TARGET}}}",
    f"model.optimizer=${{oc.decode:'{{_target_: {TARGET}}}'}}",
    "callbacks=FOLDER/evil",
    f"callbacks.x={{_target_:[{TARGET}]}}",
    "callbacks.x={_target_:null}",
    "task=claim",
    f"task.arms={{a:[callbacks.x._target_={TARGET}]}}",
    "a",
    "${a",
    "no_such_key=1",
    "model=no_such",
]


def leave_evil_module(override: str, patch: pytest.MonkeyPatch) -> str:
    """Writes a module and a config that names it into the working folder; an override that names one of them there."""
    Path("evil.py").write_text("open('made', 'w').close()\nclass Callback: ...\n")
    Path("evil.yaml").write_text(f"x: {{_target_: {TARGET}}}\n")
    patch.syspath_prepend(str(Path.cwd()))
    return override.replace("FOLDER", os.path.relpath(Path.cwd(), CONF / "callbacks"))
