"""README.md and docs/*.md: their blocks of code, their commands, and a copy of the project to try them in."""

import itertools
import re
import shlex
import shutil
from pathlib import Path

from conftest import CONF, ROOT, compose
from omegaconf import DictConfig, OmegaConf

README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
NOT_COPIED = re.compile(r"__pycache__|.+\.egg-info|\.(?!ci|github).+")
NOT_COPIED_FROM_THE_TOP = {"build", "outputs", "data"}


def blocks(file: Path, language: str) -> list[str]:
    """The content of the fenced blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", file.read_text(), re.DOTALL)


def commands(file: Path) -> list[str]:
    """Every `python run.py ...` of fenced and indented blocks, without the comment."""
    return re.findall(r"^(?: {4})?(python run\.py[^#\n]*?) *(?:#.*)?$", file.read_text(), re.MULTILINE)


def inline_commands(file: Path) -> list[str]:
    """Every `python run.py ...`, and its arguments alone where they begin with a choice, of the text and the tables.

    Those with a placeholder and the choice of a model's nets, which the default model has not, are left out.
    """
    text = re.sub(r"^```.*?^```", "", file.read_text(), flags=re.MULTILINE | re.DOTALL)
    choice = r"(?:experiment|model|data|task|callbacks|data/augment|model/(?!network)\w+|trainer/logger)="
    found = re.findall(rf"`((?:python run\.py |-m |{choice})[^`\n]+)`", text)
    return [
        f"python run.py {words.removeprefix('python run.py ')}" for words in found if not re.search("NAME|KEY", words)
    ]


def table(file: Path, first_column: str) -> list[list[str]]:
    """The cells of a table's rows, found by the title of its first column."""
    text = re.search(rf"^\| {re.escape(first_column)} \|.*\n\|[-:|]+\|\n((?:\|.*\n)+)", file.read_text(), re.MULTILINE)
    assert text is not None
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text[1].splitlines()]


def composed(command: str) -> list[DictConfig]:
    """The configs that a command runs; several for a sweep. The checkpoints that it names need not exist."""
    words = [word for word in shlex.split(command) if "=" in word or word.startswith("~")]
    words = [word for word in words if not word.startswith(("hydra/", "hydra.", "ckpt_path=", "init_from="))]
    if any(word.startswith("experiment=claim/") for word in words):
        words = claim_jobs(words)
    is_sweep = " -m " in command or "experiment=claim/" in command
    return [
        compose(*chosen) for chosen in itertools.product(*(options(word) if is_sweep else [word] for word in words))
    ]


def claim_jobs(words: list[str]) -> list[str]:
    """The overrides of a claim's command with the arms and seeds of its sweep, which the experiment brings.

    >>> claim_jobs(["experiment=claim/max_pool", "seed=3"])
    ['experiment=claim/max_pool', 'seed=3', 'task.arm=max,average']
    """
    [name] = (word.partition("=")[2] for word in words if word.startswith("experiment="))
    params = OmegaConf.load(CONF / "experiment" / f"{name}.yaml").hydra.sweeper.params
    given = {word.split("=")[0] for word in words}
    brought = {key.removeprefix("++"): value for key, value in params.items()}
    return [*words, *(f"{key}={value}" for key, value in brought.items() if key not in given)]


def options(override: str) -> list[str]:
    """The jobs of a sweep that an override stands for, with the first of several seeds.

    >>> options("data=mnist,ring"), options("seed=0,1")
    (['data=mnist', 'data=ring'], ['seed=0'])
    """
    key, _, value = override.partition("=")
    if value == "glob(*)":
        return [f"{key}={file.stem}" for file in (CONF / key).glob("*.yaml")]
    parts = [value] if value.startswith("[") else value.split(",")
    return [f"{key}={part}" for part in (parts[:1] if key == "seed" else parts)]


def copy_project(target: Path) -> Path:
    """The files of the project, without what tools and runs made, in an empty folder."""

    def left_out(folder: str, names: list[str]) -> set[str]:
        of_top = NOT_COPIED_FROM_THE_TOP if Path(folder) == ROOT else set()
        return {name for name in names if NOT_COPIED.fullmatch(name) or name in of_top}

    shutil.copytree(ROOT, target, ignore=left_out)
    return target


def add_printed_files(file: Path, project: Path) -> list[Path]:
    """Writes the blocks that begin with a comment of their path into a copy of the project."""
    written = []
    for block in [*blocks(file, "python"), *blocks(file, "yaml")]:
        if path := re.match(r"# ([\w/]+\.(?:py|yaml))\n", block):
            target = project / path[1]
            assert not target.exists()
            target.write_text(block[path.end() :])
            written.append(target)
    return written
