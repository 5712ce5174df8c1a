#!/usr/bin/env bash
# Sets up and runs the whole test suite, on whatever adapter the machine has.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
exec cargo test "$@"
