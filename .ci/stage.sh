# Sourced by the scripts beside it. A stage is one command with a name: its output goes to the terminal and to
# target/ci/<name>.log, its time is printed, and the tests that it counted are added to $CI_TALLY if that is set.
# shellcheck shell=bash

cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The environment that .ci/setup makes, when it is there.
if [ -d .venv/bin ]; then PATH="$PWD/.venv/bin:$PATH"; fi

stage() { # NAME COMMAND... ; never in a condition, see below
    local name=$1 status began log
    shift
    log=target/ci/$name.log
    mkdir -p target/ci
    printf '\n== %s: %s\n' "$name" "$*"
    began=$(date +%s%N)
    # Not `|| status=$?`: that would switch off errexit inside a stage that is a function.
    set +e
    (set -e && "$@") 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    set -e
    python3 .ci/tally.py --name "$name" --status "$status" --ms $((($(date +%s%N) - began) / 1000000)) "$log"
    return "$status"
}

# Something that a stage needs is not there: a failure where everything is required (REQUIRE_REAL=1), else a loud skip.
missing() { # WHAT
    if [ "${REQUIRE_REAL:-0}" = 1 ]; then
        printf 'missing: %s (REQUIRE_REAL=1)\n' "$1" >&2
        return 1
    fi
    printf 'SKIPPED, missing: %s\n' "$1" >&2
}
