#!/bin/sh
# Programs of ours read `NAME_FILE` themselves; Dagster knows the address of its storage by this variable only.
set -eu
if [ -n "${DAGSTER_DATABASE_URL_FILE:-}" ]; then
    DAGSTER_DATABASE_URL=$(cat "$DAGSTER_DATABASE_URL_FILE")
    export DAGSTER_DATABASE_URL
fi
exec "$@"
