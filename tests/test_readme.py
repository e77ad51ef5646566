"""README.md and docs/ tell the truth: commands compose, numbers are the code's, printed files pass the tests."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command_line import PLAIN, results_of
from conftest import CONF, MODELS, ROOT, compose, model_class
from documents import DOCS, README, add_printed_files, commands, composed, copy_project, inline_commands, table
from hydra.utils import instantiate

from rnn.esn import EchoStateNetwork
from rnn.sequence_classifier import SequenceClassifier
from tasks.build import build_model
from tasks.resume import FIXED_CALLBACKS, FIXED_TRAINER_KEYS

FILES = [README, *DOCS, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
COMMANDS = sorted({command for file in (README, *DOCS) for command in (*commands(file), *inline_commands(file))})
PAPERS = table(README, "paper")
ADDED = {"README.md": ("perceptron",), "docs/extending.md": ("lsgan", "small_digits", "top_two")}


def test_readme_is_short_and_has_commands() -> None:
    assert len(README.read_text().splitlines()) <= 150
    assert len(commands(README)) >= 15


@pytest.mark.parametrize(
    "command", [text for text in COMMANDS if not re.search("perceptron|lsgan|small_digits|top_two", text)]
)
def test_command_composes(command: str) -> None:
    if "search_lr" in command:
        pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="pip install hydra-optuna-sweeper")
    for cfg in composed(re.sub(r"\.\.\.|FOLDER_OR_CSV", "folder", command)):
        assert cfg.task._target_.startswith("tasks.")


@pytest.mark.parametrize("row", PAPERS, ids=lambda row: row[2].strip("`"))
def test_table_of_papers_is_the_codes(row: list[str]) -> None:
    _, file, command, parameters, published, published_parameters = row
    for overrides, count in ((command, parameters), (published, published_parameters)):
        if overrides:
            cls, found = parameters_of(overrides.strip("`"))
            assert (ROOT / file.strip("`")).relative_to(ROOT).with_suffix("").as_posix() == cls.__module__.replace(
                ".", "/"
            )
            assert f"{found:,}" == count


def parameters_of(overrides: str) -> tuple[type, int]:
    """The class of a model and how many parameters it trains."""
    cfg = compose(*overrides.split())
    cls = instantiate(cfg.model, _partial_=True).func
    needs_values = isinstance(cls, type) and issubclass(cls, SequenceClassifier | EchoStateNetwork)
    with torch.device("cpu" if needs_values else "meta"):
        net = build_model(cfg.model, instantiate(cfg.data))
    return type(net), sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)


def test_table_of_papers_has_every_model() -> None:
    named = {name for row in PAPERS for cell in (row[2], row[4]) for name in re.findall(r"model=([\w/]+)", cell)}
    published = {f"published/{file.stem}" for file in (CONF / "model" / "published").glob("*.yaml")}
    assert named == {*MODELS, *published}
    assert {model_class(name).__module__.split(".")[0] for name in MODELS} == {"classic_cnn", "gan", "rnn"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_lead_somewhere(file: Path) -> None:
    for link in re.findall(r"\]\((?!https:)([^)\s]+)\)", file.read_text()):
        path, _, anchor = link.partition("#")
        target = (file.parent / path).resolve() if path else file
        assert target.exists(), link
        if anchor:
            titles = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, link


def test_table_of_resumed_keys_is_the_codes() -> None:
    fixed = {
        key for row in table(ROOT / "docs" / "design.md", "keys") if row[1].startswith("fixed") for key in keys(row)
    }
    trainer = {f"trainer.{name}" for name in FIXED_TRAINER_KEYS}
    callbacks = {f"callbacks.{name}" for name in FIXED_CALLBACKS}
    assert fixed == {"model.*", "data.*", "seed", "data.root", *trainer, *callbacks}


def keys(row: list[str]) -> list[str]:
    return [key for cell in row for key in re.findall(r"`([\w.*]+)`", cell)]


def test_ladder_of_fids_is_the_stored_one() -> None:
    stored = json.loads((ROOT / "gan" / "scores" / "weights" / "ladder.json").read_text())
    rows = {row[0]: row[1:] for row in table(ROOT / "docs" / "gans.md", "real images that were")}
    assert rows.keys() == stored["MNIST"].keys()
    for name, cells in rows.items():
        of_both = [stored[data][name] for data in ("MNIST", "Fashion-MNIST")]
        assert cells == [text for fid in of_both for text in (f"{fid['fid']:.3g}", f"{fid['fid_relative']:.2g}")]


def test_help_names_every_group() -> None:
    text = subprocess.run(
        [sys.executable, ROOT / "run.py", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert all(f"{group}: " in text for group in ("model", "data", "trainer", "task", "experiment"))
    assert "python run.py" in text


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A copy of the project with the files that README and docs/extending.md print, and the paths of these."""
    project = copy_project(tmp_path_factory.mktemp("copy") / "project")
    written = [path for name in ADDED for path in add_printed_files(ROOT / name, project)]
    assert {path.stem for path in written} == {name for names in ADDED.values() for name in names}
    return project, [str(path.relative_to(project)) for path in written]


def call(project: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", *arguments]
    outcome = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_printed_files_pass_formatter_and_linter(extended: tuple[Path, list[str]]) -> None:
    project, written = extended
    sources = [path for path in written if path.endswith(".py")]
    call(project, "ruff", "format", "--check", *sources)
    call(project, "ruff", "check", *sources)


@pytest.mark.extended
def test_printed_files_pass_the_tests_of_every_net_and_data_set(extended: tuple[Path, list[str]]) -> None:
    project, written = extended
    sources = [path for path in written if path.endswith(".py")]
    names = " or ".join(name for names in ADDED.values() for name in names)
    tests = [f"tests/test_{name}.py" for name in ("structure", "models", "data_sets")]
    call(project, "pytest", "-p", "no:cacheprovider", *tests, *sources, "-k", f"{names} or architecture")


@pytest.mark.extended
def test_printed_metric_is_in_the_results(extended: tuple[Path, list[str]], tmp_path: Path) -> None:
    project, _ = extended
    call(
        project,
        "run",
        "model=lenet",
        *PLAIN,
        "callbacks=top_two",
        "trainer.max_epochs=1",
        f"hydra.run.dir={tmp_path}/run",
    )
    results = results_of(tmp_path / "run")
    assert 1 >= results["val/accuracy_top2"] > results["val/accuracy"]


@pytest.mark.slow
def test_printed_files_pass_the_type_checker(extended: tuple[Path, list[str]]) -> None:
    project, written = extended
    call(project, "mypy", *[path for path in written if path.endswith(".py")])
