"""hydra/launcher=submitit_local: a sweep whose job the cluster stops and starts again, and then kills for good."""

import os
import re
import shlex
import signal
import time
from pathlib import Path

import pytest
from command_line import PLAIN, checkpoint_of, finish, results_of, start

pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="pip install hydra-submitit-launcher")

SWEEP = (
    *("-m", "model=lenet", "seed=0", *PLAIN, "data.batch_size=5", "trainer.max_epochs=4", "trainer/logger=none"),
    "hydra/launcher=submitit_local",
)


def process_after_epochs(epochs: int) -> int:
    """The process that does the only job there is, as soon as so many epochs are in a checkpoint of it."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        said = "".join(path.read_text() for path in Path().rglob(".submitit/*/*_log.out"))
        if f"epoch {epochs}/4" in said and list(Path().rglob("last.ckpt")):
            [folder] = (path.parent for path in Path().rglob(".submitit/*/*_submitted.pkl"))
            controller = folder.name
            return int(Path(f"/proc/{controller}/task/{controller}/children").read_text().split()[0])
        time.sleep(0.01)
    raise AssertionError("the job has not come so far")


@pytest.mark.slow  # five processes, one after the other
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the process is found in /proc")
def test_preempted_job_is_started_again_and_a_killed_one_goes_on_with_the_sweep() -> None:
    sweep = start(*SWEEP)
    first = process_after_epochs(1)
    os.kill(first, signal.SIGUSR2)  # as submitit has SLURM tell that the place of a job is needed
    second = process_after_epochs(2)
    assert second != first
    os.kill(second, signal.SIGKILL)
    outcome = finish(sweep)
    assert outcome.status == 2
    assert (outcome.err.count("\n"), ".submitit/" in outcome.err) == (1, True), outcome.err
    [job] = Path().glob("outputs/sweeps/*/0*")
    assert results_of(job)["status"] == "interrupted"
    [command] = re.findall(r"^To go on with the sweep: python run.py (.+)$", outcome.out, re.MULTILINE)
    outcome = finish(start(*shlex.split(command)))
    assert (outcome.status, outcome.err) == (0, "")
    assert results_of(job)["status"] == "finished"
    assert checkpoint_of(job)["global_step"] == 4 * 80
    said = [path.read_text() for path in sorted(Path().rglob(".submitit/*/*_log.out"), key=os.path.getmtime)]
    assert [text.count("epoch 1/4") for text in said] == [1, 0]  # each process went on with the latest checkpoint
