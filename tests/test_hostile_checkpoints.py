"""A stranger's checkpoint is data: whatever it holds, nothing runs, nothing is written outside, one line says why."""

import contextlib
import copy
import functools
import io
import math
import resource
import shutil
import zipfile
from collections.abc import Callable, Iterator
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import only_run, results_of, run, run_well
from conftest import compose, compose_once
from omegaconf import DictConfig
from PIL import Image

from tasks.build import build
from tasks.checkpoint import load, load_weights, read_checkpoint
from tasks.checkpoint_io import ResumedCheckpoint
from tasks.messages import report
from tasks.prepare import prepare
from tasks.resume import check_resume
from tasks.untrusted import check_tensors, check_untrusted

Content = dict[str, Any]
CANARY = "ran"  # the file that a successful attack leaves


def command(target: str, **arguments: Any) -> Content:
    return {"_target_": target, **arguments}


SHELL = command("torch.utils.collect_env.run", command=f"touch {CANARY}")
SYSTEM = command("os.system", command=f"touch {CANARY}")
TARGETS = (
    *("os.system", "subprocess.Popen", "builtins.eval", "builtins.exec", "torch.load", "torch.hub.load"),
    *("torch.utils.collect_env.run", "lightning.pytorch.trainer.trainer.os.system", "tasks.train.train"),
    *("tasks.results.os.kill", "datamodules.mnist.Path", "classic_cnn.lenet.torch.load", "run.main", "torch.nope"),
    *("hydra.utils.instantiate", "pathlib.Path.unlink", "shutil.rmtree", "kornia.augmentation.container.torch.load"),
    "torch.distributed.elastic.multiprocessing.subprocess_handler.SubprocessHandler",
    "lightning.pytorch.callbacks.OnExceptionCheckpoint",
    "lightning.pytorch.callbacks.LambdaCallback",
    "lightning.pytorch.loggers.CSVLogger",
)
PLACES: dict[str, Callable[[Content, Any], None]] = {
    "model": lambda config, value: config["model"].update(label_smoothing=value),
    "model's optimizer": lambda config, value: config["model"].update(optimizer=value),
    "data": lambda config, value: config["data"].update(batch_size=value),
    "augmentation": lambda config, value: config["data"].update(augment={"x": value}),
    "list": lambda config, value: config["data"].update(augment=[[value]]),
    "trainer": lambda config, value: config["trainer"].update(profiler=value),
    "callback": lambda config, value: config["callbacks"].update(x=value),
    "callback's argument": lambda config, value: config["callbacks"]["checkpoint"].update(monitor=value),
}
WHOLE_PARTS = ("model", "data", "trainer", "callbacks.checkpoint")
NO_NAMES: tuple[Any, ...] = (5, 2.5, True, [], {})
INTERPOLATIONS = (
    f"${{oc.create:[{{_target_:torch.utils.collect_env.run,command:'touch {CANARY}'}}]}}",
    "${oc.env:HOME}",
    "${sweep_folder:}",
    "${model._target_}",
    "???",
)


def putting(place: str, value: Any) -> Callable[[Content], Any]:
    """An attack that puts a value into a place of the config of a checkpoint."""

    def attack(content: Content) -> Any:
        PLACES[place](content["config"], value)
        return content

    return attack


def setting(*path: Any, to: Any) -> Callable[[Content], Any]:
    """An attack that sets a value somewhere in the checkpoint."""

    def attack(content: Content) -> Any:
        node = content
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = to
        return content

    return attack


def lacking(*path: str) -> Callable[[Content], Any]:
    """A checkpoint that lacks a key somewhere."""

    def attack(content: Content) -> Any:
        node = content
        for key in path[:-1]:
            node = node[key]
        del node[path[-1]]
        return content

    return attack


def recursive(content: Content) -> Any:
    content["config"]["model"]["self"] = content["config"]
    return content


def many_times(content: Content) -> Any:
    """A list of ten lists of ten lists ... of which the file holds one each."""
    laughs: list[Any] = ["x"]
    for _ in range(15):
        laughs = [laughs] * 10
    content["config"]["model"]["self"] = laughs
    return content


def many_loops(content: Content) -> Any:
    """The same for the state of the trainer's loops."""
    laughs: dict[str, Any] = {"x": 1}
    for _ in range(15):
        laughs = dict.fromkeys("abcdefghij", laughs)
    content["loops"]["fit_loop"]["state_dict"] = laughs
    return content


