#!/usr/bin/env bash
# Installs what tests run against: PostgreSQL, Redis and Chromium from Debian's packages, Kafka and a schema registry
# (which run on Java) from Maven Central; with the argument `spark` also Spark, 250 MB. Quick and quiet where all is there.
# Never starts a server.
set -euo pipefail
cd "$(dirname "$0")/.."

declare -A package_of=([initdb]=postgresql [redis-server]=redis-server [java]=default-jre-headless [mvn]=maven [chromium]=chromium)

is_here() {
    case "$1" in
    initdb) compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null ;;
    redis-server) command -v redis-server >/dev/null || command -v valkey-server >/dev/null ;;
    chromium) command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null ;;
    *) command -v "$1" >/dev/null ;;
    esac
}

missing=()
for program in initdb redis-server java mvn chromium; do
    is_here "$program" || missing+=("${package_of[$program]}")
done

if ((${#missing[@]})); then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "Not here: ${missing[*]}. Their tests will be skipped. Debian and Ubuntu: sudo apt-get install ${missing[*]}" >&2
    else
        echo "Installing ${missing[*]} (first time: a minute or two)"
        log=$(mktemp)
        # The packages would start servers of their own on the usual ports.
        policy=/usr/sbin/policy-rc.d
        if [ ! -e "$policy" ]; then
            printf '#!/bin/sh\nexit 101\n' >"$policy"
            chmod +x "$policy"
            trap 'rm -f "$policy"' EXIT
        fi
        install_packages() {
            DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}" >"$log" 2>&1
        }
        install_packages || { apt-get update >>"$log" 2>&1 && install_packages; } || {
            tail -n 20 "$log" >&2
            echo "apt-get could not install ${missing[*]}: their tests will be skipped" >&2
        }
        rm -f "$log"
    fi
fi

"${VENV:-.venv}/bin/python" -m tests.services install "$@"
