"""The config of a run, checked before anything is done: every key, by the annotations of what it builds."""

import difflib
import importlib
import inspect
import pkgutil
import re
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError
from pydantic import Field
from typing_extensions import TypedDict

from datamodules.contract import Count, Index, LocalPath, NonNegative, Share
from tasks.annotations import Parameters, fault_of, is_local_path, members, parameters_of, suggestion
from tasks.overrides import CONF

HYDRA_KEYS = {"_target_": str, "_partial_": bool, "_convert_": typing.Literal["none", "partial", "object", "all"]}
PARTS = ("model", "data", "trainer", "task")
# Arguments that the run gives itself, so that all it writes lies in its own folder.
GIVEN = {
    "task": ("cfg", "folder"),
    "trainer": ("callbacks", "default_root_dir", "plugins"),
    "trainer.logger": ("save_dir", "sub_dir", "name", "version"),
    "callbacks": ("dirpath",),
}


# Of a run or a tag; a part of folders' names.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$", max_length=50)]


class TopLevel(TypedDict):
    """The keys of a config that no class takes."""

    name: Name | None
    tags: list[Name]
    description: Annotated[str, Field(max_length=1000)] | None
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    ckpt_path: LocalPath | None
    init_from: LocalPath | None
    input: LocalPath | list[LocalPath] | None
    compile: bool
    model: dict[str, Any]
    data: dict[str, Any]
    trainer: dict[str, Any]
    task: dict[str, Any]
    callbacks: dict[str, dict[str, Any] | None]
    expect: dict[str, Any] | None
    choices: dict[str, str | None]
    overrides: list[str]


# Letters and values, {epoch:03d}: a width of many digits would ask for as much memory.
FILE_NAME = r"^([A-Za-z0-9_.\-]|\{[A-Za-z_]+(:[0-9]{0,2}(\.[0-9]{1,2})?[a-z]?)?\})+$"
Limit = Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, le=1)]  # batches, or the share of them
# Ranges that the annotations of others' classes leave open.
RANGES: dict[str, dict[str, Any]] = {
    "lightning.Trainer": {
        "max_epochs": Annotated[int, Field(ge=-1)] | None,
        "max_steps": Annotated[int, Field(ge=-1)],
        "limit_train_batches": Limit | None,
        "limit_val_batches": Limit | Annotated[int, Field(ge=0)] | Share | None,
        "limit_test_batches": Limit | Annotated[int, Field(ge=0)] | Share | None,
        "overfit_batches": Index | Share,
        "gradient_clip_val": NonNegative | None,
        "accumulate_grad_batches": Count,
        "val_check_interval": Limit | str | None,
        "check_val_every_n_epoch": Count | None,
        "log_every_n_steps": Index | None,
        "num_sanity_val_steps": Annotated[int, Field(ge=-1)] | None,
        "num_nodes": Count,
        "devices": Annotated[int, Field(ge=-1)] | str | list[Index],
    },
    "lightning.pytorch.callbacks.ModelCheckpoint": {
        "filename": Annotated[str, Field(pattern=FILE_NAME)],
        "save_top_k": Annotated[int, Field(ge=-1)],
        "every_n_epochs": Count | None,
    },
    "lightning.pytorch.callbacks.EarlyStopping": {
        "patience": Index,
        "min_delta": NonNegative,
        "mode": typing.Literal["min", "max"],
    },
    "lightning.pytorch.callbacks.RichProgressBar": {"refresh_rate": Index},
    "lightning.pytorch.callbacks.LearningRateMonitor": {
        "logging_interval": typing.Literal["step", "epoch"] | None,
    },
}

# The same for the optimizers of torch.optim, which refuse the others when they are built: a schedule may read the rate.
OPTIMIZER_RANGES: dict[str, Any] = {"lr": NonNegative}
# And for its schedules, whose annotations are types alone.
SCHEDULE_RANGES: dict[str, Any] = {
    **dict.fromkeys(("max_lr", "power", "div_factor", "final_div_factor"), Annotated[float, Field(gt=0)]),
    **dict.fromkeys(("gamma", "eta_min", "min_lr", "threshold"), NonNegative),
    **dict.fromkeys(("T_max", "total_iters", "step_size", "T_0"), Count),
    **dict.fromkeys(("patience", "cooldown"), Index),
    **{"milestones": list[Count], "factor": Share, "pct_start": Share},
}
OF_PACKAGES = {"torch.optim": OPTIMIZER_RANGES, "torch.optim.lr_scheduler": SCHEDULE_RANGES}


