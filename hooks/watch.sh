#!/bin/sh
# Prints a line when a run ends or asks something, unless the client tells the run's session anyway. Until the project runs it only waits, without a process
# of ours, while the program that started it exists.
project=${CLAUDE_PROJECT_DIR:-$PWD}

while [ ! -f "$project/.dbos/connection.json" ]; do
    kill -0 "$PPID" 2>/dev/null || exit 0
    sleep 2
done
exec "${CLAUDE_PLUGIN_ROOT:-$(dirname "$0")/..}/hooks/command.sh" watch --lines --project "$project" </dev/null 2>/dev/null
