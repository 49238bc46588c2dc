"""Isolation of imports: a workflow file may treat the process as a script treats its own, without effect on other files.

An import restores the working directory, the umask, signals, the locale, warnings, the standard streams, and logging as far as dbos and
this package rely on it. It keeps what the file itself needs later: environment variables, the import path, its own loggers. A file that
does not load needs nothing: its variables and its entries in the import path are removed too. Threads that it started cannot be ended.
"""

import asyncio
import locale
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager

from durable_workflows.system.processes import MARKER

_OURS = {"root", "dbos", "durable_workflows"}  # the loggers, with those below them

Restore = Callable[[], object]


@contextmanager
def isolated() -> Generator[None]:
    """Undo changes to the process at the end, and more of them after an exception. For the main thread, while no event loop runs in it."""
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        for keep in (_directory, _umask, _marker, _signals, _locale, _streams, _loggers, _loop):
            stack.callback(keep())
        needed_later = [keep() for keep in (_environment, _import_path)]
        try:
            yield
        except BaseException:
            for restore in needed_later:
                restore()
            raise


def _directory() -> Restore:
    folder = os.getcwd()
    return lambda: os.chdir(folder)


def _umask() -> Restore:
    mask = os.umask(0o077)
    os.umask(mask)
    return lambda: os.umask(mask)


def _marker() -> Restore:
    marker = os.environ.get(MARKER)
    return lambda: None if marker is None else os.environ.update({MARKER: marker})


def _environment() -> Restore:
    before = dict(os.environ)

    def restore() -> None:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)

    return restore


def _import_path() -> Restore:
    before = list(sys.path)

    def restore() -> None:
        sys.path[:] = before

    return restore


def _signals() -> Restore:
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    timer = signal.getitimer(signal.ITIMER_REAL)

    def restore() -> None:
        signal.setitimer(signal.ITIMER_REAL, *timer)  # another one's signal would end the process
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for number, handler in handlers.items():
            if handler is not None and signal.getsignal(number) != handler:
                signal.signal(number, handler)

    return restore


def _locale() -> Restore:
    name = locale.setlocale(locale.LC_ALL)
    return lambda: locale.setlocale(locale.LC_ALL, name)


def _streams() -> Restore:
    streams = sys.stdin, sys.stdout, sys.stderr

    def restore() -> None:
        sys.stdin, sys.stdout, sys.stderr = streams

    return restore


def _loggers() -> Restore:
    """Of other loggers only whether they are enabled: `logging.config` disables all loggers that it is not told of."""
    known = [one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger)]  # fmt: skip
    enabled = [one for one in [logging.root, *known] if not one.disabled]
    ours = [
        (one, one.level, one.propagate, list(one.handlers), list(one.filters))
        for one in [logging.root, *known]
        if one.name.split(".")[0] in _OURS
    ]
    disabled_below = logging.root.manager.disable

    def restore() -> None:
        logging.disable(disabled_below)
        for one in enabled:
            one.disabled = False
        for one, level, propagate, handlers, filters in ours:
            one.setLevel(level)
            one.propagate, one.handlers[:], one.filters[:] = propagate, handlers, filters

    return restore


def _loop() -> Restore:
    """The main thread of a script has an event loop that is not running."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    def restore() -> None:
        asyncio.set_event_loop(None)
        loop.close()

    return restore
