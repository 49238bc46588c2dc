#!/bin/sh
# What a session should know when it begins: unfinished runs, open questions, and what ended since this client was last here. Nothing where there is
# nothing. It starts nothing, and never fails: a session must not wait for it, nor hear of its problems.
project=${CLAUDE_PROJECT_DIR:-$PWD}
state=$project/.dbos

if [ ! -f "$state/connection.json" ]; then
    # Nothing runs. What there was to tell when the last process had nothing left to do is in a file.
    cat "$state/news/claude-code" 2>/dev/null || cat "$state/news/anyone" 2>/dev/null
    exit 0
fi
pid=$(sed -n 's/.*"pid": *\([0-9][0-9]*\).*/\1/p' "$state/connection.json" 2>/dev/null)
[ -n "$pid" ] && kill -0 "$pid" 2>/dev/null || exit 0
"${CLAUDE_PLUGIN_ROOT:-$(dirname "$0")/..}/hooks/command.sh" news --client claude-code --project "$project" </dev/null 2>/dev/null
exit 0
