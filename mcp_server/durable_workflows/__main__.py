"""`python -m durable_workflows`: the command line."""

from durable_workflows.entry import command_line

if __name__ == "__main__":
    command_line()
