"""The recurrent nets against slow, literal references of their equations, and what is special about their training."""

import math
import signal
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import PLAIN, assert_one_line, checkpoint_of, only_run, results_of, run, run_well
from conftest import compose, small_run
from hydra.utils import instantiate
from stopping import Moment, stop
from torch import Tensor, nn

from datamodules.images import ImageData
from rnn.clockwork import ClockworkRNN
from rnn.esn import EchoStateNetwork, ridge_regression
from rnn.recurrent import COMPARABLE_UNITS, Recurrent
from rnn.sequence_classifier import SequenceClassifier
from tasks.build import multiply_adds
from tasks.layer_summary import trace

Array = np.ndarray[Any, np.dtype[np.float64]]
STEPS = 28


def numbers(tensor: Tensor) -> Array:
    return tensor.detach().double().numpy()


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.fixture
def images() -> Tensor:
    return torch.rand(5, 1, STEPS, STEPS) * 2 - 1


def reservoir_states(net: EchoStateNetwork, sequence: Array) -> list[Array]:
    """Lukoševičius 2012, equations 2 and 3, for one sequence (T, F), unit by unit."""
    reservoir = net.reservoir
    sources, weights = reservoir.sources.numpy(), numbers(reservoir.weights)
    inputs, bias = numbers(reservoir.input_weights), numbers(reservoir.bias)
    state, states = np.zeros(len(weights)), []
    for value in sequence:
        new = np.zeros_like(state)
        for unit in range(len(state)):
            activation = bias[unit, 0] + inputs[unit] @ value
            for source, weight in zip(sources[unit], weights[unit], strict=True):
                activation += weight * state[source]
            new[unit] = (1 - reservoir.leaking_rate) * state[unit] + reservoir.leaking_rate * math.tanh(activation)
        state = new
        states.append(state)
    return states


@pytest.mark.parametrize(
    ("features", "washout", "pick"),
    [
        ("last", 0, lambda states: states[27]),
        ("mean", 20, lambda states: np.mean(states[20:], axis=0)),
        ("snapshots", 0, lambda states: np.concatenate([states[t] for t in (6, 13, 20, 27)])),
        ("snapshots", 8, lambda states: np.concatenate([states[t] for t in (12, 17, 22, 27)])),
    ],
)
def test_reservoir_equals_its_equations(images: Tensor, features: Any, washout: int, pick: Any) -> None:
    net = EchoStateNetwork(units=20, connections=3, features=features, snapshots=4, washout=washout)
    expected = [pick(reservoir_states(net, numbers(image[0]))) for image in images]
    np.testing.assert_allclose(numbers(net.reservoir(net.sequence(images))), expected, atol=1e-5)


def test_snapshots_may_be_as_many_as_there_are_steps(images: Tensor) -> None:
    nets = [EchoStateNetwork(units=20, snapshots=28), EchoStateNetwork(units=20, features="last")]
    nets[1].load_state_dict(nets[0].state_dict() | nets[1].readout.state_dict(prefix="readout."))
    every, last = (numbers(net.reservoir(net.sequence(images))) for net in nets)
    assert every.shape == (5, 28 * 20)
    np.testing.assert_array_equal(every[:, -20:], last)


@pytest.mark.parametrize("units", [50, 300])  # all eigenvalues at once, and the largest alone
def test_reservoir_has_the_spectral_radius_that_is_asked_for(units: int) -> None:
    reservoir = EchoStateNetwork(units=units, spectral_radius=0.8, leaking_rate=0.4).reservoir
    matrix = np.zeros((units, units))
    for row, (sources, weights) in enumerate(zip(reservoir.sources, numbers(reservoir.weights), strict=True)):
        np.add.at(matrix[row], sources.numpy(), weights)
    assert abs(np.linalg.eigvals(matrix)).max() == pytest.approx(0.8, rel=1e-5)
    leaky = 0.6 * np.eye(units) + 0.4 * matrix
    assert reservoir.effective_radius() == pytest.approx(abs(np.linalg.eigvals(leaky)).max(), rel=1e-5)


