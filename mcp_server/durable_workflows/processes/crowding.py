"""What to do when the one session of the embedded database is what runs wait for, as its front says (`pglite/front/load.mjs`)."""

from durable_workflows.system.database_process import Event

ENTRY = "session"  # in the supervisor's report

_INSTEAD = "A Postgres in the project's folder has a session for each: install durable-workflows[postgres], then run `durable-workflows move --to postgres`."


def told(event: Event) -> str:
    """The problem and the remedy in words; empty if there is no problem any more."""
    if event["event"] != "crowded":
        return ""
    busy, blocked = (round(100 * float(str(event[name]))) for name in ("busy", "blocked"))
    return f"Runs wait for the embedded database, which has one session for all: for a minute it worked {busy}% of the time, and stood still for open transactions while others waited {blocked}%. {_INSTEAD}"
