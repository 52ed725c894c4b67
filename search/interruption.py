"""Ending in order when a signal asks for it: Ctrl-C, the SIGTERM of a batch system or a pod, the SIGHUP of a terminal that is lost."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """Raised where the main thread is when a signal asks the program to end."""


@dataclass
class Interruption:
    """Which signal, if any, has asked the program to end."""

    number: int | None = None

    @property
    def exit_code(self) -> int:
        """As a shell has it: 130 of SIGINT, 143 of SIGTERM, 129 of SIGHUP."""
        assert self.number is not None
        return 128 + self.number


@contextmanager
def interruptible(watch: Callable[[Interruption], None] | None = None) -> Iterator[Interruption]:
    """The first signal raises `Interrupted`; while the program then ends, a second one is not waited for.

    SIGHUP stays ignored where it is, by nohup. A lost terminal may send it more than once, so it is never a second signal.

    Args:
        watch: called in a thread of its own while the program ends.
    """
    interruption = Interruption()

    def interrupt(number: int, frame: FrameType | None) -> None:
        interruption.number = number
        for one in before:
            signal.signal(one, signal.SIG_IGN if one == signal.SIGHUP else _AT_ONCE)
        if watch is not None:
            threading.Thread(target=watch, args=(interruption,), name="interruption", daemon=True).start()
        raise Interrupted

    nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    before = {one: signal.getsignal(one) for one in ASKING if not (nohup and one == signal.SIGHUP)}
    for one in before:
        signal.signal(one, interrupt)
    try:
        yield interruption
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)


# The first process of a container is spared what it would die of by default.
_AT_ONCE = _end if os.getpid() == 1 else signal.SIG_DFL


@contextmanager
def handler_kept() -> Iterator[None]:
    """Around `ray.init`: the process keeps its handler of SIGTERM, and Ray's own processes live on when the terminal is lost.

    Ray puts two in the handler's place: one of Python, and below it a native one of Abseil's that aborts the process three seconds after
    the signal. Setting Python's again takes both away. Where there was none Ray's of Python stays. Ray's processes are in the
    driver's process group, and inherit that SIGHUP is blocked: without them no driver can end in order.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    own = signal.getsignal(signal.SIGTERM)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    asked = interrupted = False
    try:
        yield
    except Interrupted:  # it has set what a second signal does
        interrupted = True
        raise
    except SystemExit as error:
        asked = error.code == signal.SIGTERM  # by Ray's handler
        raise
    finally:
        if not interrupted:
            signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM) if own in (signal.SIG_DFL, None) else own)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        if asked:
            signal.alarm(0)  # the three seconds
            signal.raise_signal(signal.SIGTERM)
