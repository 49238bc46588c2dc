#!/bin/sh
# The command `durable-workflows` of this plugin, as its server is started.
root=${CLAUDE_PLUGIN_ROOT:-$(dirname "$0")/..}
exec uvx --from "$root" --constraints "$root/requirements.lock" durable-workflows "$@"
