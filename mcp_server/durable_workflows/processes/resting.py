"""The supervisor of a project in which all runs wait, as a small process.

It sleeps until the next run is due, then becomes the supervisor again. It is a script that imports only the standard library: 10 MB instead
of the
50 MB of a supervisor. It keeps the supervisor's lock, so no other supervisor starts beside it. A client that needs the database ends it
first.
"""

import os
import signal
import sys
import time

_LONGEST_SECONDS = 60.0  # the clock of a sleep stands still while the machine is suspended
_EARLY_SECONDS = 2.0  # the database needs that long to start


def main() -> None:
    """The process's entry: `resting.py --project DIR supervisor --project DIR UNTIL DIRECTORY DESCRIPTOR COMMAND…`.

    UNTIL is in seconds since 1970. The process exits when the directory, which the descriptor refers to, has left its place.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    until, directory, descriptor, *command = sys.argv[6:]
    while (left := float(until) - _EARLY_SECONDS - time.time()) > 0:
        if not _is_at(directory, int(descriptor)):
            return
        time.sleep(min(left, _LONGEST_SECONDS))
    os.execv(command[0], command)


def _is_at(directory: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(directory), os.fstat(descriptor))
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    main()
