"""A stranger's checkpoint is data: whatever it holds, nothing runs, nothing is written outside, one line says why."""

import copy
import math
import resource
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import only_run, results_of, run, run_well
from conftest import compose
from PIL import Image

from tasks.checkpoint import read_checkpoint
from tasks.resume import check_resume

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
    "a list": lambda content: [content],
    "nothing": lambda content: {},
}


@pytest.fixture(scope="module")
def content(trained: Path) -> Content:
    return torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)


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
