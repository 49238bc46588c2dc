"""The process of plain DBOS, set up as its documentation does: `python -m tests.bench.host URL`.

Writes `ready` when it is, and ends when its standard input does.
"""

import os
import sys

from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer

from . import flow

APPLICATION = "bench"
QUEUE = "bench"


def main() -> None:
    """Host the workflows of `flow` on the database of the first argument."""
    config: DBOSConfig = {
        "name": APPLICATION,
        "system_database_url": sys.argv[1],
        # Not the default, pickle: the engine in the bench's own process refuses to read that.
        "serializer": DBOSPortableJSONSerializer(),
        "log_level": "WARNING",
    }
    DBOS(config=config)
    assert flow.steps.__name__  # importing it has registered the workflows
    DBOS.launch()
    DBOS.register_queue(QUEUE)
    os.write(1, b"ready\n")
    sys.stdin.read()
    DBOS.destroy()
    os._exit(0)


if __name__ == "__main__":
    main()
