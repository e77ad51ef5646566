"""A checkpoint of a stranger is data: what it may hold, checked on the very object that is used afterwards."""

import inspect
import pickletools
import pkgutil
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning import Callback, LightningDataModule, LightningModule
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from datamodules.contract import CheckedArguments
from tasks.config import HYDRA_KEYS

# Only these names are looked up when a checkpoint's config holds them, and only these kinds of classes are built.
TRUSTED_NAMES = re.compile(
    r"(classic_cnn|rnn|gan|datamodules|tasks\.claims)(\.\w+)+|"
    r"torch\.optim(\.lr_scheduler)?\.\w+|kornia\.augmentation\.\w+|"
    r"tasks\.(progress\.ProgressLine|gradient_norm\.GradientNorm|weight_ema\.WeightEMA)|"
    r"lightning\.Trainer|lightning\.pytorch\.callbacks\.\w+"
)
TRUSTED_TYPES = (LightningModule, LightningDataModule, CheckedArguments, nn.Module, Optimizer, LRScheduler)
TRUSTED_CALLBACKS = {
    *("ModelCheckpoint", "EarlyStopping", "LearningRateMonitor", "RichProgressBar", "TQDMProgressBar", "Timer"),
    *("DeviceStatsMonitor", "GradientAccumulationScheduler", "RichModelSummary"),
}
CHOICE = re.compile(r"[\w-]+(/[\w-]+)?|\[[\w-]+(,[\w-]+)*\]")  # of a group's option, or of several
PATHS = {"default_root_dir", "plugins"}  # arguments of a Trainer that are never taken out of a checkpoint
MAX_DEPTH = 20  # levels of a config
ARGUMENT_DEPTH = 4  # of what is an argument of a part or within one, below [config, overrides]: callbacks.NAME.ARGUMENT
MAX_VALUES = 100_000  # of a config; one that holds a list many times counts it as often
MAX_COUNT = 1 << 40  # of batches or epochs, from which seeds are computed
MAX_TEXT = 10_000  # characters of a value or key of a config, which may be part of a message
# Of weights and states; torch has more, smaller floats among them, that no net here can take.
TENSOR_TYPES = {
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
}
# What the pickle in a checkpoint may name: `bytearray` alone can ask for more memory than there is.
PICKLED = re.compile(
    r"torch\._utils _rebuild_(tensor_v2|parameter)|torch (\w+Storage|Size|device)|"
    r"collections (OrderedDict|Counter|defaultdict)"
)