def endless_loops(content: Content) -> Any:
    content["loops"]["fit_loop"]["self"] = content["loops"]
    return content


def with_weights(change: Callable[[torch.Tensor], Any]) -> Callable[[Content], Any]:
    """An attack that changes all weights."""

    def attack(content: Content) -> Any:
        content["state_dict"] = {name: change(value) for name, value in content["state_dict"].items()}
        return content

    return attack


ATTACKS: dict[str, Callable[[Content], Any]] = {
    **{f"{place}: {target}": putting(place, command(target, command="x")) for place in PLACES for target in TARGETS},
    **{f"{place}: {text}": putting(place, text) for place in PLACES for text in INTERPOLATIONS},
    "model is a command": setting("config", "model", to=SHELL),
    "data is a command": setting("config", "data", to=SYSTEM),
    "trainer is a command": setting("config", "trainer", to=SHELL),
    "positional arguments": setting("config", "model", "_args_", to=[1]),
    "a class of another part": setting("config", "data", "_target_", to="classic_cnn.lenet.LeNet5"),
    "choices are a path": setting("config", "choices", "model", to="/tmp/elsewhere"),
    "choices are a list": setting("config", "choices", to=[1]),
    "choices are a number": setting("config", "choices", to=5),
    **{f"a choice is {value!r}": setting("config", "choices", "model", to=value) for value in NO_NAMES},
    **{f"no {key} in the config": lacking("config", key) for key in ("model", "data", "seed", "choices")},
    **{f"{key} is a function": setting("config", *key.split("."), "_partial_", to=True) for key in WHOLE_PARTS},
    "choices go up": setting("config", "choices", "data", to="../../elsewhere"),
    "choices are an interpolation": setting("config", "choices", "experiment", to="${oc.env:HOME}"),
    "trainer writes elsewhere": setting("config", "trainer", "default_root_dir", to="elsewhere"),
    "trainer has plugins": setting("config", "trainer", "plugins", to=["async"]),
    "null model": setting("config", "model", to=None),
    "no callbacks": setting("config", "callbacks", to=None),
    "config is a list": setting("config", to=[1, 2]),
    "config is null": setting("config", to=None),
    "overrides are a number": setting("overrides", to=5),
    "overrides are null": setting("overrides", to=None),
    "weights are a list": setting("state_dict", to=[1]),
    "weights are words": setting("state_dict", to={"features.0.weight": "x"}),
    "a weight has a number for a name": setting("state_dict", 5, to=torch.zeros(1)),
    "weights are sparse": with_weights(lambda value: value.to_sparse()),
    "weights have no content": with_weights(lambda value: value.to("meta")),
    "weights are complex": with_weights(lambda value: value.to(torch.complex64)),
    "weights are not finite": with_weights(lambda value: value * torch.nan),
    "a weight is larger than the file": setting("state_dict", "x", to=torch.zeros(1).expand(10**12)),
    "a state is larger than the file": setting("optimizer_states", to=[torch.zeros(1).expand(10**12)]),
    "earlier format": setting("format", to=1),
    "no format": lambda content: {key: value for key, value in content.items() if key != "format"},
    "a tensor in the config": setting("config", "seed", to=torch.zeros(1)),
    "infinitely deep": recursive,
    "a list a million billion times": many_times,
    "loops that are a million billion": many_loops,
    "loops within themselves": endless_loops,
    "a list": lambda content: [content],
    "nothing": lambda content: {},
}


@pytest.fixture(scope="module")
def content(trained: Path) -> Content:
    return torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


LEFT_OUT = object()
STRANGE: dict[str, Any] = {
    **{"left out": LEFT_OUT, "null": None, "a number": 5, "a negative number": -1, "a huge number": 10**400},
    **{"NaN": math.nan, "true": True, "a text": "x", "a long text": "x" * 200_000, "an empty list": []},
    **{"a deep list": nested(100), "an empty mapping": {}, "a mapping": {"x": 5}, "a key that is no text": {5: "x"}},
    **{"a tensor": torch.ones(2), "a float8": torch.ones(()).to(torch.float8_e5m2)},
}
NO_TEXTS = (5, 2.5, True, None, (1,))  # which a pickle can have for a key


