"""Secrets, removed from the records of runs and from a worker's log: one rule for commands, agents and logs.

The name of its variable, in brackets, replaces a secret in a text. Secrets are

- the value of an environment variable that is named like a secret, from 6 characters on,
- a value of the project's `.env`, from 8 characters on, unless it is a plain word, a number or an existing path,
- the password in a URL in a variable, and the password of the database, from 6 characters on.

Shorter and more common values stay: removing `true` or `8080` from every output would hide more than it protects.
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from durable_workflows.seam import dbos_calls
from durable_workflows.settings import DOTENV

_NAMED = re.compile(
    r"(KEY|TOKEN|SECRET|PASS|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|DATABASE_URL)(_|$)", re.I
)
_PLAIN = re.compile(r"[A-Za-z]+|[\d.,:+-]+")  # a word, a number, a time
_SHORTEST_NAMED = 6
_SHORTEST = 8
_DATABASE = "database password"


class Redactor:
    """Removes secrets from texts."""

    def __init__(self, names: Mapping[str, str]) -> None:
        """`names` gives the name of each secret."""
        self._names = names
        longest_first = sorted(names, key=len, reverse=True)
        self._any = re.compile("|".join(map(re.escape, longest_first))) if names else None

    def __call__(self, text: str) -> str:
        """The text with the names of secrets in place of their values."""
        if self._any is None:
            return text
        return self._any.sub(lambda found: f"[{self._names[found[0]]}]", text)


def of_process(password: str | None, more: Mapping[str, str] | None = None) -> Redactor:
    """A redactor for the secrets in the environment of this process and in the variables of `more`, and for the database's password."""
    variables = {**os.environ, **(more or {})}
    dotenv = variables.get(DOTENV, "").split()
    names = {
        secret: name
        for name, value in variables.items()
        for secret in _secrets(name, value, of_dotenv=name in dotenv)
    }
    if password is not None:
        names |= dict.fromkeys(_long_enough([password], _SHORTEST_NAMED), _DATABASE)
    return Redactor(names)


def redacted(
    text: str, *, variable: str | None = None, more: Mapping[str, str] | None = None
) -> str:
    """The text with the names of secrets, in brackets, in place of their values.

    Secrets are those of this worker's environment and of the variables in `more`, by the rule at the top of this module, and the value of
    the environment variable `variable`, however short it is.
    """
    text = of_process(dbos_calls.database_password(), more)(text)
    value = os.environ.get(variable or "", "").strip()
    return text.replace(value, f"[{variable}]") if value else text


def password_of(url: str) -> str | None:
    """The password in a URL, decoded."""
    try:
        found = urlsplit(url).password
    except ValueError:  # not a URL
        return None
    return None if found is None else unquote(found)


def _secrets(name: str, value: str, *, of_dotenv: bool) -> list[str]:
    """The texts in the value of a variable that must not be visible."""
    found: list[str] = []
    if "://" in value and (password := password_of(value)):
        found += _long_enough({password, urlsplit(value).password or ""}, _SHORTEST_NAMED)
    lines = [line.strip() for line in value.splitlines()]  # logs come line by line
    if _NAMED.search(name):
        found += _long_enough(lines, _SHORTEST_NAMED)
    elif of_dotenv:
        found += [line for line in _long_enough(lines, _SHORTEST) if not _is_common(line)]
    return found


def _long_enough(texts: Iterable[str], shortest: int) -> list[str]:
    return [text for text in texts if len(text) >= shortest]


def _is_common(value: str) -> bool:
    try:
        return bool(_PLAIN.fullmatch(value)) or Path(value).exists()
    except (OSError, ValueError):  # too long for a path, or not valid in one
        return False
