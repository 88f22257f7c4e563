#!/bin/sh
# As the public image does: only the command redis-server leaves root for the user redis.
set -eu
if [ "$1" = redis-server ] && [ "$(id -u)" = 0 ]; then
    chown -R redis .
    exec setpriv --reuid redis --regid redis --clear-groups "$0" "$@"
fi
exec "$@"
