"""Configuration files with a table of MCP servers, as JSON or as TOML: reading the table, and adding to it.

Each handles one entry, `name` in the table `key`. A ValueError says why a file cannot be read or changed.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any, cast

_INDENT = re.compile(r"^([ \t]+)\S", re.MULTILINE)

Entry = dict[str, Any]


class Json:
    """A JSON file with a table of servers."""

    def __init__(self, key: str, name: str, entry: Entry) -> None:
        self._key = key
        self._name = name
        self._entry = entry

    def fragment(self) -> str:
        return json.dumps({self._key: {self._name: self._entry}}, indent=2, ensure_ascii=False)

    def servers(self, text: str) -> Mapping[str, object]:
        """The servers in the file. A ValueError says why it cannot be read."""
        return self._table(self._content(text))

    def added(self, text: str) -> str:
        """The file with the entry, in its own indentation."""
        whole = self._content(text)
        whole[self._key] = {**self._table(whole), self._name: self._entry}
        indent = _INDENT.search(text)
        return json.dumps(whole, indent=indent[1] if indent else 2, ensure_ascii=False) + "\n"

    def _content(self, text: str) -> dict[str, object]:
        whole: object = json.loads(text, object_pairs_hook=_without_doubles) if text.strip() else {}
        if not isinstance(whole, dict):
            raise ValueError("it does not hold a JSON object")
        return cast("dict[str, object]", whole)

    def _table(self, whole: dict[str, object]) -> dict[str, object]:
        table = whole.get(self._key, {})
        if not isinstance(table, dict):
            raise ValueError(f"its {self._key!r} is not a JSON object")
        return cast("dict[str, object]", table)


def _without_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):  # one of them would be lost
        raise ValueError("it has a name twice")
    return found


class Toml:
    """A TOML file with a table of servers. Text is only added at its end, so that comments and layout stay."""

    def __init__(self, key: str, name: str, entry: Entry) -> None:
        self._key = key
        self._name = name
        self._entry = entry

    def fragment(self) -> str:
        # A JSON string, and a list of JSON strings, are also TOML.
        lines = [
            f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in self._entry.items()
        ]
        return "\n".join([f"[{self._key}.{self._name}]", *lines])

    def servers(self, text: str) -> Mapping[str, object]:
        """The servers in the file. A ValueError says why it cannot be read."""
        table = tomllib.loads(text).get(self._key, {})
        if not isinstance(table, dict):
            raise ValueError(f"its {self._key!r} is not a table")
        return cast("dict[str, object]", table)

    def added(self, text: str) -> str:
        """The file with the entry. A ValueError says that it cannot be added at the end."""
        head = f"{text.rstrip()}\n\n" if text.strip() else ""
        whole = f"{head}{self.fragment()}\n"
        if self.servers(whole) != {**self.servers(text), self._name: self._entry}:
            raise ValueError(f"its {self._key!r} cannot be added to")
        return whole
