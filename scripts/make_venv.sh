#!/usr/bin/env bash
# Makes .venv, or brings it up to date, with the exact versions of constraints.txt (CONSTRAINTS names another file).
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${VENV:-.venv}
constraints=${CONSTRAINTS:-constraints.txt}
# Named here and nowhere else: what a developer's environment holds beside the package itself.
extras=test,demo

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3}; do
        if is_new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    echo "Asof needs Python 3.11 or later; found: $(python3 --version 2>/dev/null || echo 'no python3')." >&2
    echo "  next: install Python 3.11, or name one: make PYTHON=/path/to/python3.11 ..." >&2
    return 1
}

# Debian splits `venv` off from Python: the module is there, but cannot install pip without `ensurepip`.
add_venv_module() {
    local python=$1 version packages
    "$python" -c 'import ensurepip, venv' 2>/dev/null && return
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    packages="python$version-venv"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Python's venv module is missing: installing $packages" >&2
        apt-get install -y -qq "$packages" >&2 || { apt-get update -qq >&2 && apt-get install -y -qq "$packages" >&2; }
    else
        echo "Python's venv module is missing, and installing it needs root." >&2
        echo "  next: sudo apt-get install $packages (or your system's package of that kind)" >&2
        return 1
    fi
}

if ! is_new_enough "$venv/bin/python"; then
    python=$(find_python)
    add_venv_module "$python"
    # A directory without a working interpreter is what an interrupted run leaves.
    "$python" -m venv --clear "$venv"
fi

pip=("$venv/bin/python" -m pip --disable-pip-version-check)
# What an older checkout installed under its former name would register every product twice.
if compgen -G "$venv/lib/python*/site-packages/asof-*.dist-info" >/dev/null; then
    "${pip[@]}" uninstall --quiet --yes asof
fi
# setuptools comes first and from the same list, so that building the package fetches nothing of its own choice,
# and where all versions are there already nothing is fetched at all.
"${pip[@]}" install --quiet --constraint "$constraints" 'setuptools>=77'
"${pip[@]}" install --quiet --constraint "$constraints" --no-build-isolation --editable ".[$extras]"
