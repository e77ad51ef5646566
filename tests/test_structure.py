"""The structure of the project: who imports whom, what is where, and that configs and classes match."""

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import CONF, MODELS, ROOT, compose, model_class
from hydra.utils import get_class, get_object
from lightning import LightningDataModule, LightningModule
from omegaconf import OmegaConf

from tasks.build import build_model, build_part, build_trainer

FAMILIES = ("classic_cnn", "rnn", "gan")
PACKAGES = (*FAMILIES, "datamodules", "tasks")
EXCEPTIONS = {("rnn", "classic_cnn"), ("gan", "classic_cnn")}  # the classifiers' loop, the scoring net: a file each
CONTRACT = {"datamodules.contract", "datamodules.in_memory", "datamodules.images"}  # which every family may import
TOP_LEVEL = {
    *("pyproject.toml", "constraints.txt", "README.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "run.py"),
    *("CHANGELOG.md", "CITATION.cff", "conf", *PACKAGES, "tests", "benchmarks", "docs", "outputs", "data", "published"),
}
MADE_BY_TOOLS = re.compile(r"__pycache__|build|.+\.egg-info|\..+")
EXPERIMENTS = sorted(
    str(file.relative_to(CONF / "experiment").with_suffix(""))
    for file in (CONF / "experiment").rglob("*.yaml")
    if file.parent.name != "claim"  # see test_claims.py
)
# split, so that this file does not hold what it looks for
REGISTRIES = [
    ".".join(name)
    for name in (
        *(("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("npmjs", "com"), ("download.pytorch", "org")),
        *(("anaconda", "org"), ("deb.debian", "org"), ("archive.ubuntu", "com"), ("crates", "io"), ("ghcr", "io")),
    )
]


def source_files(*folders: str) -> list[Path]:
    return sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))


def imported_modules(file: Path) -> set[str]:
    """The modules that a file imports, at its head or inside a function."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: imports are absolute"
            names.add(node.module or "")
    return names


def imported_packages(file: Path) -> set[str]:
    """The top-level packages of those modules."""
    return {name.split(".")[0] for name in imported_modules(file)}


@pytest.mark.parametrize("file", source_files(*PACKAGES), ids=lambda file: str(file.relative_to(ROOT)))
def test_dependencies_run_downwards(file: Path) -> None:
    home = file.relative_to(ROOT).parts[0]
    others = imported_packages(file) & {*PACKAGES, "run", "tests", "benchmarks"} - {home}
    if home == "tasks":
        assert others <= {*FAMILIES, "datamodules"}
    else:
        assert others - {"datamodules"} <= {there for here, there in EXCEPTIONS if here == home}
    if home in FAMILIES:
        assert {name for name in imported_modules(file) if name.startswith("datamodules")} <= CONTRACT


@pytest.mark.parametrize(("home", "other"), sorted(EXCEPTIONS))
def test_an_exception_to_that_is_one_file(home: str, other: str) -> None:
    assert len([file for file in source_files(home) if other in imported_packages(file)]) == 1


def test_run_py_imports_none_of_our_packages_and_no_framework() -> None:
    assert not imported_packages(ROOT / "run.py") & {*PACKAGES, "torch", "lightning", "torchvision", "numpy"}


def test_top_level_holds_what_the_design_names_and_nothing_else() -> None:
    """A person's own files beside them, a picture to predict say, do not count where git tells which they are."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    names = {name.split("/")[0] for name in tracked} or {path.name for path in ROOT.iterdir()}
    assert {name for name in names if not MADE_BY_TOOLS.fullmatch(name)} <= TOP_LEVEL


def test_no_folder_or_file_is_a_drawer_for_everything() -> None:
    for package in ("conf", *PACKAGES, "tests", "benchmarks"):
        for path in (ROOT / package).rglob("*"):
            assert path.stem not in {"utils", "util", "common", "helpers", "helper", "core", "components", "misc"}


def test_config_groups_are_those_of_the_design() -> None:
    assert {path.name for path in CONF.iterdir() if path.is_dir()} <= {
        "model",
        "data",
        "trainer",
        "callbacks",
        "task",
        "experiment",
    }


def targets(node: Any) -> list[str]:
    """Every `_target_` in a config."""
    found = [str(node["_target_"])] if isinstance(node, dict) and "_target_" in node else []
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        found += targets(child)
    return found


@pytest.mark.parametrize("file", sorted(CONF.rglob("*.yaml")), ids=lambda file: str(file.relative_to(CONF)))
def test_every_target_of_a_config_exists(file: Path) -> None:
    for target in targets(OmegaConf.to_container(OmegaConf.load(file))):
        assert callable(get_object(target)), target


def project_classes(base: type) -> set[type]:
    """All classes of our packages that derive from `base`."""
    for package in PACKAGES:
        if (ROOT / package).is_dir():
            for module in pkgutil.walk_packages([str(ROOT / package)], f"{package}."):
                importlib.import_module(module.name)
    return {cls for cls in subclasses(base) if cls.__module__.split(".")[0] in PACKAGES}


def subclasses(base: type) -> set[type]:
    children: list[type] = base.__subclasses__()
    return {base}.union(*(subclasses(child) for child in children))


@pytest.mark.parametrize(("group", "base"), [("model", LightningModule), ("data", LightningDataModule)])
def test_every_architecture_and_data_set_has_a_config(group: str, base: type) -> None:
    classes = {cls for cls in project_classes(base) if not cls.__module__.startswith("tasks.claims.")}  # of one claim
    named = {get_class(OmegaConf.load(file)._target_) for file in (CONF / group).glob("*.yaml")}
    assert named <= classes
    without = {cls.__name__ for cls in classes - named if not subclasses(cls) & classes - {cls}}
    assert not without  # but for the shared loops, from which others derive


@pytest.mark.parametrize("name", MODELS)
def test_every_architecture_is_a_file_of_a_family_and_names_its_paper(name: str) -> None:
    cls = model_class(name)
    assert cls.__module__.split(".")[0] in FAMILIES
    paper = sys.modules[cls.__module__].__doc__ or ""
    assert re.search(r"(19|20)\d\d", paper), f"{cls.__module__}'s docstring names the paper and its year"
    assert "->" in (cls.__doc__ or ""), f"{name}'s docstring says input -> output"
    assert ">>>" in (cls.__doc__ or ""), f"{name}'s docstring has an example"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_composes_and_opens_with_its_command(name: str) -> None:
    if "hydra/sweeper: optuna" in (CONF / "experiment" / f"{name}.yaml").read_text():
        pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="pip install hydra-optuna-sweeper")
    cfg = compose(f"experiment={name}", "trainer.accelerator=cpu")
    assert cfg.choices.experiment == name
    with torch.device("meta"):
        model = build_model(cfg.model, build_part("data", cfg.data))
    build_trainer(cfg, Path.cwd(), model)
    text = (CONF / "experiment" / f"{name}.yaml").read_text()
    comments = [line for line in text.splitlines() if line.startswith("#") and "@package" not in line]
    assert re.match(rf"# python run\.py .*\bexperiment={name}\b", comments[0])


def test_no_file_names_the_host_of_a_package_registry() -> None:
    folders = [ROOT / name for name in ("conf", *PACKAGES, "tests", "benchmarks", "docs", ".ci", ".github")]
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    files += [file for file in ROOT.iterdir() if file.is_file()]
    assert ROOT / "constraints.txt" in files
    for file in files:
        if file.suffix != ".pyc":
            text = file.read_text(errors="ignore")
            assert not [host for host in REGISTRIES if host in text], file
