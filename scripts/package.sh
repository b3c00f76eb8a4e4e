#!/usr/bin/env bash
# Prints how many files and bytes each crate of the workspace would pack, and fails where that is over crates.io's limit of
# 10 MB (which counts them compressed), or where models or recorded cases are among them. Needs no network.
set -euo pipefail
cd "$(dirname "$0")/.."
limit=10000000
failed=0
for manifest in Cargo.toml crates/*/Cargo.toml; do
    folder="$(dirname "$manifest")"
    # By its name: the manifest at the top stands for every default member.
    name="$(sed -n 's/^name = "\(.*\)"$/\1/p' "$manifest" | head -n 1)"
    files=0
    total=0
    while IFS= read -r file; do
        files=$((files + 1))
        case "$file" in
            *.safetensors | *.onnx | *.pb | *.npy) echo "package: $manifest packs $file" >&2; failed=1 ;;
        esac
        # What cargo writes itself is not there yet; the lock file of a workspace lies at the top.
        for at in "$folder/$file" "$file"; do
            if [ -f "$at" ]; then
                total=$((total + $(wc -c <"$at")))
                break
            fi
        done
    done < <(cargo package --list --allow-dirty -p "$name")
    echo "package: $manifest: $files files, $total bytes"
    if [ "$files" -lt 4 ]; then
        echo "package: $manifest: hardly any files" >&2
        failed=1
    fi
    if [ "$total" -gt "$limit" ]; then
        echo "package: $manifest: over $limit bytes" >&2
        failed=1
    fi
done
exit "$failed"
