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
    *("DeviceStatsMonitor", "StochasticWeightAveraging", "GradientAccumulationScheduler", "RichModelSummary"),
}
PATHS = {"default_root_dir", "plugins"}  # arguments of a Trainer that are never taken out of a checkpoint
MAX_DEPTH = 20  # levels of a config
MAX_VALUES = 100_000  # of a config; one that holds a list many times counts it as often
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
    config = checkpoint["config"]
    check_plain([config, checkpoint.get("overrides")])
    if not isinstance(config, dict) or not isinstance(checkpoint.get("overrides"), list):
        raise ValueError("its config is not that of a run")
    if not all(isinstance(config.get(part), dict) for part in ("model", "data")):
        raise ValueError("its config is not that of a run")
    if not all(isinstance(config.get(part, {}), dict) for part in ("trainer", "callbacks", "choices")):
        raise ValueError("its config is not that of a run")  # a published net has no trainer and no callbacks
    for name, choice in config.get("choices", {}).items():
        if choice is not None and not re.fullmatch(r"[\w-]+(/[\w-]+)?|\[[\w-]+(,[\w-]+)*\]", str(choice)):
            raise ValueError(f"its config calls the {name} {choice!r}, which is not a name")
    for part, kinds in (("model", LightningModule), ("data", LightningDataModule)):
        check_targets(config[part])
        if not issubclass(class_of(config[part].get("_target_")), kinds):
            raise ValueError(f"its config names no {part}")
    if "trainer" in config:
        check_trainer(config["trainer"])


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
            is_real = node.layout is torch.strided and node.device.type == "cpu" and not node.is_complex()
            if not is_real or node.nbytes > node.untyped_storage().nbytes():
                raise ValueError("it holds a tensor that is not made of as many real numbers as it claims")
        elif isinstance(node, dict):
            nodes += [*node, *node.values()]
        elif isinstance(node, list | tuple):
            nodes += node
    if not all(bool(value.isfinite().all()) for value in weights.values()):
        raise ValueError("its weights are not finite: its run diverged, use an earlier checkpoint")


def check_plain(value: Any) -> None:
    """Refuses what is not a number, string, list or dictionary, and strings that OmegaConf would interpret."""
    nodes, count = [(value, 0)], 0
    while nodes:
        value, depth = nodes.pop()
        count += 1
        if depth > MAX_DEPTH or count > MAX_VALUES:
            raise ValueError("its config is nested too deeply")
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
