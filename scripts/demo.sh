#!/usr/bin/env bash
# Sets up, builds, and asks the embedded demo model about a clip. Arguments replace clip and questions.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
if [ "$#" -eq 0 ]; then
    set -- assets/demo/audio/15_question_man2_slow.wav "Please transcribe the audio." "Is the voice male or female?"
fi
# On its own, so that its progress is seen: the first build takes some minutes.
cargo build --release
exec cargo run --release --quiet -- ask "$@"
