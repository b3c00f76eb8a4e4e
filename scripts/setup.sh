#!/usr/bin/env bash
# Makes sure that a Vulkan adapter exists: where there is none, installs Mesa's software Vulkan (lavapipe) by apt.
# The library and its main example need none of this; the GPU tests do.
set -euo pipefail

# No pipes: with pipefail a folder that is not there, or a reader that stops early, would count as a driver that is not there.
icd_present() { compgen -G '/usr/share/vulkan/icd.d/*.json' >/dev/null || compgen -G '/etc/vulkan/icd.d/*.json' >/dev/null; }
loader_present() { [[ "$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null)" == *libvulkan.so.1* ]]; }

if [ "$(uname -s)" != Linux ]; then
    echo "setup: not Linux, using the system's own Metal, DX12 or Vulkan driver"
elif loader_present && icd_present; then
    echo "setup: a Vulkan driver is installed"
elif ! command -v apt-get >/dev/null; then
    echo "setup: no Vulkan driver, and no apt-get to install Mesa's software one." >&2
    echo "setup: install a Vulkan driver (package mesa-vulkan-drivers or its like) and run this again." >&2
    exit 1
else
    sudo=""
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || { echo "setup: run as root: apt-get install mesa-vulkan-drivers libvulkan1" >&2; exit 1; }
        sudo=sudo
    fi
    echo "setup: installing Mesa's software Vulkan (mesa-vulkan-drivers, libvulkan1)"
    $sudo apt-get update -qq || { echo "setup: apt-get update failed; is the network up?" >&2; exit 1; }
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq mesa-vulkan-drivers libvulkan1 >/dev/null ||
        { echo "setup: apt-get could not install mesa-vulkan-drivers and libvulkan1" >&2; exit 1; }
fi
