"""Ctrl-C and SIGTERM while a task is at work."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stoppable() -> Iterator[None]:
    """Makes SIGTERM and Ctrl-C exits that can be recorded, and restores their earlier handlers afterwards."""

    def terminate(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    try:
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        signal.signal(signal.SIGTERM, terminate)
        signal.signal(signal.SIGINT, signal.default_int_handler)
    except ValueError:  # not in the main thread, which alone gets signals
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def signal_of(stop: BaseException) -> signal.Signals:
    """The signal behind an exit: `train` tells it by its status, Lightning by an exception of its own for SIGTERM."""
    by_lightning = type(stop).__name__ == "SIGTERMException"
    by_status = isinstance(stop, SystemExit) and stop.code == 128 + signal.SIGTERM
    return signal.SIGTERM if by_lightning or by_status else signal.SIGINT