def paths(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value in a checkpoint; of a list, of the weights and of what an optimizer keeps to the first."""
    if path:
        yield path
    items = list(node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list | tuple) else ())
    is_many = isinstance(node, list | tuple) or path[-1:] in (("state_dict",), ("state",))
    for key, inner in items[:1] if is_many else items:
        yield from paths(inner, (*path, key))


def put(node: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value at the end of that way."""
    key, *rest = path
    inner = put(node[key], (*rest,), value) if rest else value
    if isinstance(node, list | tuple):
        return type(node)([*([] if inner is LEFT_OUT else [inner]), *node[1:]])
    return {name: old for name, old in node.items() if name != key} | ({} if inner is LEFT_OUT else {key: inner})


def assert_one_line(error: Exception) -> None:
    """That is what a user reads, and not the whole of what a file holds."""
    written = io.StringIO()
    with contextlib.redirect_stderr(written):
        status = report(error)
    assert (status, written.getvalue().count("\n")) == (2, 1), written.getvalue()
    assert len(written.getvalue()) < 25_000


def use(content: Content, composed: DictConfig | None) -> None:
    """All that task=test does before it reads images, or a message in one line."""
    torch.save(content, "strange.ckpt")
    command = ("task=test", "ckpt_path=strange.ckpt", "trainer.accelerator=cpu")
    try:
        cfg = compose(*command) if composed is None else prepare(composed)
        model, *_ = build(cfg, Path.cwd())
        load_weights(model, cfg)
    except Exception as error:
        assert_one_line(error)


QUICK = ("a tensor", "a key that is no text")
VALUES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.extended) for name in STRANGE]


@pytest.mark.parametrize("name", VALUES)
def test_checkpoint_with_any_value_of_its_config_replaced_is_used_or_refused_in_one_line(
    name: str, content: Content
) -> None:
    small = {key: content[key] for key in ("format", "config", "overrides", "state_dict")}
    torch.save(small, "strange.ckpt")
    composed = compose_once.__wrapped__(("task=test", "ckpt_path=strange.ckpt", "trainer.accelerator=cpu"))
    for path in paths(small):
        is_read_before = path[:2] == ("config", "choices") or path == ("config",)
        use(put(small, path, STRANGE[name]), None if is_read_before else composed)


def test_checkpoint_whose_config_has_a_key_that_is_no_text_is_refused(content: Content) -> None:
    small = {key: content[key] for key in ("format", "config", "overrides", "state_dict")}
    config = small["config"]
    mappings = [path for path in paths(config) if isinstance(functools.reduce(getitem, path, config), dict)]
    assert {("choices",), ("callbacks", "checkpoint"), ("model", "optimizer")} < {*mappings}
    for path in [(), *mappings]:
        for key in NO_TEXTS:
            torch.save(put(small, ("config", *path, key), 5), "strange.ckpt")
            with pytest.raises(ValueError, match=r"^ckpt_path=strange\.ckpt: [^\n]+$"):
                read_checkpoint("strange.ckpt")


def test_checkpoint_of_another_format_is_refused_whatever_it_says(content: Content) -> None:
    torch.save(content, "strange.ckpt")
    assert read_checkpoint("strange.ckpt")["format"] == 2
    for value in [*STRANGE.values(), 2.0, torch.tensor(2), "2", [2]]:
        torch.save(put(content, ("format",), value), "strange.ckpt")
        with pytest.raises(ValueError, match=r"^ckpt_path=strange\.ckpt: [^\n]+$"):
            read_checkpoint("strange.ckpt")


@pytest.mark.parametrize("name", VALUES)
def test_checkpoint_with_any_value_of_its_state_replaced_is_resumed_or_refused_in_one_line(
    name: str, content: Content
) -> None:
    torch.save(content, "last.ckpt")
    cfg = compose("ckpt_path=last.ckpt", "trainer.accelerator=cpu")
    for path in paths({key: part for key, part in content.items() if key not in ("config", "state_dict")}):
        strange = put(content, path, STRANGE[name])
        try:
            for check in (check_tensors, check_untrusted):
                check(strange)
            check_resume(strange, cfg)
            ResumedCheckpoint(strange, Path.cwd()).load_checkpoint("last.ckpt")
        except Exception as error:
            assert_one_line(error)


