"""What a run was computed with: processor, threads, versions and commit, recorded in each results.json."""

import platform
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, with_config
from typing_extensions import TypedDict

from datamodules.contract import STRICT, Count
from tasks.overrides import CONF

CODE = ("run.py", "conf", "classic_cnn", "rnn", "gan", "datamodules", "tasks")
MOST_NAMED = 4  # commits in a text for people
Line = Annotated[str, Field(max_length=1000, pattern=r"^[^\n\r`]*$")]


@with_config(STRICT)
class Machine(TypedDict):
    """What a run was computed with."""

    processor: Line
    capability: Line
    gpu: Line | None
    threads: Count
    torch: Line
    commit: Line | None


def machine(accelerator: str = "auto") -> Machine:
    """What this process computes with, a GPU if the trainer's accelerator is one, and the commit of the project."""
    import torch

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    return {
        "processor": names[0] if names else platform.processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if on_gpu else None,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__.partition("+")[0],
        "commit": commit_of_a_job() or None,
    }


@cache
def commit() -> str:
    """The commit of the project that this process has imported, "" where that is no checkout.

    It has "-dirty" behind it, as `git describe` writes it, where a file of it has been changed since, or where there is
    code or a config that no commit has. What is committed while a sweep runs is not what its later jobs run.
    """
    if not (CONF.parent / ".git").exists() or not shutil.which("git"):
        return ""
    name = git("describe", "--always", "--dirty", "--exclude=*")
    if not name.endswith("-dirty") and in_no_commit(*CODE):
        name += "-dirty"
    return name


def commit_of_a_job() -> str:
    """The commit, with "-dirty" where conf/, which each job of a sweep reads anew, is no longer that commit's."""
    name = commit()
    if not name or name.endswith("-dirty"):
        return name
    return f"{name}-dirty" if git("diff", "--name-only", name, "--", "conf") or in_no_commit("conf") else name


def in_no_commit(*paths: str) -> str:
    """The files of these that git does not know, and is not told to ignore."""
    return git("ls-files", "--others", "--exclude-standard", "--", *paths)


def git(*arguments: str) -> str:
    """What git prints about the checkout of the project."""
    command = ["git", "-C", str(CONF.parent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def fault_of_commit(machine: Machine) -> str | None:
    """Why nobody else could repeat what a run computed there: its files are in no commit."""
    commit = machine["commit"]
    if commit is None or commit.endswith("-dirty"):
        return f"ran with files that are in no commit ({commit}): commit them and run it again"
    return None


def machines(runs: Iterable[Mapping[str, Any]]) -> list[str]:
    """A text for each machine and version that runs were computed with, and the commits that they were of, if few."""
    commits: dict[str, list[str]] = {}
    for run in runs:
        machine = run["machine"]
        threads = f"{machine['threads']} thread{'s' if machine['threads'] > 1 else ''} per run"
        on = machine["gpu"] or f"{machine['processor']} ({machine['capability']}), {threads}"
        commits.setdefault(f"{on}, torch {machine['torch']}", []).append(machine["commit"] or "unknown")
    names = {on: list(dict.fromkeys(found)) for on, found in commits.items()}
    return [f"{on}, {few_commits(found)}" for on, found in names.items()]


def few_commits(names: Sequence[str]) -> str:
    """
    >>> few_commits(["1a2b3c4", "5d6e7f8"]), few_commits(["a", "b", "c", "d", "e"])
    ('commits 1a2b3c4, 5d6e7f8', '5 commits, each named in its records')
    """
    if len(names) > MOST_NAMED:
        return f"{len(names)} commits, each named in its records"
    return f"commit{'s' * (len(names) > 1)} {', '.join(names)}"
