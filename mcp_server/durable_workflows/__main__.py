"""`python -m durable_workflows`: the command line."""

from durable_workflows.cli.cli import main

if __name__ == "__main__":
    main()
