#!/usr/bin/env bash
# Sets up, builds, and asks the embedded demo model about a clip. Arguments replace clip and questions.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
if [ "$#" -eq 0 ]; then
    set -- assets/demo/audio/17_beeps_four.wav "What kind of sound is this?" "How many beeps are there?"
fi
exec cargo run --release --quiet -- ask "$@"
