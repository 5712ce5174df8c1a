#!/usr/bin/env bash
# Installs what a fresh Debian or Ubuntu machine with only Rust and git lacks: a linker, and a Vulkan driver
# if there is none. Asks for nothing, does nothing twice.
set -euo pipefail

need=()
command -v cc >/dev/null || need+=(gcc libc6-dev)
# Any Vulkan driver will do; without one, Mesa's brings both GPU drivers and a software adapter.
if ! compgen -G "/usr/share/vulkan/icd.d/*.json" >/dev/null && ! compgen -G "/etc/vulkan/icd.d/*.json" >/dev/null; then
    need+=(mesa-vulkan-drivers)
fi
[[ "$(ldconfig -p 2>/dev/null)" == *libvulkan.so.1* ]] || need+=(libvulkan1)

if [ "${#need[@]}" -gt 0 ]; then
    if ! command -v apt-get >/dev/null; then
        echo "please install: ${need[*]} (this script knows apt-get only)" >&2
        exit 1
    fi
    run=()
    [ "$(id -u)" = 0 ] || run=(sudo)
    echo "installing ${need[*]}" >&2
    "${run[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${run[@]}" apt-get install -y -qq --no-install-recommends "${need[@]}" >&2
fi
