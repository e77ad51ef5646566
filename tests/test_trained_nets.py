"""published/: the nets that travel with the project reach what their records say, and what is in them is data."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import only_run, results_of, run, run_well
from conftest import ROOT
from documents import table
from lightning import Trainer
from PIL import Image
from safetensors.torch import load_file, save_file

from classic_cnn.classifier import ImageClassifier
from datamodules.images import ImageData
from gan.adversarial import GAN
from gan.scores.scoring_net import ScoringNet
from tasks.checkpoint import load
from tasks.process import configure_process
from tasks.published import CONFIG, FILES, SUMS, WEIGHTS, find_net, published_names

NAMES = published_names()
CPU = "trainer.accelerator=cpu"


def record_of(name: str) -> dict[str, Any]:
    return json.loads((ROOT / name / "results.json").read_text())


def test_they_are_small_and_complete() -> None:
    assert {"published/lenet_mnist", "published/lenet_fashion_mnist", "published/esn_mnist"} <= {*NAMES}
    assert "published/cgan_mnist" in NAMES
    files = [file for file in (ROOT / "published").rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 15_000_000
    folders = {f"published/{folder.name}" for folder in (ROOT / "published").iterdir()}
    assert folders == {*NAMES, "published/claims", "published/runs", "published/small_data"}
    for name in NAMES:
        assert {file.name for file in (ROOT / name).iterdir()} == FILES.keys()


@pytest.mark.parametrize("name", NAMES)
def test_its_files_have_their_sums_and_its_texts_no_path_of_a_machine(name: str) -> None:
    for line in (ROOT / name / SUMS).read_text().splitlines():
        digest, file = line.split("  ")
        assert hashlib.sha256((ROOT / name / file).read_bytes()).hexdigest() == digest
    for file in (CONFIG, "results.json"):
        assert "/work" not in (ROOT / name / file).read_text()
        assert '"/' not in (ROOT / name / file).read_text()


@pytest.mark.extended
@pytest.mark.parametrize("name", NAMES)
def test_its_accuracy_is_that_of_its_record(name: str) -> None:
    net, data = load(ROOT / name)
    record = record_of(name)
    if isinstance(net, GAN):
        scoring_net = ScoringNet("mnist")
        labels = torch.arange(1_000) % 10
        logits = scoring_net.logits(scoring_net.features_of_all(net.sample(1_000, labels)))
        assert (logits.argmax(1) == labels).float().mean() == pytest.approx(record["test/gan_test_accuracy"], abs=0.01)
        return
    assert isinstance(net, ImageClassifier)
    configure_process()
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    [metrics] = trainer.test(net, datamodule=data, verbose=False)
    assert metrics["test/accuracy"] == pytest.approx(record["test/accuracy"], abs=0.0002)


def test_table_of_the_documentation_is_that_of_the_records() -> None:
    rows = {row[0].strip("`"): row[1:] for row in table(ROOT / "docs" / "runs.md", "net")}
    assert rows.keys() == {*NAMES}
    for name, (command, reached) in rows.items():
        record = record_of(name)
        accuracy = record.get("test/accuracy", record.get("test/gan_test_accuracy"))
        assert command == f"`experiment={record['experiment']}`"
        assert reached.endswith(f"{accuracy:.4f}")


@pytest.mark.extended
def test_a_net_is_tested_and_used_by_its_name_from_any_folder(mnist: ImageData) -> None:
    assert mnist.test_split
    Path("digits").mkdir()
    for number, image in enumerate(mnist.test_split.images[:5]):
        Image.fromarray(image[0].numpy()).save(f"digits/{number}.png")
    outcome = run_well("task=predict", "ckpt_path=published/esn_mnist", "input=digits", CPU)
    assert "digits/4.png" in outcome.out
    classes = [row["name"] for row in results_of(only_run())["predictions"].values()]
    assert classes == [str(label) for label in mnist.test_split.labels[:5].tolist()]


def test_a_gan_is_used_by_its_name() -> None:
    run_well("task=generate", "ckpt_path=published/cgan_mnist", "task.count=20", "task.format=png", CPU)
    record = json.loads(next(Path("outputs").rglob("generated.json")).read_text())
    assert record["imitates"] == "mnist"
    assert (
        record["checkpoint_sha256"]
        == hashlib.sha256((ROOT / "published/cgan_mnist" / WEIGHTS).read_bytes()).hexdigest()
    )


def test_a_run_starts_from_a_net_but_does_not_resume_one() -> None:
    outcome = run("ckpt_path=published/lenet_mnist", "data.root=.", CPU)
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert "init_from=published/lenet_mnist" in outcome.err
    small = ("data=mnist_5k", "data.train_images_per_class=2", "~callbacks.plots", "trainer.max_epochs=1")
    assert "left random  nothing" in run_well("model=lenet", "init_from=published/lenet_mnist", *small, CPU).out


def test_a_run_is_published_with_the_metrics_of_its_weights(trained: Path) -> None:
    checkpoint = trained / "checkpoints" / "best.ckpt"
    run_well("task=publish", f"ckpt_path={checkpoint}", "~callbacks.plots", CPU)
    [sums] = Path("outputs").rglob(SUMS)
    record = results_of(sums.parent)
    assert record["val/accuracy"] == results_of(trained)["val/accuracy"]
    assert record["data"] == "mnist_5k"
    net, _ = load(sums.parent)
    expected, _ = load(checkpoint)
    for name, value in expected.state_dict().items():
        assert torch.equal(value, net.state_dict()[name])
    texts = "".join((sums.parent / name).read_text() for name in (CONFIG, "results.json"))
    assert str(trained) not in texts
    assert '"/' not in texts
    run_well("task=publish", f"ckpt_path={sums.parent}", "~callbacks.plots", CPU)
    assert [results_of(again.parent) for again in Path("outputs").rglob(SUMS)] == [record, record]


def rewrite(change: Callable[[Path], Any]) -> None:
    """A copy of a net in `net/` with another content and the sums of it."""
    shutil.copytree(ROOT / "published" / "lenet_mnist", "net")
    change(Path("net"))
    files = [path for path in sorted(Path("net").iterdir()) if path.name != SUMS]
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    Path("net", SUMS).write_text("".join(lines))


def config_with(**parts: Any) -> Callable[[Path], Any]:
    def change(net: Path) -> None:
        content = json.loads((net / CONFIG).read_text())
        content["config"] |= parts
        (net / CONFIG).write_text(json.dumps(content))

    return change


def weights_with(value: float) -> Callable[[Path], Any]:
    def change(net: Path) -> None:
        weights = load_file(net / WEIGHTS)
        next(iter(weights.values())).fill_(value)
        save_file(weights, net / WEIGHTS)

    return change


def smaller(net: Path) -> None:
    weights = load_file(net / WEIGHTS)
    save_file({name: value[:1].clone() for name, value in weights.items()}, net / WEIGHTS)


ATTACKS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a command as a model": (config_with(model={"_target_": "os.system", "command": "touch ran"}), "os.system"),
    "an interpolation": (config_with(data={"_target_": "datamodules.mnist.MNIST", "root": "${oc.env:HOME}"}), "HOME"),
    "a trainer of another kind": (config_with(trainer={"_target_": "os.system"}), "os.system"),
    "a callback": (config_with(callbacks={"x": {"_target_": "os.system"}}), "os.system"),
    "another format": (lambda net: (net / CONFIG).write_text('{"config": {}, "overrides": []}'), "earlier version"),
    "no config": (lambda net: (net / CONFIG).write_text("[]"), "no config"),
    "a config that is nested": (lambda net: (net / CONFIG).write_text("[" * 100_000), "damaged"),
    "weights that are no numbers": (weights_with(float("nan")), "not finite"),
    "weights of another size": (smaller, "another size"),
    "weights that are a text": (lambda net: (net / WEIGHTS).write_text("words"), "damaged"),
    "weights that claim much": (lambda net: (net / WEIGHTS).write_bytes(b"\xff" * 8 + b"{}"), "damaged"),
    "a config that is large": (lambda net: (net / CONFIG).write_bytes(b" " * 2_000_000), "config.json cannot be read"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_is_in_a_net_is_data(attack: str) -> None:
    change, says = ATTACKS[attack]
    rewrite(change)
    outcome = run("task=predict", "ckpt_path=net", "input=x.png", CPU)
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert "ckpt_path=net" in outcome.err
    assert says in outcome.err
    assert not Path("ran").exists()
    assert not Path("outputs").exists() or not list(Path("outputs").rglob("results.json"))


NET_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U8": 8, "BOOL": 8}
OTHER_BITS = {
    **{"F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F6_E2M3": 6, "F6_E3M2": 6},
    **{"F4": 4, "U16": 16, "U32": 32, "U64": 64, "C64": 64, "none": 32},
}


@pytest.mark.parametrize("kind", [*NET_BITS, *OTHER_BITS])
def test_weights_of_every_type_of_the_format_are_used_or_refused_in_one_line(kind: str) -> None:
    bits = (NET_BITS | OTHER_BITS)[kind]

    def change(net: Path) -> None:
        header, end = {}, 0
        for name, value in load_file(net / WEIGHTS).items():
            start, end = end, end + value.numel() * bits // 8
            header[name] = {"dtype": kind, "shape": [*value.shape], "data_offsets": [start, end]}
        text = json.dumps(header).encode()
        (net / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))

    rewrite(change)
    if kind in NET_BITS:
        net, _ = load("net")
        assert not any(value.any() for value in net.state_dict().values())
    else:
        with pytest.raises(ValueError, match=r"^path=net: [^\n]+$"):
            load("net")


@pytest.mark.parametrize("file", [WEIGHTS, CONFIG, "results.json"])
def test_a_file_that_was_changed_or_is_missing_is_named(file: str) -> None:
    shutil.copytree(ROOT / "published" / "lenet_mnist", "net")
    content = Path("net", file).read_bytes()
    Path("net", file).write_bytes(content[:-1] + b"x")
    outcome = run("task=predict", "ckpt_path=net", "input=x.png", CPU)
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert f"its {file} is damaged" in outcome.err
    Path("net", file).unlink()
    assert f"its {file} cannot be read" in run("task=predict", "ckpt_path=net", "input=x.png", CPU).err


def test_a_name_that_is_none_lists_those_there_are() -> None:
    assert find_net("published/../published/lenet_mnist") is None
    for name in ("published/lenet", "published", "published/../x"):
        outcome = run("task=predict", f"ckpt_path={name}", "input=x.png", CPU)
        assert (outcome.status, outcome.err.count("\n")) == (2, 1)
        assert "published/lenet_mnist" in outcome.err
