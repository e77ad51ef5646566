"""A person's mistake ends in one line that names the option; only a fault of the program ends in a traceback."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from command_line import PLAIN, assert_one_line, only_run, results_of, run

from classic_cnn.lenet import LeNet5


@pytest.mark.parametrize(
    ("mistake", "parts"),
    [
        # names of options
        ("model=lennet", ("model=lennet", "model=lenet", "alexnet")),
        ("data=mnits", ("data=mnits", "fashion_mnist")),
        ("task=tets", ("task=tets", "task=test")),
        ("experiment=none", ("experiment=none",)),
        ("model/optimizer=sdg", ("model/optimizer=sdg", "model/optimizer=sgd")),
        ("data/augment=flipp", ("data/augment=flipp", "data/augment=flip")),
        ("experiment=ten_minute/resnet", ("did you mean experiment=ten_minutes/resnet?", "ten_minutes/...")),
        ("experiment=vgg", ("did you mean experiment=ten_minutes/vgg?",)),
        ("lr=0.1", ("did you mean model.optimizer.lr?",)),
        ("epochs=2", ("did you mean trainer.max_epochs",)),
        ("batch_size=64", ("did you mean data.batch_size?",)),
        ("device=gpu", ("did you mean trainer.accelerator=gpu?",)),
        ("optimizer.lr=0.1", ("did you mean model.optimizer?",)),
        ("optimizer=sgd", ("did you mean model/optimizer=sgd?",)),
        ("augment=flip", ("did you mean data/augment=flip?",)),
        ("seeed=1", ("did you mean seed?",)),
        ("model=publishd/lenet", ("did you mean model=published/lenet?",)),
        ("model=adam", ("model=adam is not an option: choose one of alexnet",)),
        # keys
        ("seeed=1", ("seeed", "seed")),
        ("modle=lenet", ("modle", "model")),
        ("model.lrr=0.1", ("model.lrr",)),
        ("trainer.max_epoch=1", ("trainer.max_epoch", "max_epochs")),
        ("data.bacth_size=8", ("data.bacth_size", "batch_size")),
        ("+foo=1", ("foo",)),
        ("+trainer.x=1", ("trainer.x",)),
        ("~callbacks.figure", ("callbacks.figure",)),
        ("~callbacks", ("callbacks",)),
        ("~trainer", ("trainer",)),
        ("~init_from", ("init_from",)),
        ("model.optimizer=sgd", ("model.optimizer", "model/optimizer=NAME")),
        # values
        ("trainer.max_epochs=abc", ("trainer.max_epochs=abc",)),
        ("trainer.max_epochs=0", ("trainer.max_epochs=0",)),
        ("trainer.limit_train_batches=0", ("trainer.limit_train_batches=0",)),
        ("hydra.sweeper.params={seed:'0,1'}", ("hydra.sweeper.params.seed",)),
        ("seed=1.5", ("seed=1.5",)),
        ("seed=0,1", ("seed=0,1", "-m")),
        ("seed=0,", ("seed=0,: a list has no blank behind its comma", "-m seed=0,")),
        ("name=.hidden", ("name", "letters, digits")),
        ("tags=[a=b]", ("tags=['a=b']",)),
        ("seed=null", ("seed=null",)),
        ("callbacks.checkpoint.filename='{epoch:999999999}'", ("callbacks.checkpoint.filename",)),
        ("model.optimizer.lr=-1", ("model.optimizer.lr=-1: should be greater than or equal to 0",)),
        ("model.optimizer.betas=[0.5,2.0]", ("model.optimizer", "2.0")),
        ("model.optimizer.betas=[0.5,0.99]", ("model.optimizer.betas", "one_cycle_constant_momentum")),
        ("model/optimizer=plain_sgd", ("model.optimizer.momentum=0", "one_cycle_constant_momentum")),
        ("model.lr_scheduler.max_lr=-1", ("model.lr_scheduler",)),
        ("trainer.accelerator=gpus", ("trainer", "gpus")),
        ("trainer.strategy=dpp", ("trainer", "dpp")),
        ("trainer.devices=1000", ("trainer.devices=1000",)),
        ("trainer.num_nodes=2", ("trainer.num_nodes=2",)),
        ("data.image_size=8", ("image_size",)),
        ("data.train_images=4001", ("train_images", "4001")),
        ("data.train_images_per_class=401", ("401",)),
        # what Hydra's grammar cannot read
        ("model=lenet,alexnet", ("--multirun",)),
        ("model", ("model", "KEY=VALUE")),
        ("=", ("KEY=VALUE",)),
        ("=3", ("KEY=VALUE",)),
        ("input=[a.png", ("input=[a.png", "quoted")),
        ("input=my photo (1).png", ("input=my photo (1).png", "quoted")),
        ("ckpt_path=a=b.ckpt", ("ckpt_path=a=b.ckpt", "quoted")),
        ("ckpt_path=数字.ckpt", ("ckpt_path=数字.ckpt",)),
        ("trainer.accelerator=\n", ("Error: trainer.accelerator=", "quoted")),
        ("seed=\x1b[2J", ("Error: seed=", "quoted")),
        ("--cfgg", ("--cfgg", "--help")),
        ("--cfg=jobs", ("--cfg", "jobs")),
        # files
        ("ckpt_path=none.ckpt", ("ckpt_path=none.ckpt",)),
        ("ckpt_path=.", ("ckpt_path=.",)),
        ("ckpt_path=5", ("ckpt_path=5",)),
        ("init_from=none.ckpt", ("init_from=none.ckpt",)),
        ("ckpt_path=/dev/zero", ("ckpt_path=/dev/zero",)),
    ],
)
def test_mistake_is_answered_in_one_line_and_leaves_nothing_behind(mistake: str, parts: tuple[str, ...]) -> None:
    assert_one_line(run("data=mnist_5k", "trainer.accelerator=cpu", mistake), *parts)
    assert not [file for file in Path().rglob("*") if file.is_file()]


def test_rate_for_an_optimizer_that_is_none_is_answered_with_how_to_choose_one() -> None:
    choice = "+model/optimizer@model.discriminator_optimizer"
    rate = "model.discriminator_optimizer.lr=0.1"
    assert_one_line(run("model=wgan", "trainer.accelerator=cpu", rate), f"choose an option with {choice}=NAME: adam, ")
    assert "lr: 0.1" in run("model=wgan", f"{choice}=adam", rate, "--cfg", "job").out


@pytest.mark.parametrize(
    ("mistake", "parts"),
    [
        ("callbacks.checkpoint.monitor=val/acc", ("val/acc",)),
    ],
)
def test_run_that_fails_later_says_why_in_one_line_and_in_its_results(mistake: str, parts: tuple[str, ...]) -> None:
    assert_one_line(run("model=lenet", *PLAIN, "trainer.max_epochs=1", mistake), *parts)
    results = results_of(only_run())
    assert results["status"] == "failed"
    assert results["reason"]


@pytest.mark.parametrize(
    ("option", "package"),
    [
        ("hydra/launcher=submitit_slurm", "hydra-submitit-launcher"),
        ("hydra/sweeper=optuna", "hydra-optuna-sweeper"),
        ("experiment=search_lr", "hydra-optuna-sweeper"),
    ],
)
def test_missing_plugin_is_answered_with_the_command_that_installs_it(option: str, package: str) -> None:
    if find_spec(f"hydra_plugins.{package.replace('-', '_')}"):
        pytest.skip(f"{package} is installed")
    assert_one_line(run("data=mnist_5k", "trainer.accelerator=cpu", option), f"pip install {package}")
    assert not [file for file in Path().rglob("*") if file.is_file()]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_gpu_where_there_is_none_is_answered_in_one_line() -> None:
    assert_one_line(run("data=mnist_5k", "trainer.accelerator=gpu"), "trainer.accelerator=cpu")


def test_output_below_a_file_is_answered_in_one_line() -> None:
    Path("outputs").write_text("in the way")
    assert_one_line(run("data=mnist_5k"), "outputs")


@pytest.mark.parametrize("sweep", ["seed=range(0,0)", "model=glob(zzz)"])
def test_sweep_of_no_jobs_is_answered_in_one_line(sweep: str) -> None:
    assert_one_line(run("-m", sweep, "data=mnist_5k"))
    assert not list(Path().rglob("*.yaml"))


def test_folder_without_runs_is_answered_in_one_line() -> None:
    assert_one_line(run("task=leaderboard", "task.runs=none"), "none")
    Path("empty").mkdir()
    assert_one_line(run("task=leaderboard", "task.runs=empty"), "empty")


def test_file_that_is_no_checkpoint_of_ours_is_answered_in_one_line(trained: Path) -> None:
    whole = (trained / "checkpoints" / "best.ckpt").read_bytes()
    Path("text.ckpt").write_text("a text")
    Path("empty.ckpt").write_text("")
    Path("cut.ckpt").write_bytes(whole[:-5000])
    Path("overwritten.ckpt").write_bytes(b"\0\0\0\0" + whole[4:])
    torch.save(LeNet5(), "pickled.ckpt")
    torch.save({"weights": torch.zeros(2)}, "foreign.ckpt")
    for name in ("text", "empty", "cut", "overwritten", "pickled", "foreign"):
        assert_one_line(run(f"ckpt_path={name}.ckpt"), f"ckpt_path={name}.ckpt")
    assert_one_line(run("task=test", "ckpt_path=text.ckpt"), "ckpt_path=text.ckpt")
    assert not list(Path().rglob("results.json"))


def test_missing_checkpoint_names_those_that_are_there(trained: Path) -> None:
    folder = trained / "checkpoints"
    answer = f"{folder}/best.ckpt, {folder}/last.ckpt"
    assert_one_line(run("task=test", f"ckpt_path={folder}/bset.ckpt"), answer)


@pytest.mark.parametrize("task", ["train", "test", "predict"])
def test_checkpoint_of_another_architecture_is_answered_in_one_line(task: str, trained: Path) -> None:
    checkpoint = f"ckpt_path={trained}/checkpoints/best.ckpt"
    picture = ("input=x.png",) if task == "predict" else ()
    assert_one_line(run(f"task={task}", checkpoint, "model=alexnet", *picture), "LeNet5", "AlexNet")


def test_checkpoint_of_another_size_is_answered_in_one_line(trained: Path) -> None:
    checkpoint = f"ckpt_path={trained}/checkpoints/best.ckpt"
    assert_one_line(run("task=test", checkpoint, "model=published/lenet", "data.image_size=32"), checkpoint)


@pytest.mark.extended
def test_task_without_its_checkpoint_or_input_is_answered_in_one_line(trained: Path) -> None:
    for arguments in (("test",), ("predict", "input=digit.png"), ("explain", "input=digit.png"), ("generate",)):
        assert_one_line(run(f"task={arguments[0]}", *arguments[1:]), "ckpt_path")
    checkpoint = f"ckpt_path={trained}/checkpoints/best.ckpt"
    assert_one_line(run("task=predict", checkpoint), "input")
    assert_one_line(run("task=predict", checkpoint, "input=none.png"), "none.png")
    Path("words.png").write_text("no picture")
    assert_one_line(run("task=predict", checkpoint, "input=words.png"), "words.png")


def test_fault_of_the_program_keeps_its_traceback_and_ends_with_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LeNet5, "training_step", lambda *_: torch.zeros(2) @ torch.zeros(3))
    outcome = run("model=lenet", *PLAIN, "trainer.max_epochs=1")
    assert outcome.status == 1
    assert outcome.err.startswith("Traceback (most recent call last):")
    assert "RuntimeError" in outcome.err.splitlines()[-1]
    results = results_of(only_run())
    assert results["status"] == "failed"
    assert results["reason"].startswith("RuntimeError: ")


FAULTS = {  # of a net that a user has written: what is wrong, in the module, the constructor and a step
    "a module that is not installed": ("import nowhere", "pass", "pass", "nowhere"),
    "another's name that is none": ("from torch import nowhere", "pass", "pass", "nowhere"),
    "a wrong name in the module": ("nowhere", "pass", "pass", "nowhere"),
    "an attribute that is none": ("nn.Nowhere", "pass", "pass", "Nowhere"),
    "no Python": ("x = = 1", "pass", "pass", "invalid syntax"),
    "a wrong name in the constructor": ("", "nowhere", "pass", "nowhere"),
    "a layer that is none": ("", "self.nowhere.weight", "pass", "nowhere"),
    "too few values in the constructor": ("", "a, b = [1]", "pass", "not enough values"),
    "too many values in a step": ("", "pass", "a, b, c = images.shape", "too many values"),
    "a shape that does not fit": ("", "pass", "images @ images[:, :, 1:]", "Expected size"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_of_a_users_own_net_keeps_its_traceback(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    at_import, in_constructor, in_forward, said = FAULTS[fault]
    Path("faulty.py").write_text(
        f"""
