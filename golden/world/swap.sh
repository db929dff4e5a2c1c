#!/bin/sh
# Puts a trained pack in the place of weights/tiny, and makes again what follows from it.
#     golden/world/swap.sh PACK [ADAPTER]
# PACK: make_pack.py's directory, which weights/tiny itself may be; ADAPTER: what `llmdiff train` left (default
# PACK/adapter). weights/tiny/README.md, which has figures of the pack, and the floors of tests/test_shipped.c are
# a person's to bring up to date: the end of this program's output says what they stand on.
# PYTHON: an interpreter with golden/requirements.txt.
set -eu
[ $# = 1 ] || [ $# = 2 ] || { echo "usage: golden/world/swap.sh PACK [ADAPTER]" >&2; exit 2; }
pack=$(cd "$1" && pwd)
adapter=$(cd "${2:-$1/adapter}" && pwd)
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-/opt/golden-venv/bin/python}
tiny=$PWD/weights/tiny
export OMP_NUM_THREADS=1

for file in "$pack/model_index.json" "$pack/llm/model.safetensors" "$pack/llm/tokenizer.json" \
    "$pack/unet/diffusion_pytorch_model.safetensors" "$pack/vae/diffusion_pytorch_model.safetensors" \
    "$pack/scheduler/scheduler_config.json" "$pack/text_encoder/model.safetensors" "$pack/tokenizer/tokenizer.json" \
    "$adapter/adapter.safetensors" "$adapter/config.json"; do
    [ -f "$file" ] || { echo "$file: missing" >&2; exit 1; }
done
if grep -l '"_name_or_path": "/' "$pack"/*/config.json; then
    echo "these have a path of the machine that trained them: make_pack.py leaves it out" >&2
    exit 1
fi

if [ "$pack" != "$tiny" ]; then
    for part in llm unet vae scheduler text_encoder tokenizer; do
        rm -rf "${tiny:?}/$part"
        cp -R "$pack/$part" "$tiny/$part"
    done
    cp "$pack/model_index.json" "$tiny/model_index.json"
fi
if [ "$adapter" != "$tiny/adapter" ]; then
    rm -rf "${tiny:?}/adapter"
    mkdir "$tiny/adapter" # train leaves its log and checkpoints beside
    cp "$adapter/adapter.safetensors" "$adapter/config.json" "$tiny/adapter"
fi
find "$tiny" -type f -exec chmod 644 {} +

"$PYTHON" golden/world/make_suite.py # the same bytes, unless captions.py changed since the LLM was trained
(cd golden && "$PYTHON" export_demo.py 2>/dev/null)
make gallery
git status --short
make -s build/f32/test_shipped
LLMDIFF_TABLE=1 build/f32/test_shipped