def fault_of_file(path: str | Path) -> str | None:
    """What is wrong with a file that could take more memory than it has bytes, or that names what no checkpoint holds.

    Raises:
        Exception: of some kind, where it is not a zip file with pickles.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if archive.comment or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            return "its content is compressed"
        if sum(entry.file_size for entry in entries) > Path(path).stat().st_size:
            return "its parts overlap"
        for entry in entries:
            for opcode, name, _ in pickletools.genops(archive.read(entry)) if entry.filename.endswith(".pkl") else ():
                is_name = opcode.name in ("GLOBAL", "INST", "STACK_GLOBAL") or opcode.name.startswith("EXT")
                if is_name and not (opcode.name == "GLOBAL" and PICKLED.fullmatch(str(name))):
                    return f"it holds a {str(name or 'thing').replace(' ', '.')}, as no checkpoint of a run does"
    return None


def load_pickled(path: str) -> Any:
    """The content of a file that torch wrote.

    Raises:
        ValueError: it is none, or could take more memory than it has bytes.
    """
    try:
        problem = fault_of_file(path)
        checkpoint = None if problem else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of any kind: it may be any file
        raise ValueError("damaged, or not a checkpoint") from error
    if problem:
        raise ValueError(problem)
    return checkpoint


def check_untrusted(checkpoint: Mapping[str, Any]) -> None:
    """Refuses a checkpoint whose config is anything but plain data about trusted classes; its callbacks come later.

    Raises:
        ValueError: says what was found.
    """
    config, overrides = checkpoint["config"], checkpoint.get("overrides")
    check_plain([config, overrides])
    if not isinstance(config, dict) or type(config.get("seed")) is not int:
        raise ValueError("its config is not that of a run")
    if not isinstance(overrides, list) or not all(isinstance(text, str) for text in overrides):
        raise ValueError("its overrides are not those of a run")
    if not all(isinstance(config.get(part), dict) for part in ("model", "data", "choices")):
        raise ValueError("its config is not that of a run")
    if not all(isinstance(config.get(part, {}), dict) for part in ("trainer", "callbacks")):
        raise ValueError("its config is not that of a run")  # a published net has no trainer and no callbacks
    for name, choice in config["choices"].items():
        if choice is not None and not (isinstance(choice, str) and CHOICE.fullmatch(choice)):
            raise ValueError(f"its config calls the {name} {choice!r}, which is not a name")
    for part, kinds in (("model", LightningModule), ("data", LightningDataModule)):
        check_targets(config[part])
        if not issubclass(class_of(config[part].get("_target_")), kinds):
            raise ValueError(f"its config names no {part}")
    if "trainer" in config:
        check_trainer(config["trainer"])
    for part in ("loops", "training_set"):
        check_counts(part, checkpoint.get(part))
    callbacks = {f"callbacks.{name}": node for name, node in config.get("callbacks", {}).items()}
    for key, node in {**{part: config.get(part) for part in ("model", "data", "trainer")}, **callbacks}.items():
        if isinstance(node, dict) and node.get("_partial_", False) is not False:
            raise ValueError(f"its config's {key} has the key _partial_, which only an argument can have")


def check_counts(part: str, state: Any) -> None:
    """Refuses a part of a run's state that is a mapping, but not one of counts, with which a resumed run computes.

    >>> check_counts("loops", {"fit_loop": {"epoch_progress": {"current": {"ready": 2}}, "is_last_batch": True}})
    >>> check_counts("loops", {"fit_loop": {"epoch_progress": {"current": {"ready": "2"}}}})
    Traceback (most recent call last):
    ValueError: its loops hold a str, where a run has counts: use another of its checkpoints
    """
    nodes, count = [(state, 0)] if isinstance(state, dict) else [], 0  # without it, no run is resumed
    while nodes:
        node, depth = nodes.pop()
        count += 1
        if depth > MAX_DEPTH or count > MAX_VALUES:
            raise ValueError(f"its {part} are nested too deeply: use another of its checkpoints")
        if isinstance(node, dict):
            nodes += [(inner, depth + 1) for inner in node.values()]
        elif type(node) not in (bool, int) or not 0 <= node < MAX_COUNT:
            kind = type(node).__name__
            raise ValueError(f"its {part} hold a {kind}, where a run has counts: use another of its checkpoints")


def check_trainer(trainer: Mapping[str, Any]) -> None:
    """Refuses a trainer that is not Lightning's with plain arguments.

    Raises:
        ValueError: it is another one.
    """
    check_targets(trainer)
    parts = [value for value in trainer.values() if isinstance(value, dict)]
    if class_of(trainer.get("_target_")) is not lightning.Trainer or parts or PATHS & trainer.keys():
        raise ValueError("its config's trainer is not lightning.Trainer with plain arguments")


def check_callbacks(saved: Any, named: Any) -> None:
    """Refuses callbacks out of a checkpoint that are neither of a trusted class nor named by the command itself.

    Args:
        saved: by name, of the checkpoint's config.
        named: by name, of the config that the command composes without the checkpoint.

    Raises:
        ValueError: says which class is not followed, and what to type.

    >>> check_callbacks({"own": {"_target_": "my.Callback"}}, {"own": {"_target_": "my.Callback"}})
    >>> check_callbacks({"own": {"_target_": "my.Callback"}}, {})  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    ValueError: its config names my.Callback, which is not followed out of a checkpoint; if you trust it, ...
    """
    for name, callback in saved.items():
        own = named.get(name)
        target = own.get("_target_") if isinstance(own, Mapping) else None
        try:
            check_targets(callback, target)
        except ValueError as error:
            way = f"callbacks.{name}._target_=CLASS, or leave it out with callbacks.{name}=null"
            raise ValueError(f"{error}; if you trust it, add {way}") from error


def check_tensors(checkpoint: Mapping[str, Any]) -> None:
    """Refuses weights that are not finite tensors, and tensors that would take more memory than they have in the file.

    Raises:
        ValueError: says what was found.
    """
    weights = checkpoint["state_dict"]
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in weights.items()
    ):
        raise ValueError("its weights are not tensors")
    nodes: list[Any] = [checkpoint]
    seen = set()
    while nodes:
        node = nodes.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, torch.Tensor):
            if node.layout is not torch.strided or node.device.type != "cpu" or node.dtype not in TENSOR_TYPES:
                kind = f"{node.layout} {node.dtype} {node.device}".replace("torch.", "")
                raise ValueError(f"it holds a tensor of the kind {kind}, which no net here has: store float32")
            if node.nbytes > node.untyped_storage().nbytes():
                raise ValueError("it holds a tensor that is not made of as many numbers as it claims")
        elif isinstance(node, dict):
            nodes += [*node, *node.values()]
        elif isinstance(node, list | tuple):
            nodes += node
    if not all(bool(value.float().isfinite().all()) for value in weights.values()):
        raise ValueError("its weights are not finite: its run diverged, use an earlier checkpoint")


def check_plain(value: Any) -> None:
    """Refuses what is not a number, string, list or dictionary, and strings that OmegaConf would interpret.

    Keys are strings; in an argument they may be integers, such as the epochs of a GradientAccumulationScheduler, which
    a command can leave out.

    Raises:
        ValueError: says what was found.
    """
    nodes, count = [(value, 0)], 0
    while nodes:
        value, depth = nodes.pop()
        count += 1
        if depth > MAX_DEPTH or count > MAX_VALUES:
            raise ValueError("its config is nested too deeply")
        if isinstance(value, str) and len(value) > MAX_TEXT:
            raise ValueError(f"its config holds a text of {len(value):,} characters, at most {MAX_TEXT:,} are allowed")
        if type(value) is dict:
            kinds = (str, int) if depth >= ARGUMENT_DEPTH and "_target_" not in value else (str,)
            for key in value:
                if type(key) not in kinds:
                    raise ValueError(f"its config has a key of the type {type(key).__name__}: keys have to be text")
        if type(value) in (dict, list):
            nodes += [(inner, depth + 1) for inner in ([*value, *value.values()] if type(value) is dict else value)]
        elif type(value) not in (str, int, float, bool, type(None)):
            raise ValueError(f"its config holds a {type(value).__name__}, which is not a plain value")
        elif isinstance(value, str) and ("${" in value or value == "???"):
            raise ValueError(f"its config holds the interpolation {value!r}, which is not followed")


def check_targets(node: Any, named: str | None = None) -> None:
    """Refuses a `_target_` anywhere in a node that is not a class of the kinds that runs are made of, nor `named`.

    >>> check_targets({"optimizer": {"_target_": "torch.optim.Adam"}})
    >>> check_targets({"model": [{"_target_": "torch.load"}]})
    Traceback (most recent call last):
    ValueError: its config names torch.load, which is not followed out of a checkpoint
    """
    if isinstance(node, dict):
        if "_target_" in node and (named is None or node["_target_"] != named):
            class_of(node["_target_"])
        for key in node:
            if not isinstance(key, str) or (key.startswith("_") and key not in HYDRA_KEYS):
                raise ValueError(f"its config has the key {key!r}, which is not followed out of a checkpoint")
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        check_targets(inner)


def class_of(target: Any) -> type:
    """The class that a trusted `_target_` names, itself or by its `published` form.

    Raises:
        ValueError: it names anything else.
    """
    found = None
    if isinstance(target, str) and TRUSTED_NAMES.fullmatch(target):
        try:
            found = pkgutil.resolve_name(target)
        except Exception:
            found = None
    if inspect.ismethod(found) and found.__name__ == "published":
        found = found.__self__
    if inspect.isclass(found) and found.__module__.split(".")[0] == str(target).split(".")[0]:
        is_ours = found.__module__.split(".")[0] != "lightning"
        is_callback = issubclass(found, Callback) and (is_ours or found.__name__ in TRUSTED_CALLBACKS)
        if found is lightning.Trainer or is_callback or issubclass(found, TRUSTED_TYPES):
            return found
    raise ValueError(f"its config names {target}, which is not followed out of a checkpoint")
