"""The users of this machine."""

import os
import pwd


def login() -> str:
    """The name of this process's user, whatever the environment says."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user {os.getuid()}"
