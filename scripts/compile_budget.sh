#!/usr/bin/env bash
# Times the compilation of every kernel in every variant by the system's driver and by a current Mesa
# (scripts/mesa.sh), without shader caches, and renews the table of docs/PORTABILITY.md. Fails above the
# budget of seconds for one variant, which an argument replaces.
set -euo pipefail
cd "$(dirname "$0")/.."

export MESA_SHADER_CACHE_DISABLE=true __GL_SHADER_DISK_CACHE=0
# Without one, older Mesas complain about it.
export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/tmp}
document=docs/PORTABILITY.md
found=$(mktemp)
trap 'rm -f "$found"' EXIT

status=0
{
    cargo run --quiet --example compile_times -- "${1:-20}" || status=1
    echo
    scripts/mesa.sh cargo run --quiet --example compile_times -- "${1:-20}" || status=1
} >"$found"
cat "$found"

# The table goes between its two marks.
awk -v found="$found" '
    $0 == "<!-- end of compile times -->" { while ((getline line < found) > 0) print line; skip = 0 }
    !skip { print }
    $0 == "<!-- compile times -->" { skip = 1 }
' "$document" >"$document.new"
mv "$document.new" "$document"
exit "$status"
