"""The entry of the .mcpb bundle: `durable-workflows serve`, with the arguments of the manifest, or with none."""

import sys

from durable_workflows.cli.app import main

if __name__ == "__main__":
    sys.argv[1:1] = ["serve"]
    main()
