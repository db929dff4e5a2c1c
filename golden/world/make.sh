#!/bin/sh
# Trains the models of weights/tiny, all but the adapter, stage by stage; about three hours on two idle
# cores, most of them the U-Net's (0.19 s a step).
#     golden/world/make.sh WORK
# Every stage can be cut off at any time: run this again with the same WORK and it goes on.
# PYTHON: an interpreter with golden/requirements.txt. With tcmalloc or jemalloc in LD_PRELOAD torch is a
# fifth faster on layers as small as these.
set -eu
[ $# = 1 ] || { echo "usage: golden/world/make.sh WORK" >&2; exit 2; }
work=$1
mkdir -p "$work"
cd "$(dirname "$0")"
PYTHON=${PYTHON:-/opt/golden-venv/bin/python}
export OMP_NUM_THREADS=1

"$PYTHON" make_suite.py    # first: no training text may hold a prompt of it
"$PYTHON" check_held_out.py

# text and pictures apart: a core each
[ -d "$work/phi/llm" ] || "$PYTHON" train_llm.py "$work/phi" --steps 1600 &
llm=$!
[ -d "$work/vae/vae" ] || "$PYTHON" train_vae.py "$work/vae" --steps 4200
wait $llm

for part in 0 1; do
    [ -f "$work/latents$part.pt" ] || "$PYTHON" encode_latents.py "$work/vae/vae" "$work/latents$part.pt" --part $part
done

"$PYTHON" train_unet.py "$work/unet" "$work/latents0.pt" "$work/latents1.pt" --steps 36000
"$PYTHON" make_pack.py "$work"
