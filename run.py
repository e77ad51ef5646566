"""Classic nets: one command composes model x data x trainer x task into a run.

python run.py model=lenet data=mnist trainer.max_epochs=10
python run.py -m model=lenet,alexnet seed=0,1,2              # a sweep: one folder per job, one table at the end
python run.py task=test ckpt_path=outputs/.../best.ckpt      # no model= or data=: the checkpoint knows them
"""

import argparse
import atexit
import gc
import io
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads make other jobs up to 6 times slower
SHOW_TRACEBACK = os.environ.get("HYDRA_FULL_ERROR") == "1"
os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises its errors, and main() prints them in one line

import hydra  # noqa: E402
from hydra.core.hydra_config import HydraConfig  # noqa: E402
from hydra.types import RunMode  # noqa: E402
from hydra.utils import get_method  # noqa: E402
from omegaconf import DictConfig, OmegaConf  # noqa: E402

PROJECT = str(Path(__file__).parent.resolve())
CONF = str(Path(PROJECT, "conf"))
sys.path.insert(0, PROJECT)  # `_target_: classic_cnn...`, wherever run.py is called from


def resolver(function: str) -> Any:
    """A function by its name, imported when it is called: what a command does not use, it does not wait for."""
    return lambda *arguments: get_method(function)(*arguments)


for name in ("sweep_folder", "job_folder"):
    OmegaConf.register_new_resolver(name, resolver(f"tasks.sweeps.{name}"), use_cache=True, replace=True)


def any_key(arguments: list[str]) -> list[str]:
    """Lets KEY=VALUE set what the YAML files leave out, as ++KEY=VALUE does: `tasks.config` checks all keys.

    >>> any_key(["model=lenet", "model/optimizer=sgd", "model.optimizer.betas=[0.5,0.9]", "-m"])
    ['model=lenet', 'model/optimizer=sgd', '++model.optimizer.betas=[0.5,0.9]', '-m']
    """
    if any(text.startswith("ckpt_path=") for text in arguments):  # its run's options are this command's too
        arguments = get_method("tasks.saved_config.add_choices")(arguments)
    return [*map(get_method("tasks.overrides.as_override"), arguments)]


def compose(*overrides: str) -> DictConfig:
    """The config that `python run.py OVERRIDES` runs, for use from Python: `run_task(compose("model=lenet"))`."""
    with hydra.initialize_config_dir(CONF, version_base="1.3"):
        return hydra.compose("config", any_key(list(overrides)), return_hydra_config=True)


@hydra.main(version_base="1.3", config_path=CONF, config_name="config")
def job(cfg: DictConfig) -> float | None:
    """One run. In a sweep a failing job is reported and the others go on."""
    try:
        return get_method("tasks.run_task.run_task")(cfg, HydraConfig.get())
    except Exception as error:
        is_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
        if is_sweep:
            print(f"{Path(HydraConfig.get().runtime.output_dir).name}: ", end="", file=sys.stderr)  # of which job
        status = get_method("tasks.messages.report")(error, SHOW_TRACEBACK)
        if not is_sweep:
            raise SystemExit(status) from error  # past Hydra's own way of printing errors
        return float("nan")


def refuse_option(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    """In one line, where argparse would print all options before it."""
    raise ValueError(f"{message}: see python run.py --help")


class Outlasting(io.FileIO):
    """Where a command prints, although the reader may end first: Ctrl-C in `python run.py | tee log` ends both."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            with open(os.devnull, "wb") as nothing:
                os.dup2(nothing.fileno(), self.fileno())  # what is printed from now on is lost
            return len(data)


def outlast(stream: Any) -> Any:
    """Standard output or error, so that it does not fail when its reader has ended."""
    if stream is None or stream not in (sys.__stdout__, sys.__stderr__) or stream.isatty():
        return stream
    buffer = io.BufferedWriter(Outlasting(stream.fileno(), "w", closefd=False))
    options = {"line_buffering": stream.line_buffering, "write_through": stream.write_through}
    return io.TextIOWrapper(buffer, stream.encoding, stream.errors, **options)


def stop_at_once(number: int, frame: FrameType | None) -> NoReturn:
    """Ends a command whose task has not begun, or is done by other processes; an import could catch an exception."""
    for again in (signal.SIGINT, signal.SIGTERM):
        signal.signal(again, signal.SIG_DFL)
    if of_sweep("stop_jobs"):
        sys.exit(128 + number)  # out of the launcher that waits for them; main() goes on
    text = of_sweep("how_to_go_on")
    with suppress(OSError):  # whoever reads may have been stopped, too
        os.write(1 if text else 2, (text or "Stopped before the task began.\n").encode())  # print() may be at work
    of_sweep("clean_up")
    os._exit(128 + number)


def of_sweep(function: str) -> Any:
    """Calls a function of `tasks.sweeps`, if that has been imported, wholly."""
    return getattr(sys.modules.get("tasks.sweeps"), function, lambda: None)()


def main() -> None:
    """The command line: status 0 for success, 1 for a failure, 2 for a user's mistake, 130 or 143 when stopped."""
    atexit.register(gc.freeze)  # Python would search all modules for garbage before it ends
    parser: Any = argparse.ArgumentParser  # Hydra makes one itself, which it cannot be given
    usual_error, parser.error = parser.error, refuse_option
    sys.stdout, sys.stderr = map(outlast, (sys.stdout, sys.stderr))
    before = {number: signal.signal(number, stop_at_once) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if any(text.startswith("hydra/launcher=submitit") for text in sys.argv):  # whose jobs have to find this project
            paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
            os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, dict.fromkeys([PROJECT, *paths])))
        sys.argv[1:] = any_key(sys.argv[1:])
        job()
    except Exception as error:
        status = get_method("tasks.messages.report")(error, SHOW_TRACEBACK)
        print(of_sweep("how_to_go_on") or "", end="", flush=True)
        sys.exit(status)
    except KeyboardInterrupt:
        sys.exit(130)
    except SystemExit as end:
        if end.code in (130, 143):
            print(of_sweep("how_to_go_on") or "", end="", flush=True)
        raise
    finally:
        of_sweep("clean_up")
        parser.error = usual_error
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    main()
