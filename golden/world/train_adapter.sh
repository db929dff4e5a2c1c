#!/bin/sh
# Trains adapters as that of weights/tiny was: 10,000 steps, about twenty minutes of one core. That is OUT/first, as those of
# weights/experiments are. The shipped one is OUT/third: two times 8,000 steps more, for relations, which come last.
#     golden/world/train_adapter.sh PAIRS OUT first|second|third [--set KEY=VALUE ...] [--cache-dir DIR]
# PAIRS: a directory with a tar of make_pairs.py --count 20000.
# On one type of CPU and with one OpenBLAS the same bytes come out, whatever the number of threads.
# Can be cut off at any time: run this again with the same words and it goes on.
#
# Why these flags (bench/experiments/claim.md has what else was tried): the scores are of norm 30 times the embedding's,
# which says what the word itself is, so they are scaled; a1 falls to 0 before phi has learned anything unless it is
# slow; with a2 = 0 at first tau hardly learns at all.
set -eu
[ $# -ge 3 ] || { echo "usage: golden/world/train_adapter.sh PAIRS OUT first|second|third [train's flags]" >&2; exit 2; }
pairs=$(cd "$1" && pwd)
mkdir -p "$2"
out=$(cd "$2" && pwd)
last=$3
shift 3
cd "$(dirname "$0")/../.."

train() { # part, steps, rate, seed, flags
    part=$out/$1 steps=$2 rate=$3 seed=$4
    shift 4
    [ ! -f "$part/adapter.safetensors" ] || return 0
    [ ! -f "$part/train.jsonl" ] || set -- "$@" --resume-from-checkpoint latest
    ./llmdiff train -m weights/tiny --train-data-dir "$pairs" --output-dir "$part" --center-crop \
        --max-train-steps "$steps" --train-batch-size 16 --learning-rate "$rate" --seed "$seed" --lr-scheduler cosine \
        --lr-warmup-steps 100 --adam-beta2 0.99 --scalar-lr-scale 0.05 --ema-decay 0.999 --checkpoints-total-limit 2 "$@"
}

train first 10000 2e-3 42 --added-start 0.5 --set normalize=rms --set g_scale=0.03 "$@"
[ "$last" != first ] || exit 0
train second 8000 1e-3 43 --adapter "$out/first" "$@"
[ "$last" != second ] || exit 0
train third 8000 1.5e-3 44 --adapter "$out/second" "$@"