class ConfigError(ValueError):
    """A key of a config that is unknown or has a value that cannot be used.

    Attributes:
        key: as the command line writes it, `model.optimizer.lr`.
        value: that was given.
        reason: what is allowed.
    """

    def __init__(self, key: str, reason: str, value: Any = inspect.Parameter.empty) -> None:
        given = "" if value is inspect.Parameter.empty else f"={as_typed(value)}"
        super().__init__(f"{key}{given}: {reason}")
        self.key, self.value, self.reason = key, value, reason


def compose(overrides: list[str]) -> DictConfig:
    """The config of these overrides, in Hydra's grammar, with Hydra's own in it; from within a command or without."""
    if GlobalHydra.instance().is_initialized():
        return hydra.compose("config", overrides, return_hydra_config=True)
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("config", overrides, return_hydra_config=True)


def as_typed(value: Any) -> str:
    """A value as the command line writes it.

    >>> as_typed(True), as_typed(None), as_typed([0.5, 0.9])
    ('true', 'null', '[0.5,0.9]')
    """
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"[{','.join(map(as_typed, value))}]" if isinstance(value, list) else str(value)


def check_config(cfg: DictConfig, parts: tuple[str, ...] = PARTS) -> DictConfig:
    """The same config with all interpolations resolved, every key of which has been checked.

    Args:
        cfg: composed by Hydra.
        parts: those that are used; the others are not looked at, nor what they would import.

    Raises:
        ConfigError: a key is unknown, or its value is of a wrong type or range.
    """
    try:
        plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except InterpolationResolutionError:
        check_parts(OmegaConf.to_container(cfg), parts)  # the fault may be one of the values that others refer to
        raise
    check_parts(plain, parts)
    return OmegaConf.create(plain)  # type: ignore[return-value]


def check_parts(plain: Any, parts: tuple[str, ...]) -> None:
    """Checks a whole config, top level first; interpolations that are not resolved are left unchecked."""
    hints = typing.get_type_hints(TopLevel, include_extras=True)
    for key, value in plain.items():
        if key not in hints:
            raise ConfigError(
                key, f"is not a key of the config{elsewhere(key, value, plain) or suggestion(key, hints)}"
            )
        if (reason := fault_of(value, hints[key], may_refer=True)) is not None:
            raise ConfigError(key, reason, value)
    for key in hints.keys() - plain.keys():
        raise ConfigError(key, "cannot be left out")
    callbacks = {f"callbacks.{name}": node for name, node in plain["callbacks"].items()} if parts == PARTS else {}
    for key, node in {**{part: plain[part] for part in parts}, **callbacks}.items():
        if node is None:
            continue
        if node.get("_partial_"):
            reason = "is for an argument such as model.optimizer, not for a whole part"
            raise ConfigError(f"{key}._partial_", reason, True)
        check_node(key, node)


def elsewhere(key: object, value: Any, plain: Mapping[str, Any]) -> str:
    """Where the parts of a config have a key that was typed without its part: as it is, or as a word of a longer one.

    >>> plain = {"model": {"optimizer": {"lr": 0.1}}, "trainer": {"max_epochs": 1, "devices": 1}}
    >>> [elsewhere(key, 1, plain) for key in ("lr", "epochs", "device", "s")]
    [': did you mean model.optimizer.lr?', ': did you mean trainer.max_epochs?', ': did you mean trainer.devices?', '']
    >>> elsewhere("optimizer", "sgd", plain)  # an option of conf/model/optimizer
    ': did you mean model/optimizer=sgd?'
    """
    if value in ("cpu", "gpu"):
        return f": did you mean trainer.accelerator={value}?"
    given, word = str(key), str(key).removesuffix("s")
    names = {place: place.rpartition(".")[2] for part in PARTS for place in inner_keys(part, plain.get(part))}
    same = [place for place, name in names.items() if name == given]
    longer = [place for place, name in names.items() if word and word in re.split("s?(?:_|$)", name)]
    found = []
    for place in (same or longer)[:3]:
        group = place.replace(".", "/")
        found.append(f"{group}={value}" if isinstance(value, str) and (CONF / group).is_dir() else place)
    return f": did you mean {' or '.join(found)}?" if found else ""


def inner_keys(key: str, node: Any) -> Iterator[str]:
    """The dotted keys below a node, of whole nodes too."""
    for name, inner in node.items() if isinstance(node, Mapping) else ():
        yield f"{key}.{name}"
        yield from inner_keys(f"{key}.{name}", inner)


