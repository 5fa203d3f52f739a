"""Stopping between two updates when the system asks for it."""

import os
import select
import signal
import sys
import threading
from types import FrameType
from typing import Any

# Ctrl-C and kill; a terminal that is closed; what a cluster sends before time is up; a limit of CPU time.
STOP = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGXCPU")
# A second signal of these comes from somebody in a hurry. The others repeat by themselves: the shell repeats the
# terminal's signal, and the limit of CPU time sends one after each further second.
IMPATIENT = ("SIGINT", "SIGTERM")


class StopSignals:
    """Inside `with`, a first signal of `STOP` sets `received`; a second SIGINT or SIGTERM ends the process as usual.

    A signal that is ignored stays ignored, as SIGHUP under `nohup` and SIGINT in the background of a script.
    """

    def __init__(self) -> None:
        self._received = False
        self._before: dict[int, Any] = {}

    @property
    def received(self) -> bool:
        if self._received:
            silence_lost_output()
        return self._received

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in (getattr(signal, name) for name in STOP if hasattr(signal, name)):
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received = True
        self._restore(*(getattr(signal, name) for name in IMPATIENT))

    def _restore(self, *numbers: int) -> None:
        for number in numbers:
            if number in self._before:
                signal.signal(number, self._before.pop(number))

    def __exit__(self, *_: object) -> None:
        self._restore(*self._before)


def silence_lost_output() -> None:
    """Send standard output and error nowhere if nobody reads them any more, so that writing does not fail.

    That is so for a terminal that was closed, and for a pipe to a program that ended with the terminal.
    """
    if sys.platform == "win32":
        return
    for descriptor in (1, 2):
        poll = select.poll()
        poll.register(descriptor, 0)
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
