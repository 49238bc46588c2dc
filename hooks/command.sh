#!/bin/sh
# Runs the plugin's command `durable-workflows`, in the same way as its server.
root=${CLAUDE_PLUGIN_ROOT:-$(dirname "$0")/..}
exec uvx --from "$root" --constraints "$root/requirements.lock" durable-workflows "$@"
