"""The templates of this installation."""

import ast

from durable_workflows import content, wording
from durable_workflows.models import TemplateEntry


def template_entries() -> list[TemplateEntry]:
    """The templates, with the first line of each one's docstring."""
    return [
        TemplateEntry(name=path.stem, use_when=wording.first_line(_docstring(path.read_bytes())))
        for path in sorted(content.folder("templates").glob("*.py"))
    ]


def _docstring(source: bytes) -> str | None:
    return ast.get_docstring(ast.parse(source))
