"""task=demo in a browser: a drawn stroke changes the prediction, and nobody outside is asked."""

import signal
import socket
from pathlib import Path

import pytest
from browser import chromium, needs_chromium, new_page, screenshot
from command_line import finish, only_run, results_of, run, start

pytestmark = pytest.mark.extended


@needs_chromium
def test_drawn_strokes_change_the_prediction(trained: Path) -> None:
    process = start("task=demo", f"ckpt_path={trained}/checkpoints/best.ckpt", "task.port=0", "trainer.accelerator=cpu")
    assert process.stdout is not None
    try:
        address = next(line.split()[-1] for line in process.stdout if line.startswith("draw at"))
        assert address.startswith("http://127.0.0.1:")
        outside: list[str] = []
        with chromium() as browser, new_page(browser, outside) as tab:
            tab.goto(address)
            box = tab.locator("canvas").bounding_box()
            assert box is not None
            assert tab.locator("#classes tbody tr").count() == 0

            def stroke(*points: tuple[int, int]) -> None:
                """A line through points of the 280x280 canvas; waits for the answer to its end."""
                places = [(box["x"] + x, box["y"] + y) for x, y in points]
                tab.mouse.move(*places[0])
                tab.mouse.down()
                for place in places[1:]:
                    tab.mouse.move(*place, steps=5)
                tab.mouse.up()
                tab.locator("main[aria-busy=false]").wait_for()

            def best() -> str:
                return tab.locator("#classes td.best").first.inner_text()

            stroke((140, 40), (140, 240))
            assert best() == "1"
            assert tab.locator("#classes tbody tr").count() == 10
            assert tab.locator("#layers img").count() == 2
            screenshot(tab, "demo_one")
            before = tab.locator("#classes").inner_text()
            stroke((60, 40), (140, 40))
            assert tab.locator("#classes").inner_text() != before
            tab.get_by_text("Clear").click()
            tab.locator("main[aria-busy=false]").wait_for()
            assert tab.locator("#classes tbody tr").count() == 0
            stroke((140, 50), (90, 80), (75, 140), (90, 200), (140, 230), (190, 200), (205, 140), (190, 80), (140, 50))
            assert best() == "0"
            screenshot(tab, "demo_zero")
        assert outside == []
    finally:
        process.send_signal(signal.SIGINT)
        outcome = finish(process)
    assert outcome.status == 0
    assert outcome.err == ""
    results = results_of(only_run())
    assert (results["task"], results["status"]) == ("demo", "finished")
    assert results["drawings"] > 2


@needs_chromium
def test_without_a_checkpoint_published_nets_are_side_by_side_and_a_gan_draws() -> None:
    process = start("task=demo", "task.port=0", "trainer.accelerator=cpu")
    assert process.stdout is not None
    try:
        address = next(line.split()[-1] for line in process.stdout if line.startswith("draw at"))
        outside: list[str] = []
        with chromium() as browser, new_page(browser, outside) as tab:
            tab.goto(address)
            tab.locator("#generator[aria-busy=false]").wait_for()
            first = tab.locator("#made").get_attribute("src")

            def change(control: str, value: str) -> None:
                tab.locator(control).fill(value)
                tab.locator("#generator[aria-busy=false]").wait_for()

            change("#label", "7")
            assert tab.locator("#name").inner_text() == "7"
            seventh = tab.locator("#made").get_attribute("src")
            change("#position", "0.5")
            assert len({first, seventh, tab.locator("#made").get_attribute("src")}) == 3
            tab.get_by_text("Classify this image").click()
            tab.locator("main[aria-busy=false]").wait_for()
            assert tab.locator("#classes th").all_inner_texts()[1:3] == [
                "LeNet5 (lenet_mnist)",
                "EchoStateNetwork (esn_mnist)",
            ]
            assert tab.locator("#classes td.best").first.inner_text() == "7"
            assert tab.locator("#classes tbody tr").count() == 10
            screenshot(tab, "demo_published")
        assert outside == []
    finally:
        process.send_signal(signal.SIGINT)
        assert finish(process).status == 0


@pytest.mark.parametrize(
    "mistake", ["ckpt_path=none.ckpt", "ckpt_path=published/x", "task.port=70000", "task.port=true"]
)
def test_mistake_is_answered_in_one_line(mistake: str, trained: Path) -> None:
    checkpoint = () if mistake.startswith("ckpt_path") else (f"ckpt_path={trained}/checkpoints/best.ckpt",)
    outcome = run("task=demo", *checkpoint, mistake)
    assert outcome.status == 2
    assert mistake.split("=")[0] in outcome.err
    assert outcome.err.count("\n") == 1


def test_port_in_use_is_answered_in_one_line(trained: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        outcome = run("task=demo", f"ckpt_path={trained}/checkpoints/best.ckpt", f"task.port={port}")
    assert outcome.status == 2
    assert f"task.port={port}" in outcome.err
    assert outcome.err.count("\n") == 1
