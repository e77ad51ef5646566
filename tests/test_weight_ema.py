"""WeightEMA: the averaged weights are validated, saved and measured, and survive a resumed run."""

from pathlib import Path

import pytest
import torch
from conftest import small_run
from lightning import Trainer

from classic_cnn.lenet import LeNet5
from datamodules.contract import ArgumentError
from gan.averaged_generator import WarmUpAverage
from tasks.weight_ema import WeightEMA

EMA_RUN = (
    *("model=vgg", "model.depth=11", "model.width=0.05", "~callbacks.plots", "model.label_smoothing=0.1"),
    *("callbacks=ema", "callbacks.ema.decay=0.5"),
    *("callbacks.checkpoint.monitor=val/loss", "callbacks.checkpoint.mode=min", "model/lr_scheduler=none"),
)


def test_averaged_weights_are_what_is_validated_saved_and_measured(tmp_path: Path) -> None:
    model, data, trainer = small_run(*EMA_RUN, "trainer.max_epochs=3", folder=tmp_path)
    trainer.fit(model, data)
    best = tmp_path / "checkpoints/best.ckpt"
    checkpoint = torch.load(best, weights_only=True)
    raw = checkpoint["current_model_state"]
    assert not torch.equal(checkpoint["state_dict"]["classifier.1.weight"], raw["classifier.1.weight"])
    assert not torch.equal(checkpoint["state_dict"]["features.bn1_1.running_mean"], raw["features.bn1_1.running_mean"])
    reached = trainer.checkpoint_callback.best_model_score.item()  # type: ignore[union-attr]
    [metrics] = trainer.validate(model, data, ckpt_path=str(best), weights_only=True, verbose=False)
    assert metrics["val/loss"] == pytest.approx(reached)
    data.test_split = data.val_split
    [metrics] = trainer.test(model, data, ckpt_path=str(best), weights_only=True, verbose=False)
    assert metrics["test/loss"] == pytest.approx(reached)
    assert all(torch.equal(tensor, checkpoint["state_dict"][name]) for name, tensor in model.state_dict().items())


def test_averaged_weights_of_a_resumed_run_are_those_of_one_in_one_go(tmp_path: Path) -> None:
    for folder, epochs in (("whole", 2), ("parts", 1), ("parts", 2)):
        model, data, trainer = small_run(*EMA_RUN, f"trainer.max_epochs={epochs}", folder=tmp_path / folder)
        last = tmp_path / folder / "checkpoints/last.ckpt"
        trainer.fit(model, data, ckpt_path=str(last) if last.exists() else None, weights_only=True)
    whole, parts = (torch.load(tmp_path / f / "checkpoints/last.ckpt", weights_only=True) for f in ("whole", "parts"))
    for state in ("state_dict", "current_model_state"):
        assert all(torch.equal(tensor, parts[state][name]) for name, tensor in whole[state].items())


def test_integers_are_not_averaged() -> None:
    net = LeNet5.published()
    ema = WeightEMA(decay=0.9)
    ema.setup(Trainer(logger=False, barebones=True), net, "fit")
    assert ema._average_model is not None
    for _ in range(3):
        ema._average_model.update_parameters(net)
    pairs = {name: buffer for name, buffer in ema._average_model.module.named_buffers() if name.endswith("pairs")}
    assert pairs
    assert all(torch.equal(buffer, net.get_buffer(name)) for name, buffer in pairs.items())
    with pytest.raises(ArgumentError, match="decay"):
        WeightEMA(decay=1.5)


def test_average_forgets_the_first_weights_after_a_few_updates() -> None:
    """After 100 updates with a constant decay of 0.999 the first weights would still have a share of 90 %."""
    average = [torch.zeros(1)]
    for updates in range(1, 101):
        WarmUpAverage(0.999)(average, [torch.ones(1)], torch.tensor(updates))
    assert 1 - average[0].item() < 1e-6
    constant = [torch.zeros(1)]
    WarmUpAverage(0.1)(constant, [torch.ones(1)], 1)  # below the warm-up's 2 / 11
    assert constant[0].item() == pytest.approx(0.9)


def test_average_of_a_classifier_forgets_its_first_weights_too() -> None:
    net = LeNet5()
    ema = WeightEMA(decay=0.999)
    ema.setup(Trainer(logger=False, barebones=True), net, "fit")
    assert ema._average_model is not None
    first = {name: weight.clone() for name, weight in net.state_dict().items()}
    ema._average_model.update_parameters(net)
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(1)
    for _ in range(100):
        ema._average_model.update_parameters(net)
    averages = ema._average_model.module.state_dict()
    assert all(torch.allclose(averages[name], weight + 1, atol=1e-4) for name, weight in first.items())