def test_reservoir_without_echo_state_property_gives_a_warning_of_one_line() -> None:
    with pytest.warns(UserWarning, match=r"spectral_radius=1\.4") as caught:
        EchoStateNetwork(units=200, spectral_radius=1.4, leaking_rate=1.0)
    assert "\n" not in str(caught[0].message)
    with warnings.catch_warnings(action="error"):
        EchoStateNetwork(units=200, spectral_radius=0.99, leaking_rate=1.0)


def test_ridge_regression_equals_numpys_least_squares() -> None:
    generator = np.random.default_rng(0)
    features, targets = generator.normal(size=(40, 6)), generator.normal(size=(40, 3))
    rows = np.vstack([features, math.sqrt(0.7) * np.eye(6)])  # the penalty as six more equations
    expected, *_ = np.linalg.lstsq(rows, np.vstack([targets, np.zeros((6, 3))]))
    gram, cross = torch.from_numpy(features.T @ features), torch.from_numpy(features.T @ targets)
    np.testing.assert_allclose(ridge_regression(gram, cross, 0.7).T.numpy(), expected, atol=1e-12)


def esn_run(*overrides: str) -> tuple[EchoStateNetwork, ImageData, Any]:
    """500 digits in batches of 100, and a reservoir of 30 units."""
    size = ("model=esn", "model.units=30", "data.train_images_per_class=50", "data.batch_size=100", "~callbacks.plots")
    model, data, trainer = small_run(*size, *overrides)
    assert isinstance(model, EchoStateNetwork)
    assert data.train_split is not None
    data.val_split = data.train_split._replace(
        images=data.train_split.images[::3].roll(2, 3), labels=data.train_split.labels[::3]
    )
    return model, data, trainer


def numpy_outputs(model: EchoStateNetwork, data: ImageData, strength: float, images: Tensor) -> Array:
    """Outputs (N, 10) of a ridge regression on all training images at once."""

    def rows(images: Tensor) -> Array:
        states = numbers(model.reservoir(model.inputs(data.transform(images))))
        return np.hstack([states, np.ones((len(states), 1))])

    assert data.train_split is not None
    features, targets = rows(data.train_split.images), np.eye(10)[data.train_split.labels.numpy()]
    weights = np.linalg.solve(features.T @ features + strength * np.eye(features.shape[1]), features.T @ targets)
    return rows(images) @ weights


def test_the_readout_is_the_ridge_regression_that_validation_chooses() -> None:
    strengths = (1e-2, 10.0, 1e5)
    model, data, trainer = esn_run(f"model.ridge={list(strengths)}")
    trainer.fit(model, data)
    assert data.val_split is not None
    images, labels = data.val_split.images, data.val_split.labels.numpy()
    outputs = [numpy_outputs(model, data, strength, images) for strength in strengths]
    accuracies = [float((output.argmax(1) == labels).mean()) for output in outputs]
    best = int(np.argmax(accuracies))
    assert accuracies[best] > min(accuracies)
    metrics = trainer.callback_metrics
    assert float(metrics["val/accuracy"]) == pytest.approx(accuracies[best])
    assert float(metrics["val/ridge"]) == pytest.approx(strengths[best])
    error = ((outputs[best] - np.eye(10)[labels]) ** 2).mean()
    with torch.no_grad():
        logits = model(data.transform(images))
    np.testing.assert_allclose(numbers(logits), outputs[best] / error, rtol=1e-3, atol=1e-2)
    [measured] = trainer.validate(model, data, verbose=False)
    assert measured["val/accuracy"] == pytest.approx(accuracies[best])
    assert measured["val/loss"] == pytest.approx(float(metrics["val/loss"]), rel=1e-3)


