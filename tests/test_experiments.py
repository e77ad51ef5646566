"""Experiments keep what they promise: every `expect:` is reached by the command of its file (`pytest -m slow`)."""

import pytest
from command_line import only_run, results_of, run_well
from conftest import CONF
from omegaconf import OmegaConf

FILES = sorted((CONF / "experiment").glob("*.yaml"))
PROMISES: dict[str, dict[str, float] | None] = {
    file.stem: OmegaConf.select(OmegaConf.load(file), "expect") for file in FILES
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "expect"), [(name, expect) for name, expect in PROMISES.items() if expect])
def test_experiment_reaches_what_it_expects(name: str, expect: dict[str, float]) -> None:
    run_well(f"experiment={name}", "~callbacks.progress_bar")
    results = results_of(only_run())
    assert [metric for metric, least in expect.items() if results[metric] < least] == []


def test_some_experiments_promise_something() -> None:
    assert any(PROMISES.values())
