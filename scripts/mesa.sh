#!/usr/bin/env bash
# Runs a command under a current Mesa, unpacked beside the system's: a second Vulkan driver, and the only
# software one with cooperative matrices. Installs nothing, asks for nothing, does nothing twice.
#
#   scripts/mesa.sh cargo test            everything cargo builds is linked against the unpacked tree
#   scripts/mesa.sh diffa devices         the same as `cargo run -- devices`
#   scripts/mesa.sh PROGRAM ARGUMENTS     a program built elsewhere, started by the tree's loader
#   scripts/mesa.sh                       unpacks and says which Mesa it is
#
#   --suite SUITE   Debian suite to take it from: trixie-backports or sid. Otherwise the first one that has it
#   --dir DIR       where to unpack (otherwise DIFFA_MESA_DIR, else target/mesa)
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

fail() {
    echo "mesa.sh: $*" >&2
    exit 1
}

suites=(sid trixie-backports)
base=${DIFFA_MESA_DIR:-$root/target/mesa}
while [ "$#" -gt 0 ]; do
    case "$1" in
    --suite) suites=("${2:?--suite needs a name}") && shift 2 ;;
    --dir) base=${2:?--dir needs a folder} && shift 2 ;;
    -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" && exit ;;
    --) shift && break ;;
    -*) fail "unknown option $1" ;;
    *) break ;;
    esac
done
mkdir -p "$base"
base=$(cd "$base" && pwd)

# Downloads Mesa of one suite with everything below it, down to the C library, and unpacks it. The private
# apt configuration, with no package installed, leaves the system's alone and makes apt resolve the whole tree.
fetch() {
    local suite=$1 work=$base/$1.part keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    local uri=${DEBIAN_MIRROR:-http://deb.debian.org/debian} arch
    [ -r "$keyring" ] || fail "$keyring is missing: install debian-archive-keyring"
    arch=$(dpkg --print-architecture)
    rm -rf "$work"
    mkdir -p "$work"/{lists/partial,archives/partial,etc/preferences.d,tree}
    : >"$work/status"
    local options=(
        -o Dir::State="$work" -o Dir::State::Lists="$work/lists" -o Dir::State::Status="$work/status"
        -o Dir::Cache="$work" -o Dir::Etc="$work/etc" -o Dir::Etc::SourceList="$work/etc/sources.list"
        -o Dir::Etc::SourceParts=- -o APT::Architecture="$arch" -o APT::Architectures::="$arch"
        -o APT::Install-Recommends=false -o APT::Sandbox::User=root -o Acquire::Languages=none
        -o Acquire::Retries=3 -o Debug::NoLocking=true -qq
    )
    local want=mesa-vulkan-drivers/$suite
    {
        echo "deb [signed-by=$keyring] $uri $suite main"
        [[ $suite != *-backports ]] || echo "deb [signed-by=$keyring] $uri ${suite%-backports} main"
    } >"$work/etc/sources.list"
    echo "mesa.sh: fetching Mesa of Debian $suite" >&2
    apt-get "${options[@]}" update >&2 || return 1
    apt-get "${options[@]}" -y --download-only install "$want" libvulkan1 >&2 || return 1
    local package
    for package in "$work"/archives/*.deb; do
        dpkg --extract "$package" "$work/tree" || return 1
    done
    dpkg-deb --field "$work"/archives/mesa-vulkan-drivers_*.deb Version >"$work/tree/mesa-version" || return 1
    relocate "$work/tree" "$base/$suite" || return 1
    rm -rf "${base:?}/$suite"
    mv "$work/tree" "$base/$suite"
    rm -rf "$work"
}

# Rewrites the driver's description for the place the tree will have.
relocate() {
    local found library
    found=$(find "$1/usr/share/vulkan/icd.d" -name 'lvp_icd*.json' -print -quit)
    library=$(cd "$1" && find usr/lib -name libvulkan_lvp.so -print -quit)
    [ -n "$found" ] && [ -n "$library" ] || return 1
    sed "s|\"library_path\": *\"[^\"]*\"|\"library_path\": \"$2/$library\"|" "$found" >"$1/lvp_icd.json"
    # One folder for the linker's flags and the loader's search path, whatever the architecture is called.
    ln -s "${library%/*}" "$1/lib-path"
    # LLVM looks for what it needs in $ORIGIN/../lib and, having a path of its own, not in the program's.
    ln -s "$(basename "${library%/*}")" "$1/${library%/*}/../lib"
}

tree=
for suite in "${suites[@]}"; do
    [ -e "$base/$suite/mesa-version" ] && tree=$base/$suite && break
done
if [ -z "$tree" ]; then
    for tool in apt-get dpkg dpkg-deb; do
        command -v "$tool" >/dev/null || fail "needs $tool, that is, Debian or a relative of it"
    done
    for suite in "${suites[@]}"; do
        fetch "$suite" && tree=$base/$suite && break
        echo "mesa.sh: no Mesa from Debian $suite" >&2
    done
    [ -n "$tree" ] || fail "none of these suites could be unpacked: ${suites[*]}"
fi

libraries=$tree/lib-path
loader=$(find -H "$libraries" -maxdepth 1 -name 'ld-linux*.so.*' -print -quit)
[ -n "$loader" ] || fail "$tree is incomplete (no loader); remove it and start again"

if [ "$#" -eq 0 ]; then
    echo "Mesa $(cat "$tree/mesa-version") in $tree"
    exit
fi

# Older Vulkan loaders read only the second name.
export VK_DRIVER_FILES=$tree/lvp_icd.json VK_ICD_FILENAMES=$tree/lvp_icd.json
# The tests fail if they find themselves on anything else.
version=$(cat "$tree/mesa-version")
export DIFFA_TEST_DRIVER="Mesa $version"

# The tree's C library is newer than the system's, so a program that loads this Mesa must run on it from its
# start. Linked that way it is an ordinary program: its children and `current_exe` work. The target triple is
# spelled out so that the flags do not reach build scripts; own target folder, as the flags differ.
if [ "$1" = diffa ]; then
    shift
    set -- cargo run --quiet -- "$@"
fi
if [ "$1" = cargo ]; then
    triple=$(rustc -vV | sed -n 's/^host: //p')
    variable=CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<<"$triple")_RUSTFLAGS
    flags=("-Wl,--dynamic-linker=$loader" "-Wl,-rpath,$libraries" "-Wl,--disable-new-dtags")
    export CARGO_BUILD_TARGET=$triple CARGO_TARGET_DIR=$tree-build
    export "$variable=${flags[*]/#/-C link-arg=}"
    exec "$@"
fi

program=$(command -v "$1") || fail "no program $1"
shift
if [ "$(head -c 4 "$program" | tail -c 3)" != ELF ]; then
    exec "$program" "$@"
fi
exec "$loader" --library-path "$libraries" "$program" "$@"
