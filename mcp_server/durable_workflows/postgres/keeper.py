"""A small process between the supervisor and Postgres, on the standard library only: it is started as a file, by its path.

`keeper.py --project P --data D --log L --port N --user U --group G -- postgres …` runs the server with that user and group (-1: the present ones). It
says on stdout when the server accepts clients, and shuts the server down when its stdin is closed: when the supervisor ends, however it ends.
On Linux the server is also shut down when this process is killed.

`keeper.py --become PARENT U G -- program …` becomes that program. The program ends with the process PARENT, on Linux.
"""

import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

_POLL_SECONDS = 0.02
_FAST_SECONDS = 4.0  # for a shutdown that writes everything; the next start recovers after another
_IMMEDIATE_SECONDS = 1.5
_PORTS = 5  # free ports that another program may take before the server does
_LINUX = sys.platform == "linux"
# From <linux/prctl.h>, <linux/securebits.h> and <linux/capability.h>.
_PDEATHSIG, _KEEPCAPS, _SECUREBITS, _AMBIENT, _RAISE = 1, 8, 28, 47, 2
_NO_SETUID_FIXUP = 1 << 2
_DAC_OVERRIDE, _CAPABILITY_VERSION = 1, 0x20080522
# What Postgres says of a directory that it cannot open. Its messages are in English: the directory is made so.
_DAMAGE = (
    "PANIC:",
    "could not open directory",
    "could not open file",
    "could not read file",
    "could not locate a valid checkpoint",
    "could not find redo location",
    "incompatible with",
    "incorrect checksum",
    "invalid data in",
    "is not a valid",
    "bogus data in",
    "required WAL directory",
)
_OTHER_POSTGRES = re.compile(
    r"The \w+ \w+ was initialized (?:by PostgreSQL version|with CATALOG_VERSION_NO) .*"
)


def main() -> None:
    own, command = _divided(sys.argv[1:])
    if own[0] == "--become":
        parent, user, group = map(int, own[1:])
        become(parent, user, group, command)
    given = dict(zip(own[::2], own[1::2], strict=True))
    sys.stdin.buffer.readline()  # no secret is for this process
    data, log = Path(given["--data"]), Path(given["--log"])
    server = _Server(data, log, [given["--user"], given["--group"]], command)
    server.run(int(given["--port"]))


def become(parent: int, user: int, group: int, command: list[str]) -> None:
    """Become another program, perhaps as another user, that ends with its parent."""
    if user >= 0:
        _leave_root(user, group)
    if _LINUX:  # after the change of user, which would undo it
        ctypes.CDLL(None).prctl(_PDEATHSIG, int(signal.SIGINT), 0, 0, 0)
        if os.getppid() != parent:  # it has ended meanwhile
            sys.exit(1)
    os.execv(command[0], command)


def _leave_root(user: int, group: int) -> None:
    """Become that user for good, but go on to reach files where the user could not: below root's own folders."""
    libc = ctypes.CDLL(None, use_errno=True)
    # Capabilities outlive the change of user. With the first of the two, access() respects them too, by which Postgres finds its programs.
    if _LINUX and libc.prctl(_SECUREBITS, _NO_SETUID_FIXUP, 0, 0, 0) != 0:
        libc.prctl(_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(group)
    os.setuid(user)
    if _LINUX:
        bits = 1 << _DAC_OVERRIDE
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
        kept = (ctypes.c_uint32 * 6)(bits, bits, bits, 0, 0, 0)  # effective, permitted, inheritable
        if libc.capset(header, kept) == 0:  # a container may not have it to give
            libc.prctl(_AMBIENT, _RAISE, _DAC_OVERRIDE, 0, 0)


class _Server:
    def __init__(self, data: Path, log: Path, owner: list[str], command: list[str]) -> None:
        self._data = data
        self._log = log
        self._become = [sys.executable, "-I", "-S", __file__, "--become", str(os.getpid()), *owner]
        self._command = command
        self._postmaster: subprocess.Popen[bytes] | None = None
        self._ends = False

    def run(self, port: int) -> None:
        """Serve until stdin is closed, this process is asked to end, or the server ends."""
        signal.signal(signal.SIGTERM, lambda _number, _frame: self._end(signal.SIGINT))
        threading.Thread(target=self._end_with_stdin, daemon=True).start()
        for left in reversed(range(_PORTS)):
            at = port or _free_port()
            said = self._log.stat().st_size
            postmaster = self._started(at)
            if self._is_ready(postmaster):
                _say({"event": "ready", "port": at})
                sys.exit(postmaster.wait())
            if port or self._ends or _is_free(at) or not left:
                _say({"event": "failed", **self._reason(at, said)})
                sys.exit(1)

    def _started(self, port: int) -> "subprocess.Popen[bytes]":
        command = [*self._become, "--", *self._command, "-c", f"port={port}"]
        # What it prints goes into its log. It inherits the locks, and its own processes do.
        postmaster = subprocess.Popen[bytes](
            command, stdin=subprocess.DEVNULL, stdout=2, close_fds=False
        )
        self._postmaster = postmaster
        if self._ends:  # stdin was closed at this moment
            self._end(signal.SIGQUIT)
        return postmaster

    def _is_ready(self, postmaster: "subprocess.Popen[bytes]") -> bool:
        while postmaster.poll() is None:
            with suppress(OSError):
                lines = (self._data / "postmaster.pid").read_text(encoding="utf-8").split("\n")
                if lines[0] == str(postmaster.pid) and lines[7:8] == ["ready   "]:
                    return True
            time.sleep(_POLL_SECONDS)
        return False

    def _end_with_stdin(self) -> None:
        while sys.stdin.buffer.read(4096):
            pass
        # A fast shutdown ends all sessions and writes everything to the disk; after another one the next start recovers.
        self._end(signal.SIGINT)
        time.sleep(_FAST_SECONDS)
        self._end(signal.SIGQUIT)
        time.sleep(_IMMEDIATE_SECONDS)
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        self._ends = True
        if self._postmaster is not None:
            with suppress(ProcessLookupError):
                self._postmaster.send_signal(number)

    def _reason(self, port: int, said: int) -> dict[str, str]:
        if not _is_free(port):
            return {"reason": "port-taken", "message": f"127.0.0.1:{port}"}
        text = self._log.read_bytes()[said:].decode(errors="replace")
        if found := _OTHER_POSTGRES.search(text):
            return {"reason": "other-postgres", "message": found[0]}
        for line in text.splitlines():
            if "No space left on device" in line:
                return {"reason": "no-space", "message": line}
            if any(word in line for word in _DAMAGE):
                return {"reason": "data-directory", "message": line}
        return {"reason": "failed", "message": "Postgres ended."}


def _divided(words: list[str]) -> tuple[list[str], list[str]]:
    at = words.index("--")
    return words[:at], words[at + 1 :]


def _say(event: dict[str, object]) -> None:
    with suppress(BrokenPipeError):  # nobody listens any more
        sys.stdout.write(json.dumps(event) + "\n")
        sys.stdout.flush()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


if __name__ == "__main__":
    main()