def test_counts_of_a_run_that_is_resumed_are_counts(content: Content) -> None:
    counted = {key: content[key] for key in ("loops", "training_set")}
    leaves = [path for path in paths(counted) if isinstance(functools.reduce(getitem, path, counted), int)]
    assert len(leaves) > 50
    for path in leaves:
        for name, value in STRANGE.items():
            strange = put(content, path, value)
            if name in ("left out", "a number", "true", "an empty mapping", "a mapping"):
                check_untrusted(strange)
            else:
                with pytest.raises(ValueError, match=f"its {path[0]} "):
                    check_untrusted(strange)


@pytest.mark.parametrize("key", [5, None])
def test_state_of_a_callback_without_a_name_is_refused(key: Any, content: Content) -> None:
    torch.save(put(content, ("callbacks", key), {}), "strange.ckpt")
    outcome = run("ckpt_path=strange.ckpt", "trainer.accelerator=cpu")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1), outcome.err
    assert not list(Path().rglob("results.json"))


NET_TYPES = ("float16", "bfloat16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64", "bool")
ALL_TYPES = {str(kind).removeprefix("torch.") for kind in vars(torch).values() if isinstance(kind, torch.dtype)}


def zeros(shape: torch.Size, name: str) -> torch.Tensor:
    """Also of types that torch can do nothing with."""
    kind = getattr(torch, name)
    return torch.zeros(shape.numel() * kind.itemsize, dtype=torch.uint8).view(kind).view(shape)


@pytest.mark.parametrize("name", NET_TYPES)
def test_weights_of_a_type_that_a_net_takes_are_used(name: str, content: Content) -> None:
    weights = {key: zeros(value.shape, name) for key, value in content["state_dict"].items()}
    torch.save(content | {"state_dict": weights}, "other.ckpt")
    net, _ = load("other.ckpt")
    assert {value.dtype for value in net.state_dict().values()} == {torch.float32}


@pytest.mark.filterwarnings("ignore:B?Complex")
@pytest.mark.parametrize("name", sorted(name for name in ALL_TYPES - {*NET_TYPES} if name[0] != "q"))
def test_weights_of_any_other_type_are_refused_in_one_line(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name}\b.*float32"):
        check_tensors({"state_dict": {"x": zeros(torch.Size([2]), name)}})


def files() -> set[str]:
    return {str(path) for path in Path().rglob("*")}


@pytest.mark.parametrize("name", ATTACKS)
def test_hostile_content_is_refused_before_anything_is_done(name: str, content: Content) -> None:
    torch.save(ATTACKS[name](copy.deepcopy(content)), "strange.ckpt")
    before = files()
    with pytest.raises(ValueError, match=r"^ckpt_path=strange\.ckpt: [^\n]+$"):
        compose("task=test", "ckpt_path=strange.ckpt")
    assert files() == before


def repack(before: Path, after: Path, compression: int, more: bytes = b"") -> None:
    """Writes a checkpoint with another compression, and with more opcodes at the end of its pickle."""
    with zipfile.ZipFile(before) as old, zipfile.ZipFile(after, "w", compression) as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, content[:-1] + more + b"." if name.endswith("data.pkl") else content)


def test_checkpoint_that_unpacks_to_more_than_its_size_is_refused(content: Content) -> None:
    torch.save({**content, "bomb": torch.zeros(10**6)}, "plain.ckpt")
    repack(Path("plain.ckpt"), Path("packed.ckpt"), zipfile.ZIP_DEFLATED)
    assert Path("packed.ckpt").stat().st_size < Path("plain.ckpt").stat().st_size / 2
    with pytest.raises(ValueError, match=r"^ckpt_path=packed\.ckpt: [^\n]+$"):
        read_checkpoint("packed.ckpt")


@pytest.mark.parametrize("name", ["__builtin__ bytearray", "torch Tensor", "_codecs encode", "os system"])
def test_checkpoint_that_asks_for_memory_in_a_few_bytes_is_refused(name: str, content: Content) -> None:
    torch.save(content, "plain.ckpt")
    call = b"X\x01\x00\x00\x00xc" + name.replace(" ", "\n").encode() + b"\nJ\x00\x10\x00\x00\x85Rs"  # 4096 bytes
    repack(Path("plain.ckpt"), Path("strange.ckpt"), zipfile.ZIP_STORED, call)
    with pytest.raises(ValueError, match=r"^ckpt_path=strange\.ckpt: [^\n]+$"):
        read_checkpoint("strange.ckpt")
    repack(Path("plain.ckpt"), Path("same.ckpt"), zipfile.ZIP_STORED)
    assert read_checkpoint("same.ckpt")["epoch"] == content["epoch"]


