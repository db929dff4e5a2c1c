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

if [ "$what" = kit ]; then
    scripts=make_kit.py
else
    scripts="check_port.py $(echo export_*.py)"
fi
for script in $scripts; do
    echo "== $script"
    # upstream's progress bars and advice go unread, unless something fails
    "$PYTHON" "$script" 2>"$work/messages" || { cat "$work/messages"; exit 1; }
done

if [ "$what" = goldens ]; then
    # The packs are frozen: built beside, and compared.
    "$PYTHON" make_micro.py "$work/golden/micro" 2>/dev/null
    "$PYTHON" make_baseline.py "$work/golden/micro_clip" 2>/dev/null
    "$PYTHON" make_tiny.py "$work/weights/tiny" 2>/dev/null
fi

"$PYTHON" reproduced.py "$what" "$work"
