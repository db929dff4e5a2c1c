#!/bin/sh
# Trains an adapter as that of weights/tiny was, in 10,000 steps: about ten minutes on two idle cores.
#     golden/world/train_adapter.sh PAIRS OUT [--set KEY=VALUE ...] [--cache-dir DIR]
# PAIRS: a directory with a tar of make_pairs.py --count 20000. OUT: adapter.safetensors, config.json, train.jsonl, figure6.svg.
# On one type of CPU and with one OpenBLAS the same bytes come out, whatever the number of threads.
# Can be cut off at any time: run this again with the same words and it goes on.
#
# Why these flags (bench/experiments/claim.md has what else was tried): the scores are of norm 30 times the embedding's,
# which says what the word itself is, so they are scaled; a1 falls to 0 before phi has learned anything unless it is
# slow; with a2 = 0 at first tau hardly learns at all.
set -eu
[ $# -ge 2 ] || { echo "usage: golden/world/train_adapter.sh PAIRS OUT [train's flags]" >&2; exit 2; }
pairs=$(cd "$1" && pwd)
mkdir -p "$2"
out=$(cd "$2" && pwd)
shift 2
cd "$(dirname "$0")/../.."
[ ! -f "$out/train.jsonl" ] || set -- "$@" --resume-from-checkpoint latest
exec ./llmdiff train -m weights/tiny --train-data-dir "$pairs" --output-dir "$out" --center-crop \
    --max-train-steps 10000 --train-batch-size 16 --learning-rate 2e-3 --lr-scheduler cosine --lr-warmup-steps 100 \
    --adam-beta2 0.99 --scalar-lr-scale 0.05 --added-start 0.5 --ema-decay 0.999 --checkpoints-total-limit 2 \
    --set normalize=rms --set g_scale=0.03 "$@"
