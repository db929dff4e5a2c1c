#!/bin/sh
# Rebuilds the goldens and the kit, and says for every file whether it came out as committed.
#     golden/make.sh [goldens|kit]
# PYTHON: an interpreter with golden/requirements.txt; without network it needs nothing else.
set -eu
cd "$(dirname "$0")"

PYTHON=${PYTHON:-/opt/golden-venv/bin/python}
[ -x "$PYTHON" ] || PYTHON=python3
what=${1:-goldens}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$PYTHON" reproduced.py versions

# upstream's progress bars and advice go unread, unless something fails
run() {
    echo "== $1"
    "$PYTHON" "$@" 2>"$work/messages" || { cat "$work/messages"; exit 1; }
}

if [ "$what" = kit ]; then
    run make_kit.py --ports "$work/ports"
    run check_kit.py "$work/ports"
else
    for script in check_port.py export_*.py; do run "$script"; done
fi

if [ "$what" = goldens ]; then
    # The packs are frozen: built beside, and compared.
    "$PYTHON" make_micro.py "$work/golden/micro" 2>/dev/null
    "$PYTHON" make_baseline.py "$work/golden/micro_clip" 2>/dev/null
fi

"$PYTHON" reproduced.py "$what" "$work"
