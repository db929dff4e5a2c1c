#!/bin/sh
# Trains an adapter as that of weights/tiny was, in 10,000 steps: about ten minutes on two idle cores.
#     golden/world/train_adapter.sh PAIRS OUT [--set KEY=VALUE ...] [--cache-dir DIR]
# PAIRS: a directory with a tar of make_pairs.py --count 20000. OUT/adapter: what comes out; its log is OUT/train.jsonl.
# On one type of CPU and with one OpenBLAS the same bytes come out, whatever the number of threads.
# Can be cut off at any time: run this again with the same words and it goes on.
#
# a1 and b1 are held at first. phi maps to noise then, and the quickest way to a smaller loss is to close the
# original attention, a1 -> 0, behind which phi learns nothing any more.
set -eu
[ $# -ge 2 ] || { echo "usage: golden/world/train_adapter.sh PAIRS OUT [train's flags]" >&2; exit 2; }
pairs=$(cd "$1" && pwd)
mkdir -p "$2"
out=$(cd "$2" && pwd)
shift 2
cd "$(dirname "$0")/../.."

train() { # stage, its flags
    stage=$1
    shift
    [ ! -d "$out/$stage" ] || set -- "$@" --resume-from-checkpoint latest
    ./llmdiff train -m weights/tiny --train-data-dir "$pairs" --output-dir "$out/$stage" --center-crop \
        --train-batch-size 16 --learning-rate 2e-3 --adam-beta2 0.99 --lr-warmup-steps 100 --ema-decay 0.999 \
        --checkpointing-steps 500 --checkpoints-total-limit 2 "$@"
}

[ -f "$out/held/adapter.safetensors" ] ||
    train held --set normalize=rms --max-train-steps 3000 --train-only '^(phi|g|eta)|tau_|[.](a2|b2)$' "$@"
[ -f "$out/adapter/adapter.safetensors" ] ||
    train adapter --adapter "$out/held" --max-train-steps 7000 --lr-scheduler cosine --scalar-lr-scale 0.1 "$@"
cat "$out/held/train.jsonl" "$out/adapter/train.jsonl" >"$out/train.jsonl"
