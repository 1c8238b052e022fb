#!/usr/bin/env bash
# Installs what the gateway's image holds into a temporary folder, as the image does, and measures it.
# Needs a package registry, Python 3.11 with venv, and strip of GNU binutils.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python=${PYTHON:-python3}
"$python" -m venv "$work/installer"
pip=$work/installer/bin/pip
"$python" -m venv --without-pip "$work/polyplane"
flags=(--quiet --disable-pip-version-check)
"$pip" "${flags[@]}" install --require-hashes --only-binary :all: --requirement infra/locks/build.txt
"$pip" "${flags[@]}" wheel --no-deps --no-build-isolation --wheel-dir "$work/wheels" .
"$pip" "${flags[@]}" --python "$work/polyplane/bin/python" install --no-compile --require-hashes --no-deps \
    --only-binary :all: --requirement infra/locks/gateway.txt
"$pip" "${flags[@]}" --python "$work/polyplane/bin/python" install --no-compile --no-deps --no-index "$work"/wheels/*.whl
"$python" infra/images/slim.py gateway "$work/polyplane/bin/python"
