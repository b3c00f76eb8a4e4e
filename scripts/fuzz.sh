#!/usr/bin/env bash
# Fuzzes every reader of files, each for SECONDS (300 if not given), one after the other: builds crates/formats/fuzz, fills the corpora with
# the files of the tests, and prints for every target how long it ran and how many inputs it put through. Fails at the first input that
# panics, takes over 10 s, or takes more memory than any file may; libFuzzer then says which it was. Outside CI: it needs a nightly
# compiler and cargo-fuzz (`cargo install cargo-fuzz`).
#
#     scripts/fuzz.sh [SECONDS [TARGET ..]]
set -euo pipefail
cd "$(dirname "$0")/../crates/formats"
seconds="${1:-300}"
shift || true
targets=("$@")
[ "${#targets[@]}" -gt 0 ] || targets=(safetensors pytorch numpy onnx onnx_whole keras keras_config)
data=tests/data
corpus="${WGPU_RNN_CORPUS:-fuzz/corpus}"
# Files above this are not read: small ones are put through faster, and every branch is reached by one.
most=65536

# The files of the tests that match, as seeds: no copies, a second run goes on with what the first has found.
seeds() {
    local to="$corpus/$1" file
    mkdir -p "$to"
    while IFS= read -r file; do
        cp -f "$file" "$to/$(printf %s "$file" | tr / _)"
    done < <(find "$data" ../../tests/data -type f \( "${@:2}" \) -size -"${most}c")
}

# A part of the archives that match, as seeds: `name` within them.
parts() {
    python3 - "$corpus/$1" "$2" "${@:3}" <<'PY'
import pathlib, sys, zipfile

to, ending, files = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
for file in files:
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            if name.endswith(ending):
                (to / (file + name).replace("/", "_")).write_bytes(archive.read(name))
PY
}

seeds safetensors -name '*.safetensors' -o -name '*.index.json'
printf '{"weight_map": {"a": "b.safetensors"}}' >"$corpus/safetensors/index"
seeds pytorch -name '*.pt'
parts pytorch .pkl "$data"/pytorch/zip.pt "$data"/pytorch/module.pt
seeds numpy -name '*.npz' -o -name 'x.npy' -o -name 'in.*.npy'
seeds onnx -name '*.onnx'
seeds onnx_whole -name '*.onnx'
seeds keras -name '*.h5' -o -name '*.keras'
seeds keras_config -name none
parts keras_config config.json "$data"/keras/keras3/*.keras "$data"/keras/tf213/*.keras

cargo +nightly fuzz build --fuzz-dir fuzz >&2
for target in "${targets[@]}"; do
    mkdir -p "fuzz/artifacts/$target"
    log="$(mktemp)"
    status=0
    "fuzz/target/x86_64-unknown-linux-gnu/release/$target" "$corpus/$target" -artifact_prefix="fuzz/artifacts/$target/" \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=512 -max_len="$most" -print_final_stats=1 \
        >"$log" 2>&1 || status=$?
    # The stack of what went wrong, where something did.
    [ "$status" -eq 0 ] || tail -n 60 "$log" >&2
    runs="$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
    peak="$(sed -n 's/^stat::peak_rss_mb: *//p' "$log")"
    took="$(sed -n 's/^Done [0-9]* runs in \([0-9]*\) second.*/\1/p' "$log")"
    rm -f "$log"
    echo "fuzz: $target: ${runs:-?} inputs in ${took:-?} s, at most ${peak:-?} MB"
    [ "$status" -eq 0 ] || exit "$status"
done
