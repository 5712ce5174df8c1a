#!/usr/bin/env bash
# Feeds every kernel in every variant to compilers that are not this machine's driver: naga's writers for
# SPIR-V, MSL and HLSL, Chrome's Tint, and Microsoft's DXC and FXC under Wine. Renews the tables of
# docs/PORTABILITY.md, leaves every single verdict in target/portability/shaders/judged.csv; fails if any of them refuses a kernel, or cannot be had. No GPU needed.
set -euo pipefail
cd "$(dirname "$0")/.."

# The one source of Tint and of the two DLLs, pinned: another version may judge differently.
webgpu=webgpu@0.6.2
work=$PWD/target/portability

fail() {
    echo "portability.sh: $*" >&2
    exit 1
}

# Debian's packages of what is missing.
need=()
command -v node >/dev/null || need+=(nodejs)
command -v npm >/dev/null || need+=(npm)
# Debian keeps the 64-bit program off the path.
PATH=$PATH:/usr/lib/wine
command -v wine64 >/dev/null || need+=(wine64)
command -v x86_64-w64-mingw32-gcc >/dev/null || need+=(gcc-mingw-w64-x86-64)
if [ "${#need[@]}" -gt 0 ]; then
    command -v apt-get >/dev/null || fail "please install ${need[*]} (this script knows apt-get only)"
    run=()
    [ "$(id -u)" = 0 ] || run=(sudo)
    echo "installing ${need[*]}" >&2
    "${run[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${run[@]}" apt-get install -y -qq --no-install-recommends "${need[@]}" >&2
fi

mkdir -p "$work/npm" "$work/hlsl"
if [ "$(cat "$work/npm/installed" 2>/dev/null)" != "$webgpu" ]; then
    npm install --prefix "$work/npm" --no-audit --no-fund --silent "$webgpu" ||
        fail "npm could not fetch $webgpu, which holds Tint, DXC and FXC"
    echo "$webgpu" >"$work/npm/installed"
fi
for dll in d3dcompiler_47.dll dxcompiler.dll; do
    cp "$work/npm/node_modules/webgpu/dist/win32-x64/$dll" "$work/hlsl/" || fail "$webgpu holds no $dll"
done
x86_64-w64-mingw32-gcc -O2 -Wall -Wextra -Wno-cast-function-type \
    -o "$work/hlsl/hlsl.exe" scripts/portability/hlsl.c -lversion

rm -rf "$work/shaders"
cargo run --quiet --example export_shaders -- "$work/shaders"

# Wine brings a d3dcompiler of its own; only Microsoft's will do. No display, no browser to install.
export WINEPREFIX=$work/prefix WINEDEBUG=-all
export WINEDLLOVERRIDES="d3dcompiler_47,dxcompiler=n;mscoree,mshtml="
unset DISPLAY
wine64 "$work/hlsl/hlsl.exe" version "$work/hlsl/dxcompiler.dll" >/dev/null 2>"$work/wine.log" ||
    fail "Wine cannot run hlsl.exe; see $work/wine.log"

naga=$(cargo metadata --format-version 1 --locked | node -e '
    const { packages } = JSON.parse(require("fs").readFileSync(0));
    console.log(packages.find((p) => p.name === "naga").version);')
node scripts/portability/judge.mjs "$work/shaders" "$work/npm" wine64 "$work/hlsl" docs/PORTABILITY.md \
    "$naga" "$(wine64 --version)"
