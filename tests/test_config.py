"""Every key of every config is checked: what is wrong with it is one line that names the key, never a traceback."""

import copy
import difflib
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import CONF, MODELS, compose
from omegaconf import OmegaConf

from datamodules.contract import DivergenceError
from tasks.config import PARTS, ConfigError, check_config, check_parts
from tasks.saved_config import plain_config
from tasks.untrusted import check_callbacks, check_untrusted

DATA = sorted(file.stem for file in (CONF / "data").glob("*.yaml"))
TASKS = sorted(file.stem for file in (CONF / "task").glob("*.yaml"))
PUBLISHED = sorted(file.stem for file in (CONF / "model/published").glob("*.yaml"))
CONFIGS = (
    *(f"model={name}" for name in MODELS),
    *(f"model=published/{name}" for name in PUBLISHED),
    *(f"data={name}" for name in DATA),
    *(f"task={name}" for name in TASKS if name != "claim"),
    "experiment=claim/relu task.arm=lenet_relu",
)
FREE = ("choices", "overrides", "expect")  # filled in, or free by their nature
WRONG_TYPES: tuple[Any, ...] = ("wide", True, 1.5, [], {"a": 1})


def leaves(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of all values that are no mappings; those of a list's items too."""
    if isinstance(node, dict) and (node or not path):
        for key, value in node.items():
            yield from leaves(value, (*path, key))
    elif path:
        yield path


def changed(config: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    copied = copy.deepcopy(config)
    node = copied
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return copied


def outcome(config: dict[str, Any]) -> ConfigError | None:
    """The error of a config without interpolations, which is of one kind, or None."""
    try:
        check_parts(config, PARTS)
    except ConfigError as error:
        return error
    return None


done: set[tuple[str, str, str]] = set()  # configs share most of their keys, which are tried once


def untried(test: str, config: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """The places of a config that this test has not tried with the same value in another config."""
    for path in leaves(config):
        value: Any = config
        for key in path:
            value = value[key]
        trial = (test, ".".join(map(str, path)), repr(value))
        if path[0] not in FREE and "gan_settings" not in path and trial not in done:  # these small_data checks itself
            done.add(trial)
            yield path


@pytest.mark.parametrize("choice", CONFIGS)
def test_a_run_of_every_config_can_be_resumed(choice: str) -> None:
    """Nothing that a command of ours trains is refused when it comes back out of a checkpoint."""
    config = plain_config(compose(*choice.split()))
    check_untrusted({"config": config, "overrides": []})
    check_callbacks(config["callbacks"], {})


@pytest.mark.parametrize("choice", CONFIGS)
def test_every_key_is_checked_by_type_and_name(choice: str) -> None:
    config: dict[str, Any] = OmegaConf.to_container(compose(*choice.split()))  # type: ignore[assignment]
    assert check_config(OmegaConf.create(config)) == config
    for path in untried("type", config):
        dotted = ".".join(map(str, path))
        errors = [error for value in WRONG_TYPES if (error := outcome(changed(config, path, value)))]
        assert len(errors) >= 3, f"{dotted} is refused only {errors}"
        for error in errors:
            assert dotted.startswith(error.key) or error.key.startswith(dotted), (dotted, error)


@pytest.mark.parametrize("choice", CONFIGS)
def test_every_misspelled_key_is_refused_and_the_right_one_named(choice: str) -> None:
    config: dict[str, Any] = OmegaConf.to_container(compose(*choice.split()))  # type: ignore[assignment]
    for path in untried("name", config):
        if path[-1] in ("_target_", "_partial_") or "arms" in path or path[:2] == ("data", "augment"):
            continue
        name = str(path[-1])
        misspelled = f"{name}x" if len(name) < 4 else f"{name[:-2]}{name[-1]}{name[-2]}"
        if misspelled == name:
            misspelled = f"{name}x"
        error = outcome(changed(config, (*path[:-1], misspelled), 1))
        assert error is not None, f"{'.'.join(path[:-1])}.{misspelled} was accepted"
        assert error.key.endswith(misspelled)
        assert name in error.reason or difflib.SequenceMatcher(None, name, misspelled).ratio() < 0.6


@pytest.mark.parametrize("choice", CONFIGS)
def test_a_negative_number_is_refused_where_it_means_nothing(choice: str) -> None:
    config: dict[str, Any] = OmegaConf.to_container(compose(*choice.split()))  # type: ignore[assignment]
    for path in untried("negative", config):
        value: Any = config
        for key in path:
            value = value[key]
        if "augment" in path:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or "optimizer" in path:
            continue  # an optimizer's own class knows its ranges: test_errors
        if "lr_scheduler" in path or "discriminator_optimizer" in path:
            continue
        assert outcome(changed(config, path, -7)) is not None, f"{'.'.join(path)}=-7 was accepted"


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (("model.width=true",), "model.width"),
        (("model=vgg", "model.width=wide"), "model.width"),
        (("model=vgg", "model.width=true"), "model.width"),
        (("model.lr_scheduler.max_lr=high",), "model.lr_scheduler.max_lr"),
        (("model.optimizer.betas=[0.9]",), "model.optimizer.betas"),
        (("model.optimizer.momentun=0.8",), "model.optimizer.momentun"),
        (("callbacks.plots.mistaks=9",), "callbacks.plots.mistaks"),
        (("model.optimizer=sgd",), "model.optimizer"),
        (("model.channels_last=abc",), "model.channels_last"),
        (("trainer.gradient_clip_val=-1",), "trainer.gradient_clip_val"),
        (("callbacks.checkpoint.filename=../x",), "callbacks.checkpoint.filename"),
        (("callbacks.checkpoint.dirpath=/tmp",), "callbacks.checkpoint.dirpath"),
        (("trainer.default_root_dir=/tmp",), "trainer.default_root_dir"),
        (("task=demo", "task.port=true"), "task.port"),
        (("task=explain", "task.shade=half"), "task.shade"),
        (("seed=null",), "seed"),
        (("seed=-1",), "seed"),
        (("seeed=1",), "seeed"),
        (("modle.depth=3",), "modle"),
        (("model.depth=18",), "model.depth"),
        (("callbacks.evaluation.count=9",), "callbacks.evaluation"),
        (("compile=maybe",), "compile"),
        (("data.batch_size=many",), "data.batch_size"),
    ],
)
def test_mistake_names_its_key(overrides: tuple[str, ...], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(*overrides)
    assert caught.value.key == key


@pytest.mark.extended
def test_a_changed_optimizer_inherits_nothing_of_another() -> None:
    sgd = compose("model=lenet", "model/optimizer=sgd").model.optimizer
    for model in MODELS:
        if "optimizer" in compose(f"model={model}").model:
            assert compose(f"model={model}", "model/optimizer=sgd").model.optimizer == sgd


def test_divergence_is_a_status_of_its_own() -> None:
    assert DivergenceError("train/loss", 3).status == "diverged"
