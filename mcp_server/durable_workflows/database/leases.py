"""The lease of a worker on a database that machines share: how often it gives a sign of life, and what its silence means.

The database's clock says when a lease has run out. The worker itself stops earlier, by a clock of its own machine.
"""

import time

BEAT_SECONDS = 5.0  # between two signs of life
HELD_SECONDS = 20.0  # a worker that could not write one for so long begins no step
LOST_SECONDS = 30.0  # without one for so long, a worker loses its runs to others


def now() -> float:
    """The time of this machine in seconds, which also passes while it sleeps, where the system has such a clock."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)