def test_the_same_readout_comes_from_batches_of_any_size() -> None:
    readouts = []
    for size in (100, 37):
        model, data, trainer = esn_run(f"data.batch_size={size}", "model.ridge=[0.1]")
        trainer.fit(model, data)
        readouts.append(model.readout.weight.detach())
    torch.testing.assert_close(readouts[0], readouts[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("limit", "steps"), [("check_val_every_n_epoch=9", 5), ("max_steps=3", 3)])
def test_the_readout_is_solved_without_validation_and_within_an_epoch(limit: str, steps: int) -> None:
    model, data, trainer = esn_run(f"trainer.{limit}", "model.ridge=[0.1,1.0]")
    trainer.fit(model, data)
    [metrics] = trainer.validate(model, data, verbose=False)
    assert trainer.global_step == steps
    assert metrics["val/accuracy"] > 0.4  # chance is 0.1


def test_checkpoint_of_an_echo_state_network_holds_its_readout() -> None:
    run_well(*PLAIN, "model=esn", "model.units=100", "data.batch_size=100")
    folder = only_run()
    results = results_of(folder)
    checkpoint = checkpoint_of(folder, "best")
    assert results["epochs"] == 1
    assert results["val/accuracy"] > 0.7
    assert results["parameters"] == 7010
    assert "ridge_sums" not in checkpoint
    assert checkpoint["optimizer_states"] == []
    run_well("task=test", f"ckpt_path={folder}/checkpoints/best.ckpt")
    (other,) = (path for path in folder.parent.iterdir() if path != folder)
    assert results_of(other)["val/accuracy"] == pytest.approx(results["val/accuracy"])


SMALL_RESERVOIR = (
    *(*PLAIN, "model=esn", "model.units=50", "data.batch_size=40"),
    *("data/augment=crop", "trainer.max_epochs=2"),
)
STOPS = {  # of 10 batches per epoch
    **{f"batch {batch}": Moment(EchoStateNetwork, "training_step", batch) for batch in (1, 7, 10, 14, 19, 20)},
    **{f"validation {n}": Moment(EchoStateNetwork, "on_validation_epoch_end", n) for n in (1, 2)},
    "the end": Moment(EchoStateNetwork, "on_train_end", 1),
}


@pytest.mark.extended
@pytest.mark.parametrize("moment", STOPS.values(), ids=STOPS)
def test_a_pass_that_was_stopped_goes_on_to_the_same_readout(moment: Moment, tmp_path: Path) -> None:
    straight, stopped = (f"hydra.run.dir={tmp_path}/{name}" for name in ("straight", "stopped"))
    run_well(*SMALL_RESERVOIR, straight)
    assert stop((*SMALL_RESERVOIR, stopped), moment, signal.SIGINT).status == 130
    has_images_left = moment.method == "training_step" and moment.call < 20
    assert ("ridge_sums" in checkpoint_of(tmp_path / "stopped")) or not has_images_left
    run_well(f"ckpt_path={tmp_path}/stopped/checkpoints/last.ckpt")
    ends = [checkpoint_of(tmp_path / name)["state_dict"]["readout.weight"] for name in ("straight", "stopped")]
    assert torch.equal(*ends)
    results = [results_of(tmp_path / name)["val/accuracy"] for name in ("straight", "stopped")]
    assert results[0] == results[1]


@pytest.mark.parametrize("more", ["trainer.max_epochs=3", "trainer.max_epochs=-1", "trainer.max_epochs=null"])
def test_finished_pass_is_not_gone_on_with_without_its_sums(more: str) -> None:
    run_well(*SMALL_RESERVOIR)
    folder = only_run()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    last = f"ckpt_path={folder}/checkpoints/last.ckpt"
    assert_one_line(run(last, more), "trainer.max_epochs", "start a new run")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert "nothing was left" in run_well(last).out


def clockwork_states(net: ClockworkRNN, sequence: Array) -> Array:
    """Koutník et al. 2014, section 3, for one sequence (T, F): the full W_H, with zeros below its diagonal blocks."""
    layer, periods = net.clockwork, net.clockwork.periods
    size = layer.group_size
    recurrent = np.zeros((layer.units, layer.units))
    for group in range(len(periods)):
        rows = slice(group * size, (group + 1) * size)
        recurrent[rows, group * size :] = numbers(layer.get_parameter(f"recurrent_{group}"))
    inputs = np.vstack([numbers(layer.get_parameter(f"input_{group}")) for group in range(len(periods))])
    bias = np.concatenate([numbers(layer.get_parameter(f"bias_{group}")) for group in range(len(periods))])
    state = np.zeros(layer.units)
    for step, value in enumerate(sequence):
        new = np.tanh(recurrent @ state + inputs @ value + bias)
        active = np.array([step % periods[unit // size] == 0 for unit in range(layer.units)])
        state = np.where(active, new, state)
    return state


@pytest.mark.parametrize("periods", [(1,), (1, 2, 4, 8), (1, 3, 5), (5, 1, 3), (2, 2, 7)])
@pytest.mark.parametrize("reading", ["rows", "columns"])
def test_clockwork_equals_its_equations(images: Tensor, periods: Sequence[int], reading: Any) -> None:
    net = ClockworkRNN(units=4 * len(periods), periods=periods, reading=reading)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    sequences = [image[0] if reading == "rows" else image[0].T for image in images]
    expected = [clockwork_states(net, numbers(sequence)) for sequence in sequences]
    np.testing.assert_allclose(numbers(net.clockwork(net.sequence(images))), expected, atol=1e-5)


def test_clockwork_has_only_what_it_reads_and_computes_only_active_groups() -> None:
    net, elman = ClockworkRNN(units=64, periods=(1, 2, 4, 8)), Recurrent("elman", units=64)
    assert parameters(net) == 28 * 64 + 16 * 16 * (4 + 3 + 2 + 1) + 64 + 650
    assert parameters(net) < parameters(elman)
    for model in (net, elman):
        model.example_input_array = torch.zeros(1, 1, 28, 28)
    steps = (28, 14, 7, 4)  # at which each group is active; the first has no state to read
    assert multiply_adds(net) == sum(count * 16 * 28 + (count - 1) * 16 * 64 for count in steps) + 640
    assert multiply_adds(elman) == 28 * 64 * (28 + 64) + 640


@pytest.mark.parametrize(("cell", "gates"), [("elman", 1), ("lstm", 4), ("gru", 3)])
def test_operations_of_every_cell_are_counted(cell: Any, gates: int) -> None:
    net = Recurrent(cell, units=32)
    net.example_input_array = torch.zeros(1, 1, 28, 28)
    assert multiply_adds(net) == gates * 28 * 32 * (28 + 32) + 320


def test_operations_of_a_reservoir_are_those_of_its_connections() -> None:
    net = EchoStateNetwork(units=200, connections=7)
    net.example_input_array = torch.zeros(1, 1, 28, 28)
    assert multiply_adds(net) == 28 * 200 * (28 + 7) + 14000
    assert [(layer.name, layer.output) for layer in trace(net, net.example_input_array)] == [
        ("reservoir", (1400,)),
        ("readout", (10,)),
    ]


def test_the_nets_compared_have_as_many_parameters_to_a_percent() -> None:
    reference = parameters(ClockworkRNN())
    cells: dict[Any, int] = {**COMPARABLE_UNITS}
    for cell, units in cells.items():
        assert parameters(Recurrent(cell, units)) == pytest.approx(reference, rel=0.01)


@pytest.mark.parametrize("reading", ["rows", "columns", "pixels"])
@pytest.mark.parametrize("name", ["esn", "clockwork_rnn", "recurrent"])
def test_every_net_reads_rows_columns_and_pixels(name: str, reading: str, images: Tensor) -> None:
    units = 100
    net = instantiate(
        compose(f"model={name}", f"model.units={units}", f"model.reading={reading}").model, _convert_="all"
    )
    assert isinstance(net, SequenceClassifier)
    assert net.sequence(images).shape == ((5, 784, 1) if reading == "pixels" else (5, 28, 28))
    with torch.no_grad():
        assert net(images).shape == (5, 10)


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        ("model=esn model.reading=diagonal", "model.reading"),
        ("model=esn model.leaking_rate=0", "model.leaking_rate"),
        ("model=esn model.features=first", "model.features"),
        ("model=esn model.washout=25", "washout"),
        ("model=esn model.snapshots=29", "snapshots"),
        ("model=esn model.ridge=[0.1,0]", "model.ridge"),
        ("model=esn model.ridge=[]", "model.ridge"),
        ("model=esn model.units=0", "model.units"),
        ("model=esn model.spectral_radius=-1", "model.spectral_radius"),
        ("model=clockwork_rnn model.periods=[1,0]", "model.periods"),
        ("model=clockwork_rnn model.periods=[]", "model.periods"),
        ("model=clockwork_rnn model.units=30", "units"),
        ("model=recurrent model.cell=tanh", "model.cell"),
    ],
)
def test_a_mistake_is_answered_in_one_line(overrides: str, key: str) -> None:
    outcome = run(*overrides.split(), "data=mnist_5k", "trainer.accelerator=cpu")
    assert outcome.status == 2
    assert key in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["esn", "clockwork_rnn", "recurrent"])
def test_every_net_reads_images_of_other_sizes(name: str) -> None:
    model, _, _ = small_run(f"model={name}", "model.units=100", "data.image_size=32")
    assert isinstance(model, SequenceClassifier)
    with torch.no_grad():
        assert model(torch.zeros(2, 1, 32, 32)).shape == (2, 10)


def test_a_step_sees_all_channels() -> None:
    images = torch.rand(2, 3, 8, 8)
    rows, columns, pixels = (
        SequenceClassifier(reading, in_channels=3, image_size=8).sequence(images)
        for reading in ("rows", "columns", "pixels")
    )
    assert torch.equal(rows[:, 5], images[:, :, 5].flatten(1))
    assert torch.equal(columns[:, 5], images[:, :, :, 5].flatten(1))
    assert torch.equal(pixels[:, 13], images[:, :, 1, 5])


def test_sums_of_a_checkpoint_follow_the_net_to_its_device() -> None:
    """A checkpoint is loaded before the net is on a GPU; meta stands for one."""
    net = EchoStateNetwork(units=4)
    net.on_load_checkpoint({"ridge_sums": (torch.zeros(5, 5), torch.zeros(5, 10))})
    net.to("meta").on_fit_start()
    assert net.ridge_sums is not None
    assert {sums.device.type for sums in net.ridge_sums} == {"meta"}


def test_background_drives_nothing_in_an_echo_state_network() -> None:
    net = EchoStateNetwork(units=20)
    images = torch.stack([torch.full((1, 28, 28), -1.0), torch.ones(1, 28, 28)])
    assert [part.unique().tolist() for part in net.inputs(images)] == [[0], [1]]
    images = torch.rand(3, 1, 28, 28) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(net(images), net.readout(net.reservoir((images[:, 0] + 1) / 2)))


def test_input_weights_and_biases_are_uniform_within_the_input_scaling() -> None:
    reservoir = EchoStateNetwork(units=1000, input_scaling=0.2).reservoir
    for values in (reservoir.input_weights, reservoir.bias):
        assert -0.2 <= values.min() < -0.19
        assert 0.19 < values.max() <= 0.2
        assert values.mean().abs() < 0.02


def test_weights_of_a_clockwork_rnn_start_with_one_over_the_root_of_their_inputs() -> None:
    layer = ClockworkRNN().clockwork
    for group, columns in enumerate((256, 192, 128, 64)):
        for name, inputs in (("recurrent", columns), ("input", 28)):
            weight = layer.get_parameter(f"{name}_{group}").detach()
            assert weight.shape == (64, inputs)
            assert weight.std().item() == pytest.approx(inputs**-0.5, rel=0.1)


CELLS: dict[str, Any] = {"elman": nn.RNNCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}


@pytest.mark.parametrize("cell", COMPARABLE_UNITS)
def test_recurrent_net_classifies_by_its_last_state(cell: Any) -> None:
    net, images = Recurrent(cell, units=6), torch.rand(5, 1, 28, 28) * 2 - 1
    step = CELLS[cell](28, 6)
    step.load_state_dict({name.removesuffix("_l0"): value for name, value in net.recurrent.state_dict().items()})
    state: Any = None
    for row in range(28):
        state = step(images[:, 0, row], state)
    last: Tensor = state[0] if cell == "lstm" else state
    torch.testing.assert_close(net(images), net.readout(last))
