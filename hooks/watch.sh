#!/bin/sh
# A line when a run ends or asks something, of runs whose session is not told by its client anyway. Until the project runs it only waits, without a process
# of ours, and for as long as the program that started it is there.
project=${CLAUDE_PROJECT_DIR:-$PWD}

while [ ! -f "$project/.dbos/connection.json" ]; do
    kill -0 "$PPID" 2>/dev/null || exit 0
    sleep 2
done
exec "${CLAUDE_PLUGIN_ROOT:-$(dirname "$0")/..}/hooks/command.sh" watch --lines --project "$project" </dev/null 2>/dev/null