def check_node(key: str, node: Mapping[str, Any]) -> None:
    """Checks the arguments of a node that builds or calls its `_target_`."""
    group = next((group for group in ("callbacks", "trainer.logger") if key.startswith(f"{group}.")), key)
    given = GIVEN.get(group, ())
    if "_target_" not in node:
        group, _, option = key.replace(".", "/").rpartition("/")
        if (CONF / group / f"{option}.yaml").is_file():
            raise ConfigError(key, f"is not a part of this config: choose it with {group}={option}")
        raise ConfigError(key, "is not a part of this config, which this model or data set may not have")
    _, parameters = locate(key, node["_target_"])
    for name, value in node.items():
        if name in HYDRA_KEYS:
            if (reason := fault_of(value, HYDRA_KEYS[name], may_refer=True)) is not None:
                raise ConfigError(f"{key}.{name}", reason, value)
            continue
        known = [known for known in parameters.annotations if known not in given]
        misspelled = difflib.get_close_matches(str(name), parameters.annotations, n=1, cutoff=0.8)
        if name not in parameters.annotations and (misspelled or not parameters.takes_any):
            where = str(node["_target_"]).removesuffix(".published").rpartition(".")[2]
            raise ConfigError(f"{key}.{name}", f"{where} has no such key{suggestion(name, known)}")
        if name in given:
            raise ConfigError(f"{key}.{name}", "cannot be set: what a run writes lies in its own folder")
        package = str(node["_target_"]).rpartition(".")[0]
        ranges = OF_PACKAGES.get(package) or RANGES.get(node["_target_"], {})
        check_value(f"{key}.{name}", value, ranges.get(name) or parameters.annotations.get(name, Any))
    missing = [name for name in parameters.required if name not in node and name not in given]
    if missing and not node.get("_partial_", False):
        raise ConfigError(f"{key}.{missing[0]}", "has no value")


def check_value(key: str, value: Any, annotation: Any) -> None:
    """Checks a value that is plain, builds something by itself, or holds such values."""
    if isinstance(value, dict) and "_target_" in value:
        check_node(key, value)
        if not value.get("_partial_", False):
            check_built(key, value, annotation)
        elif fault_of(check_node, annotation) is not None:
            raise ConfigError(key, "takes no function")
        return
    for name, inner in parts_of(value):
        if isinstance(inner, dict) and "_target_" in inner:
            check_node(f"{key}.{name}", inner)
    if any("_target_" in inner for _, inner in parts_of(value) if isinstance(inner, dict)):
        return
    if (reason := fault_of(value, annotation, may_refer=True)) is not None:
        raise ConfigError(key, f"{reason}{options_for(key)}", value)


def options_for(key: str) -> str:
    """How a key gets its value from a group of options; empty where no group has any for it.

    >>> options_for("model.discriminator_optimizer").partition(": ")[0]
    ', choose an option with +model/optimizer@model.discriminator_optimizer=NAME'
    """
    path, _, name = key.replace(".", "/").rpartition("/")
    kind = name.rpartition("_")[2]  # discriminator_optimizer takes an optimizer
    for group, choice in ((name, key.replace(".", "/")), (kind, f"+{path}/{kind}@{key}")):
        options = sorted(file.stem for file in Path(CONF, path, group).glob("*.yaml"))
        if options:
            return f", choose an option with {choice}=NAME: {', '.join(options)}"
    return ""


def check_built(key: str, node: Mapping[str, Any], annotation: Any) -> None:
    """Refuses a node whose class is none that the annotation names, where it names classes."""
    target, _ = locate(key, node["_target_"])
    cls = target.__self__ if inspect.ismethod(target) else target
    classes = [part for part in members(annotation) if inspect.isclass(part) and part is not type(None)]
    if inspect.isclass(cls) and classes and annotation is not Any and not issubclass(cls, (*classes,)):
        names = " or ".join(part.__name__ for part in classes)
        raise ConfigError(key, f"{cls.__name__} is not a kind of {names}")


def parts_of(value: Any) -> Iterator[tuple[str, Any]]:
    """The items of a list or mapping with their names."""
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        yield from ((str(index), inner) for index, inner in enumerate(value))


def locate(key: str, name: Any) -> tuple[Any, Parameters]:
    """The class or function of that name, and what it can be given.

    Raises:
        ConfigError: there is none.
    """
    try:
        target = pkgutil.resolve_name(name)
        return target, parameters_of(target)
    except (AttributeError, ModuleNotFoundError, TypeError, ValueError) as error:
        if isinstance(error, AttributeError | ModuleNotFoundError):
            check_import(name)
        raise ConfigError(f"{key}._target_", "names no class or function", name) from error


def local_paths(part: str, node: Mapping[str, Any]) -> Iterator[str]:
    """The arguments of a model or data set that are paths on this machine."""
    _, parameters = locate(part, node["_target_"])
    return (name for name, annotation in parameters.annotations.items() if is_local_path(annotation))


def check_import(name: str) -> None:
    """Raises what kept the module of that class or function from being imported, unless it is that there is none."""
    try:
        importlib.import_module(name.rpartition(".")[0] or name)
    except ModuleNotFoundError as error:
        if not f"{name}.".startswith(f"{error.name}."):
            raise
