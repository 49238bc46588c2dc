"""Build the .mcpb bundle, for clients that install a server from one file: `make mcpb` puts it into dist/.

Nothing is downloaded. The bundle holds this checkout's wheel and a uv project that needs it. The client's uv installs Python, and from PyPI the
dependencies in the versions of requirements.lock, when the bundle is installed or first started.
"""

import inspect
import json
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

from hatchling.build import build_wheel

from durable_workflows.mcp.tools import TOOLS

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent
_LOCKED = re.compile(r"^([\w.-]+(?:\[[\w,-]+\])?==\S+(?: ; [^\\]+)?)", re.MULTILINE)
_PROJECT = """\
[project]
name = "durable-workflows-bundle"
version = "{version}"
requires-python = ">=3.11"
dependencies = ["durable-workflows"]

[tool.uv]
package = false
constraint-dependencies = {constraints}

[tool.uv.sources]
durable-workflows = {{ path = "{wheel}" }}
"""


def build(target: Path) -> Path:
    """Build the bundle in the folder `target`, which is made; the working directory has to be the checkout."""
    target.mkdir(parents=True, exist_ok=True)
    wheel = target / build_wheel(str(target))
    manifest = _manifest()
    bundle = target / f"durable-workflows-{manifest['version']}.mcpb"
    with zipfile.ZipFile(bundle, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("manifest.json", json.dumps(manifest, indent=2))
        file.writestr("pyproject.toml", _project(manifest["version"], wheel.name))
        file.write(FOLDER / "server.py", "server.py")
        file.write(ROOT / "LICENSE", "LICENSE")
        file.write(wheel, wheel.name)
    return bundle


def _manifest() -> dict[str, Any]:
    """The manifest of this folder, with the tools that people see before they install."""
    manifest = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
    manifest["tools"] = [
        {"name": tool.function.__name__, "description": _first_paragraph(tool.function.__doc__)}
        for tool in TOOLS
    ]
    return manifest


def _first_paragraph(text: str | None) -> str:
    return " ".join(inspect.cleandoc(text or "").split("\n\n")[0].split())


def _project(version: str, wheel: str) -> str:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    constraints = json.dumps([match.strip() for match in _LOCKED.findall(lock)], indent=2)
    return _PROJECT.format(version=version, wheel=wheel, constraints=constraints)


if __name__ == "__main__":
    sys.stdout.write(f"{build(Path(sys.argv[1]))}\n")