from torch import nn
from classic_cnn.classifier import ImageClassifier
{at_import}
class Net(ImageClassifier):
    def __init__(self, in_channels: int = 1, num_classes: int = 10, image_size: int = 28, **recipe) -> None:
        super().__init__(in_channels, num_classes, image_size, **recipe)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(784, num_classes))
        {in_constructor}
    def forward(self, images):
        {in_forward}
        return self.net(images)
"""
    )
    monkeypatch.syspath_prepend(Path.cwd())
    monkeypatch.delitem(sys.modules, "faulty", raising=False)
    outcome = run("model=lenet", "model._target_=faulty.Net", *PLAIN, "trainer.max_epochs=1")
    assert outcome.status == 1, outcome.err
    assert outcome.err.startswith("Traceback (most recent call last):")
    assert "faulty.py" in outcome.err
    assert said in "".join(outcome.err.splitlines()[-3:])


def test_what_a_users_own_net_says_is_answered_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ("from classic_cnn.lenet import LeNet5", "class Net(LeNet5):", "    def __init__(self, **recipe) -> None:")
    Path("choosy.py").write_text("\n".join([*lines, "        raise ValueError('units: at least 3')"]))
    monkeypatch.syspath_prepend(Path.cwd())
    assert_one_line(run("model=lenet", "model._target_=choosy.Net", *PLAIN), "model: units: at least 3")
    for name in ("choosy.Nets", "choosey.Net", "choosy", "choosy.Net.nothing"):
        outcome = run("model=lenet", f"model._target_={name}", *PLAIN)
        assert_one_line(outcome, f"model._target_={name}", "no class or function")


@pytest.mark.parametrize("outputs", [3, 15])
def test_net_of_a_user_with_other_outputs_than_classes_is_refused_before_it_trains(
    outputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (
        *("import torch", "from classic_cnn.lenet import LeNet5", "class Net(LeNet5):"),
        *("    def forward(self, images):", f"        return torch.zeros(len(images), {outputs})"),
    )
    Path(f"stubborn{outputs}.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(Path.cwd())
    outcome = run("model=lenet", f"model._target_=stubborn{outputs}.Net", *PLAIN)
    assert_one_line(outcome, f"forward of Net returns (N, {outputs}): (N, 10) is needed")


def test_traceback_of_a_mistake_is_shown_on_demand() -> None:
    outcome = run("task=test", full_error=True)
    assert outcome.status == 1
    assert "Traceback (most recent call last):" in outcome.err


@pytest.mark.parametrize("model", ["lenet", "gan"])
def test_diverging_run_ends_early_with_one_line_and_its_status(model: str) -> None:
    rate = "model.optimizer.lr=1e30"
    outcome = run(f"model={model}", *PLAIN, rate, "trainer.max_epochs=20", "trainer.log_every_n_steps=2")
    assert_one_line(outcome, "step")
    results = results_of(only_run())
    assert results["status"] == "diverged"
    assert not [key for key in results if key.startswith(("test/", "val/"))]
