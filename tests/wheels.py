"""Libraries of the tests' own, which no index has."""

import zipfile
from collections.abc import Sequence
from pathlib import Path


def make_wheel(
    folder: Path,
    name: str,
    number: str = "1.0",
    *,
    requires: Sequence[str] = (),
    module: str = "",
) -> Path:
    """A wheel with one module, which knows its VERSION, and with a command of its name that prints it."""
    about = f"{name}-{number}.dist-info"
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {number}"]
    metadata += [f"Requires-Dist: {requirement}" for requirement in requires]
    source = f"VERSION = {number!r}\ndef main():\n    print(VERSION)\n"
    files = {
        f"{module or name}.py": source,
        f"{about}/METADATA": "\n".join(metadata) + "\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/entry_points.txt": f"[console_scripts]\n{name} = {module or name}:main\n",
    }
    files[f"{about}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{about}/RECORD"])
    wheel = folder / f"{name}-{number}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return wheel
