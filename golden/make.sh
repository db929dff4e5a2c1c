#!/bin/sh
# Rebuilds the goldens and says for every file whether it came out as committed.
# PYTHON: an interpreter with golden/requirements.txt; without network it needs nothing else.
set -eu
cd "$(dirname "$0")"

PYTHON=${PYTHON:-/opt/golden-venv/bin/python}
[ -x "$PYTHON" ] || PYTHON=python3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$PYTHON" reproduced.py versions

for script in check_port.py export_*.py; do
    echo "== $script"
    # upstream's progress bars and advice go unread, unless something fails
    "$PYTHON" "$script" 2>"$work/messages" || { cat "$work/messages"; exit 1; }
done

# The packs are frozen: built beside, and compared.
"$PYTHON" make_micro.py "$work/golden/micro" 2>/dev/null
"$PYTHON" make_baseline.py "$work/golden/micro_clip" 2>/dev/null
"$PYTHON" make_tiny.py "$work/weights/tiny" 2>/dev/null

"$PYTHON" reproduced.py compare "$work"
