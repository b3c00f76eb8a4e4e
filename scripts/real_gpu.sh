#!/usr/bin/env bash
# Verifies and measures the GPU of this machine, without a network, and writes a report for docs/results: what the adapter and its driver
# are, whether every golden passes with both strategies, and what layers, training, linear recurrences and single steps take.
#
# usage: scripts/real_gpu.sh [--short] [--out FILE]
#
#   --short  one golden of each kind and the smallest shapes, one round (about a minute on a software rasteriser)
#   --out    where the report goes; else docs/results/ADAPTER.md
#
# Needs `cargo build --release`, or another build of the command that the environment variable WGPU_RNN names. At most 9 minutes: what is
# left when 8 of them are over is named as not run. Exits with 1 where a number is wrong.
set -euo pipefail
cd "$(dirname "$0")/.."
short="" out=""
while [ $# -gt 0 ]; do
    case "$1" in
        --short) short=1 ;;
        --out) out="${2:?--out needs a file}"; shift ;;
        *) echo "usage: scripts/real_gpu.sh [--short] [--out FILE]" >&2; exit 2 ;;
    esac
    shift
done
command="${WGPU_RNN:-${CARGO_TARGET_DIR:-target}/release/wgpu-rnn}"
[ -x "$command" ] || { echo "no $command: cargo build --release" >&2; exit 2; }
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-${TMPDIR:-/tmp}}"
devices="$("$command" devices)"
adapter="$(head -n 1 <<<"$devices")"
case "$adapter" in "no GPU adapter"*) echo "$adapter" >&2; exit 2 ;; esac
[ -n "$out" ] || out="docs/results/$(tr -c 'A-Za-z0-9\n' '-' <<<"$adapter" | tr -s '-' | sed 's/^-//; s/-$//').md"
report="$(mktemp)" failed=0
trap 'rm -f "$report"' EXIT
in_time() { [ "$SECONDS" -lt 480 ]; }

{
    echo "# $adapter"
    echo
    echo "Written by \`scripts/real_gpu.sh${short:+ --short}\` on $(date -u +%Y-%m-%d); processor:$(grep -m 1 'model name' /proc/cpuinfo 2>/dev/null | cut -d: -f2 || true)."
    echo
    echo '```text'
    echo "$devices"
    command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,power.limit --format=csv || true
    echo '```'
    echo
    echo "## Verified"
    echo
    echo "| files | strategy | result |"
    echo "|---|---|---|"
} >"$report"

goldens=(tests/data/torch_golden tests/data/block_golden tests/data/onnx_node)
[ -z "$short" ] || goldens=(tests/data/torch_golden/{gru_l1_bi_packed,lstm_l1_t1_b1,mamba_scan_full}.safetensors)
for strategy in step sequence; do
    for golden in "${goldens[@]}"; do
        if ! in_time; then echo "| $golden | $strategy | not run: time was over |" >>"$report"; continue; fi
        # The last line counts.
        if text="$("$command" verify --device gpu --strategy "$strategy" "$golden" 2>&1)"; then result=passed; else result=FAILED; failed=1; fi
        echo "| $golden | $strategy | $result: $(tail -n 1 <<<"$text") |" >>"$report"
    done
done

# A row of a table: the shape, and the last line of `bench` that tells the time. Every run is verified before it is timed.
row() {
    local name="$1"
    shift
    if ! in_time; then echo "| $name | not run: time was over |" >>"$report"; return; fi
    local text
    if text="$("$command" bench --device gpu --runs "${runs:-10}" "$@" 2>&1)"; then
        echo "| $name | $(grep -m 1 '^time:' <<<"$text" | sed 's/^time: //') |" >>"$report"
    else
        failed=1
        echo "| $name | FAILED: $(tail -n 1 <<<"$text") |" >>"$report"
    fi
}
table() { printf '\n## %s\n\n| T, B, I, H | time |\n|---|---|\n' "$1" >>"$report"; }
runs=$([ -z "$short" ] && echo 10 || echo 3)
shapes=("100 1 64 64" "100 16 64 64" "100 16 256 256" "50 32 512 512" "20 64 1024 1024")
[ -z "$short" ] || shapes=("100 1 64 64")
for cell in lstm gru; do
    for train in "" "--train"; do
        table "$cell, forward${train:+ and backward}"
        for shape in "${shapes[@]}"; do
            read -r t b i h <<<"$shape"
            for strategy in step sequence; do
                row "$t, $b, $i, $h, $strategy" --cell $cell --time "$t" --batch "$b" --input "$i" --hidden "$h" --strategy $strategy $train
            done
        done
    done
done
if [ -z "$short" ]; then
    table "One step of many streams"
    for b in 1 16 64 1000; do row "1, $b, 128, 128" --cell lstm --time 1 --batch $b --input 128 --hidden 128; done
    table "Weights and activations in f16"
    row "100, 16, 256, 256" --cell lstm --time 100 --batch 16 --input 256 --hidden 256 --weight-format f16 --activations f16
    table "Linear recurrences (T, B, heads, head_dim, state)"
    for rule in mamba rwkv7 gla; do row "$rule 512, 4, 4, 64, 16" --cell $rule --time 512 --batch 4 --heads 4 --head-dim 64 --state 16; done
fi
echo >>"$report"
echo "$SECONDS s in all." >>"$report"
mkdir -p "$(dirname "$out")"
cp "$report" "$out"
echo "$out"
exit $failed
