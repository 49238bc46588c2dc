"""Output to a terminal, and questions there.

It often contains foreign texts, so all of it is made fit here: no character can control the terminal, hide, or turn the text around it.
"""

from collections.abc import Iterable
from typing import cast

import typer

from durable_workflows import fitting


def out(text: str = "") -> None:
    """Write lines to standard output. JSON stays the same data."""
    typer.echo(fitting.shown(text))


def lines(texts: Iterable[str]) -> None:
    """Write lines to standard output, all at once."""
    if text := "\n".join(texts):
        out(text)


def ask(label: str) -> str:
    """Ask for a line."""
    return cast("str", typer.prompt(fitting.shown_line(label), default="", show_default=False))


def confirm(label: str) -> bool:
    """Ask yes or no; no answer is no."""
    return typer.confirm(fitting.shown_line(label), default=False)


def quoted(text: str) -> str:
    """A foreign text inside ours: each of its lines is marked, so that it cannot pass for ours."""
    return "\n".join(f"  | {line}".rstrip() for line in fitting.shown(text).split("\n"))
