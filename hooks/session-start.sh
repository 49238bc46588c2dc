#!/bin/sh
# Tells a new session of unfinished runs, open questions, and the runs that ended since this client was last here. It prints nothing if there is no news,
# starts nothing, and never fails: a session must not wait for it, or be told of its problems.
project=${CLAUDE_PROJECT_DIR:-$PWD}
state=$project/.dbos

if [ ! -f "$state/connection.json" ]; then
    # Nothing runs. A file has the news from the time when the last process had nothing left to do.
    cat "$state/news/claude-code" 2>/dev/null || cat "$state/news/anyone" 2>/dev/null
    exit 0
fi
pid=$(sed -n 's/.*"pid": *\([0-9][0-9]*\).*/\1/p' "$state/connection.json" 2>/dev/null)
[ -n "$pid" ] && kill -0 "$pid" 2>/dev/null || exit 0
"${CLAUDE_PLUGIN_ROOT:-$(dirname "$0")/..}/hooks/command.sh" news --client claude-code --project "$project" </dev/null 2>/dev/null
exit 0