@pytest.mark.parametrize("part", ["model", "data", "seed", "choices"])
def test_checkpoint_without_a_part_of_its_config_is_refused_by_tasks_that_would_name_it_at_their_end(
    part: str, content: Content, trained: Path
) -> None:
    torch.save(put(content, ("config", part), LEFT_OUT), "strange.ckpt")
    members = f"task.checkpoints=[strange.ckpt,'{trained}/checkpoints/best.ckpt']"
    for arguments in (("task=publish", "ckpt_path=strange.ckpt"), ("task=ensemble", members, "data=mnist_5k")):
        outcome = run(*arguments, "trainer.accelerator=cpu", "~callbacks.plots")
        assert (outcome.status, outcome.err.count("\n")) == (2, 1), outcome.err
        assert "path=strange.ckpt: " in outcome.err
        assert not list(Path().rglob("results.json"))


TASKS: dict[str, tuple[str, ...]] = {
    "train": (),
    "test": ("task=test",),
    "predict": ("task=predict", "input=digit.png"),
    "explain": ("task=explain",),
    "demo": ("task=demo", "task.port=0"),
    "generate": ("task=generate", "task.count=10"),
    "summarize": ("task=summarize",),
    "a new run's start": ("init_from=strange.ckpt", "data=mnist_5k"),
}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", ["augmentation: torch.utils.collect_env.run", f"augmentation: {INTERPOLATIONS[0]}"])
def test_no_task_follows_a_hostile_checkpoint(name: str, task: str, content: Content) -> None:
    torch.save(ATTACKS[name](copy.deepcopy(content)), "strange.ckpt")
    Image.new("L", (28, 28)).save("digit.png")
    before = files()
    checkpoint = () if "init_from" in TASKS[task][0:1] or task.startswith("a new") else ("ckpt_path=strange.ckpt",)
    outcome = run(*TASKS[task], *checkpoint, "trainer.accelerator=cpu")
    assert outcome.status == 2
    assert outcome.err.count("\n") == 1
    assert {path for path in files() - before if Path(path).is_file()} == set() or "init_from" in outcome.err
    assert not Path(CANARY).exists()


