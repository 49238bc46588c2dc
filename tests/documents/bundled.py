"""The bundled workflows, as the catalog has them, and the calls in the references that start them."""

import importlib.util
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from documents.blocks import Block, blocks
from durable_workflows import content
from durable_workflows.code import catalog
from durable_workflows.models import CatalogEntry
from durable_workflows.schemas import described


@cache
def entries() -> Mapping[str, CatalogEntry]:
    """The bundled workflows by their names."""
    return {
        name: described.entry(name, getattr(module, name))
        for path in sorted(content.folder("workflows").glob("*.py"))
        for module in [_load(path)]
        for name in catalog.declared_names(path.read_text(encoding="utf-8"))
    }


def arguments_of(name: str) -> set[str]:
    """The arguments of a bundled workflow, and the fields of the objects in them."""
    schema = entries()[name].args_schema
    parts = [schema, *schema.get("$defs", {}).values()]
    return {field for part in parts for field in part.get("properties", {})}


def starts() -> Iterator[tuple[Block, dict[str, Any]]]:
    """Each start in a `json start_workflow` block, also those of a batch, with the block."""
    for block in blocks("json"):
        if "start_workflow" in block.words:
            call = json.loads(block.text)
            yield from ((block, start) for start in call.get("batch", [call]))


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"documented_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
