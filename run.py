"""Classic nets: one command composes model x data x trainer x task into a run.

python run.py model=lenet data=mnist trainer.max_epochs=10
python run.py -m model=lenet,alexnet seed=0,1,2              # a sweep: a folder a job, one table at the end
python run.py task=test ckpt_path=outputs/.../best.ckpt      # no model= or data=: the checkpoint knows them
"""

import difflib
import os
import re
import shutil
import sys
import traceback
from pathlib import Path
from typing import Any

os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # beside other jobs, threads that spin while they wait cost up to 6 times
SHOW_TRACEBACK = os.environ.get("HYDRA_FULL_ERROR") == "1"
os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its errors over to main() instead of printing them

import hydra  # noqa: E402
from hydra.core.hydra_config import HydraConfig  # noqa: E402
from hydra.errors import HydraException  # noqa: E402
from hydra.types import RunMode  # noqa: E402
from hydra.utils import get_method  # noqa: E402
from omegaconf import DictConfig, OmegaConf  # noqa: E402
from omegaconf.errors import OmegaConfBaseException  # noqa: E402

CONF = Path(__file__).with_name("conf")
NOT_FOR_PEOPLE = ("defaults", "choices", "expect", "hydra")
WHOLE_NUMBERS = ("seed", "trainer.max_epochs", "trainer.max_steps", "trainer.log_every_n_steps", "data.batch_size")
NUMBERS = ("model.optimizer.lr", "model.optimizer.momentum", "model.optimizer.weight_decay", "model.label_smoothing")


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def job(cfg: DictConfig) -> Any:
    """One run: a task over the composed config. In a sweep a failing job is reported and the others go on."""
    try:
        check(cfg)
        return get_method(cfg.task._target_)(cfg)
    except Exception as error:
        status = report(error)
        if HydraConfig.get().mode != RunMode.MULTIRUN:
            remove_if_unused(Path(HydraConfig.get().runtime.output_dir))
            raise SystemExit(status) from error  # past Hydra's own way of printing errors
        get_method("tasks.results.record_early_failure")(cfg, error)
        return float("nan")


def remove_if_unused(folder: Path) -> None:
    """Takes away the folder of a run that did not come as far as writing anything."""
    if {path.name for path in folder.iterdir()} <= {".hydra"}:
        shutil.rmtree(folder)


