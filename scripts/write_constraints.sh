#!/usr/bin/env bash
# Writes constraints.txt anew: what a fresh environment gets without constraints, as exact versions.
set -euo pipefail
cd "$(dirname "$0")/.."

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT

VENV="$fresh/venv" CONSTRAINTS=/dev/null scripts/make_venv.sh
{
    echo "# Exact versions that the tests run with: base, demo and test packages. Written by \`make constraints\`."
    # `pip list` and not `pip freeze`: the latter leaves setuptools out and writes where editable packages lie.
    "$fresh/venv/bin/python" -m pip --disable-pip-version-check list --format=freeze --exclude-editable --exclude pip
} > constraints.txt
echo "wrote constraints.txt: $(grep -c == constraints.txt) packages"
