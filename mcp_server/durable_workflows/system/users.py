"""The users of this machine."""

import os
import pwd

_NOBODY = 65_534


def login() -> str:
    """The name of this process's user, whatever the environment says."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user {os.getuid()}"


def nobody() -> tuple[int, int]:
    """The ids of the user without rights and of its group."""
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:  # an image without a list of users
        return _NOBODY, _NOBODY
    return entry.pw_uid, entry.pw_gid
