"""`python mcp_server` from a bare checkout: the command line, where only what this package depends on is installed."""

import os
from pathlib import Path

from durable_workflows.cli.app import main

if __name__ == "__main__":
    # Supervisor and workers are processes of their own, which have to find the package as this one does.
    paths = [str(Path(__file__).resolve().parent), os.environ.get("PYTHONPATH")]
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    main()
