"""The icon that clients may show beside the server, its prompts and its kinds of resources."""

import base64
from pathlib import Path

from mcp.types import Icon


def icons() -> list[Icon]:
    """The icon as data: clients need not fetch anything."""
    image = Path(__file__).with_name("icon.svg").read_bytes()
    source = f"data:image/svg+xml;base64,{base64.b64encode(image).decode()}"
    return [Icon(src=source, mime_type="image/svg+xml", sizes=["any"])]