def test_paths_in_a_checkpoint_are_not_followed_when_its_run_is_resumed(trained: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    (victim / "precious").mkdir(parents=True)
    (victim / "precious" / "letter.txt").write_text("dear")
    (victim / "best.ckpt").write_text("mine")
    content = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    for key, state in content["callbacks"].items():
        if key.startswith("ModelCheckpoint"):
            state["dirpath"] = str(victim)
            state["best_k_models"] = {
                str(victim / "precious"): torch.tensor(0.0),
                str(victim / "best.ckpt"): torch.tensor(0.0),
            }
            state |= dict.fromkeys(
                ("kth_best_model_path", "best_model_path", "last_model_path"), str(victim / "best.ckpt")
            )
    for callback in ("checkpoint", "last"):
        content["config"]["callbacks"][callback]["dirpath"] = str(victim)
    content["config"]["trainer"]["max_epochs"] = 4
    for schedule in content["lr_schedulers"]:
        schedule["total_steps"] = 400
    place = tmp_path / "downloads" / "checkpoints"
    place.mkdir(parents=True)
    torch.save(content, place / "last.ckpt")
    outcome = run(f"ckpt_path={place}/last.ckpt", "trainer.accelerator=cpu")
    assert outcome.status in (0, 2), outcome.err
    assert (victim / "precious" / "letter.txt").read_text() == "dear"
    assert (victim / "best.ckpt").read_text() == "mine"
    assert {path.name for path in victim.iterdir()} == {"precious", "best.ckpt"}


LINKS = (".hydra", "hparams.yaml", "results.json", "plots", "checkpoints/best.ckpt", "checkpoints/last.ckpt")


@pytest.mark.extended
@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("is_dangling", [False, True])
def test_links_in_a_strangers_run_are_not_written_through(name: str, is_dangling: bool, trained: Path) -> None:
    shutil.copytree(trained, "theirs")
    link, victim = Path("theirs", name), Path("victim").resolve()
    victim.mkdir()
    (victim / "config.yaml").write_text("mine")
    shutil.copytree(trained, victim / "run")
    target = victim / "run" / name if link.suffix == ".ckpt" else victim if name == ".hydra" else victim / "config.yaml"
    if link.is_dir():
        shutil.rmtree(link)
    link.unlink(missing_ok=True)
    link.symlink_to(victim / "new" if is_dangling else target)
    before = {file: file.read_bytes() for file in victim.rglob("*") if file.is_file()}
    outcome = run("ckpt_path=theirs/checkpoints/last.ckpt", "trainer.accelerator=cpu")
    assert {file: file.read_bytes() for file in victim.rglob("*") if file.is_file()} == before
    if (name, is_dangling) != (".hydra", True):  # then it is no run's folder, and the run goes on in a new one
        assert outcome.status == 2
        assert outcome.err.count("\n") == 1


@pytest.mark.extended
def test_a_persons_file_beside_checkpoints_is_not_taken_for_a_leftover(trained: Path) -> None:
    shutil.copytree(trained, "mine")
    note, leftover = Path("mine/checkpoints/.notes.ckpt.txt"), Path("mine/checkpoints/.last.ckpt.123-456")
    note.write_text("mine")
    leftover.write_text("half")
    run_well("ckpt_path=mine/checkpoints/last.ckpt", "trainer.accelerator=cpu")
    assert note.read_text() == "mine"
    assert not leftover.exists()


def test_best_checkpoint_that_is_none_is_named_in_one_line(trained: Path) -> None:
    shutil.copytree(trained, "mine")
    Path("mine/checkpoints/best.ckpt").write_text("a text")
    outcome = run("ckpt_path=mine/checkpoints/last.ckpt", "trainer.accelerator=cpu")
    assert outcome.status == 2
    assert outcome.err.count("\n") == 1
    assert "best.ckpt" in outcome.err


@pytest.mark.parametrize("version", ["0.9.0", "1.9.5", "x", None, 5])
def test_checkpoint_that_lightning_would_translate_is_not_resumed(version: Any, content: Content) -> None:
    content = {**content, "pytorch-lightning_version": version, "callbacks": {}}
    torch.save(content | {"checkpoint_callback_best_model_path": "/elsewhere/best.ckpt"}, "old.ckpt")
    outcome = run("ckpt_path=old.ckpt", "trainer.accelerator=cpu")
    assert outcome.status == 2
    assert outcome.err.count("\n") == 1
    assert "of Lightning 2" in outcome.err


@pytest.mark.parametrize(
    "attack",
    [
        setting("config", "data", "image_size", to=1_000_000),
        setting("config", "data", "image_size", to=1_000),
        setting("config", "model", "num_classes", to=10**9),
    ],
    ids=["a huge image", "a large image", "a billion classes"],
)
def test_sizes_in_a_checkpoint_take_no_memory_before_they_are_refused(
    attack: Callable[[Content], Any], content: Content
) -> None:
    torch.save(attack(copy.deepcopy(content)), "strange.ckpt")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome = run("task=test", "ckpt_path=strange.ckpt", "trainer.accelerator=cpu")
    assert outcome.status == 2, outcome.err
    assert outcome.err.count("\n") == 1
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        load("strange.ckpt")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def test_clock_of_a_checkpoint_that_no_run_writes_is_refused(trained: Path) -> None:
    content = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    clock = content["training_clock"]
    wrong: list[Any] = ["x", None, [], math.nan, math.inf, -1.0, True, {}]
    damaged = [clock | {key: value} for key in clock for value in wrong if (key, value) != ("metrics", {})]
    torch.save(content, "last.ckpt")
    cfg = compose("ckpt_path=last.ckpt", "trainer.accelerator=cpu")
    check_resume(content, cfg)
    for strange in [*damaged, [1], "x", 5, clock | {"more": 1}, {"seconds": 1.0}]:
        with pytest.raises(ValueError, match="training_clock"):
            check_resume(content | {"training_clock": strange}, cfg)
    torch.save(content | {"training_clock": damaged[0]}, "last.ckpt")
    outcome = run("ckpt_path=last.ckpt", "trainer.accelerator=cpu")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1), outcome.err
    assert not list(Path().rglob("results.json"))


