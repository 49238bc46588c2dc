"""`python -m durable_workflows`: the command line."""

from durable_workflows.cli.app import main

if __name__ == "__main__":
    main()
