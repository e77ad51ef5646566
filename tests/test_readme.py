"""README tells the truth: its commands compose, its targets exist, its example of a new architecture works."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, compose
from hydra.utils import instantiate

from classic_cnn.classifier import ImageClassifier

README = (ROOT / "README.md").read_text()


def commands() -> list[str]:
    """Every `python run.py` line of README's bash blocks, without its comment."""
    return re.findall(r"^(python run\.py[^#\n]*?) *(?:#.*)?$", "\n".join(blocks("bash")), re.MULTILINE)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_readme_has_commands() -> None:
    assert len(commands()) >= 10


@pytest.mark.parametrize("command", commands())
def test_command_composes(command: str) -> None:
    overrides = [word for word in shlex.split(command)[2:] if not word.startswith(("-", "hydra/"))]
    choices: list[list[str]] = [[]]
    for override in overrides:
        key, _, value = override.partition("=")
        options = value.split(",")
        if value == "glob(*)":
            options = [file.stem for file in (ROOT / "conf" / key).glob("*.yaml")]
        choices = [[*chosen, f"{key}={option}"] for chosen in choices for option in options]
    for chosen in choices:
        assert compose(*chosen).task._target_.startswith("tasks.")


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"`make (\w+)`|^    make (\w+)|\(or: make (\w+)\)", README, re.MULTILINE))
    targets = {name for match in named for name in match if name}
    assert targets >= {"run", "test"}
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_pictures_exist() -> None:
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", README)
    assert pictures
    assert all((ROOT / picture).is_file() for picture in pictures)


def test_example_of_a_new_architecture_is_a_classifier(tmp_path: Path) -> None:
    (source,), (config,) = blocks("python"), blocks("yaml")
    module = tmp_path / "perceptron_of_readme.py"
    module.write_text(source)
    target = re.search(r"_target_: classic_cnn\.perceptron\.(\w+)", config)
    assert target is not None
    sys.path.insert(0, str(tmp_path))
    try:
        cfg = compose("model=lenet", "~model.as_published", "~model.bitmap_output")  # the family's recipe is left
        cfg.model._target_ = f"{module.stem}.{target[1]}"
        net = instantiate(cfg.model)
    finally:
        sys.path.remove(str(tmp_path))
    assert isinstance(net, ImageClassifier)
    assert net(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_help_names_every_group() -> None:
    text = subprocess.run(
        [sys.executable, ROOT / "run.py", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert all(f"{group}: " in text for group in ("model", "data", "trainer", "task", "experiment"))
    assert "python run.py" in text