def test_counts_in_a_checkpoint_reach_the_results_only_as_metrics(trained: Path, tmp_path: Path) -> None:
    content = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    content["training_clock"]["metrics"] |= {"status": "great", "a/b": [1], "seed": 3.0, "val/loss": 0.5}
    torch.save(content, "last.ckpt")
    run("ckpt_path=last.ckpt", "trainer.accelerator=cpu", "~callbacks.plots")
    results = results_of(only_run())
    assert (results["status"], results["seed"]) == ("finished", 0)
    assert "a/b" not in results


def test_machine_of_the_command_tests_a_net_not_that_of_the_checkpoint(content: Content) -> None:
    strange = copy.deepcopy(content)
    strange["config"]["trainer"] |= {"devices": 2, "strategy": "ddp", "accelerator": "gpu"}
    torch.save(strange, "strange.ckpt")
    cfg = compose("task=test", "ckpt_path=strange.ckpt", "trainer.accelerator=cpu")
    assert (cfg.trainer.devices, cfg.trainer.strategy, cfg.trainer.accelerator) == (1, "auto", "cpu")


@pytest.mark.parametrize("key", WHOLE_PARTS)
def test_whole_part_is_no_function_by_the_command_either(key: str, trained: Path) -> None:
    last = f"ckpt_path={trained}/checkpoints/last.ckpt"
    for arguments in ((last, "task=test"), ("data=mnist_5k",)):
        with pytest.raises(ValueError, match=rf"^{key}\._partial_=true: [^\n]+$"):
            build(compose(*arguments, f"{key}._partial_=true", "trainer.accelerator=cpu"), Path.cwd())


def test_callback_with_integers_for_keys_is_left_out_by_the_command(content: Content) -> None:
    own = {"_target_": "lightning.pytorch.callbacks.GradientAccumulationScheduler", "scheduling": {0: 2, 1: 1}}
    torch.save(put(content, ("config", "callbacks", "own"), own), "strange.ckpt")
    with pytest.raises(ValueError, match=r"callbacks\.own=null"):
        compose("task=test", "ckpt_path=strange.ckpt")
    assert compose("task=test", "ckpt_path=strange.ckpt", "callbacks.own=null").callbacks.own is None


@pytest.mark.extended
def test_callback_of_ones_own_is_followed_only_where_the_command_names_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "own_callback.py").write_text(
        "import lightning\nclass Own(lightning.Callback):\n    def on_fit_start(self, *_): print('own callback')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    named = "callbacks.own._target_=own_callback.Own"
    quick = ("trainer.accelerator=cpu", "trainer.limit_train_batches=4", "trainer.limit_val_batches=2")
    run_well(
        "model=lenet",
        "data=mnist_5k",
        *quick,
        "model/lr_scheduler=none",
        "trainer.max_steps=2",
        "~callbacks.plots",
        named,
    )
    last = f"ckpt_path={only_run()}/checkpoints/last.ckpt"
    for task in ("train", "test"):
        outcome = run(f"task={task}", last, *quick)
        assert outcome.status == 2
        assert "own_callback.Own" in outcome.err
        assert "callbacks.own=null" in outcome.err
        assert "own callback" not in outcome.out
    assert run("task=test", last, *quick, "callbacks.own=null").status == 0
    assert "own callback" in run_well(last, *quick, "trainer.max_steps=4", named).out


DAMAGES: dict[str, Any] = {
    **{f"no {key}": key for key in ("loops", "callbacks", "optimizer_states", "lr_schedulers", "epoch", "global_step")},
}


@pytest.mark.extended
@pytest.mark.parametrize("key", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("value", [None, {}], ids=str)
def test_checkpoint_that_lacks_what_a_resumed_run_needs_is_answered_in_one_line(
    key: str, value: Any, content: Content
) -> None:
    damaged = copy.deepcopy(content)
    damaged[key] = value
    if damaged[key] == content[key]:
        return
    torch.save(damaged, "damaged.ckpt")
    outcome = run("ckpt_path=damaged.ckpt", "trainer.accelerator=cpu")
    assert outcome.status in (0, 2), outcome.err
    assert outcome.err.count("\n") == (outcome.status == 2)