def check(cfg: DictConfig) -> None:
    """Refuses what Hydra lets pass: keys that nothing reads and words where numbers belong."""
    known = [*OmegaConf.load(CONF / "config.yaml"), "model", "trainer", "data", "task"]
    for key in cfg:
        if str(key) not in known:
            raise ValueError(f"{key!s} is not a key of the config{suggestion(str(key), known)}")
    for key in WHOLE_NUMBERS:
        value = OmegaConf.select(cfg, key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise ValueError(f"{key}={value}: a whole number is needed")
    for key in NUMBERS:
        value = OmegaConf.select(cfg, key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"{key}={value}: a number is needed")
    if not isinstance(cfg.compile, bool):
        raise ValueError(f"compile={cfg.compile}: true or false is needed")


def report(error: Exception) -> int:
    """Says in one line what was wrong (status 2), with a traceback where it is no user's mistake (status 1)."""
    mistake = isinstance(error, HydraException | OmegaConfBaseException | ValueError | OSError)
    mistake = mistake or type(error).__name__ == "MisconfigurationException"  # Lightning's, not imported for a name
    if SHOW_TRACEBACK or not mistake:
        traceback.print_exception(error)
        return 1
    print(f"Error: {one_line(error)}", file=sys.stderr)
    return 2


def one_line(error: BaseException) -> str:
    """The message of an error, and of its cause where that says more, without Hydra's layout."""
    causes = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    text = str(error).strip()
    if "No supported gpu backend found" in text:
        return "no GPU was found on this machine: use trainer.accelerator=cpu, or auto to take what is there"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    if resolved := re.search(r"raised while resolving interpolation: (.*)", text):
        return re.sub(r"^\[Errno \d+\] (.*): '(.*)'$", r"\2: \1", resolved[1])  # an OSError of a resolver
    if text.startswith(("Error in call to target", "Error instantiating")):
        part, reason = text.rsplit("full_key: ", 1)[-1], " ".join(str(causes[-1]).split())
        return f"{part}: {reason}" if "full_key: " in text and not reason.startswith(f"{part}.") else reason
    if missing := re.search(r"Could not find '(\w+)/(.*)'", text):
        options = re.findall(r"^\t(\S+)$", text, re.MULTILINE)
        return f"{missing[1]}={missing[2]} is unknown: choose one of {', '.join(options)}"
    if unknown := re.search(r"Could not override '([^']*)'", text):
        inner = re.search(r"full_key: (\S+)", str(causes[-1]))  # of a value that is itself a dictionary
        name = inner[1] if inner else unknown[1]
        chosen = dict(re.findall(r"^(\S+)=\$\{(\S+)\}$", "\n".join(sys.argv), re.MULTILINE))
        if within := next((key for key in chosen if name.startswith(f"{key}.")), None):
            return f"{name}: {within} is {chosen[within]} here: write {chosen[within]}{name.removeprefix(within)}=..."
        group, _, key = name.partition(".")
        others = sorted(file.stem for file in CONF.glob(f"{group}/*.yaml") if key in OmegaConf.load(file))
        if group == "callbacks":
            group, others = "model", models_with_callback(key.split(".")[0])
        if others:
            added = any(argument.startswith("ckpt_path=") for argument in sys.argv)
            hint = f": a checkpoint brings its model, write +{name}..." if added else ""
            return f"{name} is a key of {group}={', '.join(others)} alone{hint}"
        return f"{name} is not a key of the config{suggestion(name, config_keys())}"
    return " ".join(str(causes[-1] if isinstance(error, OmegaConfBaseException) else text).split())


def models_with_callback(name: str) -> list[str]:
    """The models whose family brings a callback of that name."""
    files = CONF.glob("model/family/*.yaml")
    families = [f"family/{file.stem}" for file in files if OmegaConf.select(OmegaConf.load(file), f"callbacks.{name}")]
    models = {file.stem: OmegaConf.select(OmegaConf.load(file), "defaults") for file in CONF.glob("model/*.yaml")}
    return sorted(model for model, defaults in models.items() if any(family in defaults for family in families))


def suggestion(name: str, known: list[str]) -> str:
    group, _, last = name.rpartition(".")
    own = [key for key in known if key.rpartition(".")[0] == group]  # preferred: modle is model, not data.modes
    by_last = {key.rpartition(".")[2]: key for key in [*known, *own]}
    names = [[key.rpartition(".")[2] for key in own], list(by_last)]
    close = [by_last[match] for those in names for match in difflib.get_close_matches(last, those, n=1)]
    options = ", ".join(key for key in known if "." not in key and key not in NOT_FOR_PEOPLE)
    otherwise = f": add it with +{name}=VALUE" if group else f": choose among {options}"
    return f": did you mean {close[0]}?" if close else otherwise


def config_keys() -> list[str]:
    """The groups and keys that the command line can change, as it writes them."""
    keys = [str(key) for key in OmegaConf.load(CONF / "config.yaml")] + ["model", "data", "trainer", "task"]
    for file in (file for file in CONF.glob("*/*.yaml") if file.parent.name != "experiment"):
        keys += [f"{file.parent.name}.{key!s}" for key in OmegaConf.load(file)]
    return [*keys, "model.optimizer", "model.optimizer.lr", "model.lr_scheduler", "model.label_smoothing"]


def main() -> None:
    """The command line: status 0 for success, 1 for a failure, 2 for a user's mistake, 130 or 143 when stopped."""
    sys.path.insert(0, str(Path(__file__).parent))  # `_target_: classic_cnn...`, from wherever run.py is called
    register_resolvers()
    try:
        job()
    except Exception as error:  # of Hydra's, before the run
        if "tasks.folders" in sys.modules:
            get_method("tasks.folders.remove_empty")()
        sys.exit(report(error))
    except KeyboardInterrupt:
        sys.exit(130)


def register_resolvers() -> None:
    """Makes the functions known that conf/config.yaml calls."""
    for name in ("run_folder", "sweep_folder", "job_folder"):
        OmegaConf.register_new_resolver(name, later(f"tasks.folders.{name}"), use_cache=True, replace=True)


def later(function: str) -> Any:
    """The function of that name, imported when it is called: a mistyped command answers at once."""
    return lambda *arguments: get_method(function)(*arguments)


if __name__ == "__main__":
    main()
