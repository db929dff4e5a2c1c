#!/bin/sh
# Rebuilds the goldens and says for every file whether it came out as committed.
# PYTHON: an interpreter with golden/requirements.txt; without network it needs nothing else.
set -eu
cd "$(dirname "$0")"

PYTHON=${PYTHON:-/opt/golden-venv/bin/python}
[ -x "$PYTHON" ] || PYTHON=python3
"$PYTHON" reproduced.py versions

for exporter in export_*.py; do
    echo "== $exporter"
    "$PYTHON" "$exporter" 2>/dev/null || { echo "$exporter failed; again, with its messages:"; "$PYTHON" "$exporter"; }
done

# The two packs are frozen: built beside, and compared.
packs=$(mktemp -d)
trap 'rm -rf "$packs"' EXIT
"$PYTHON" make_micro.py "$packs/golden/micro" 2>/dev/null
"$PYTHON" make_tiny.py "$packs/weights/tiny" 2>/dev/null

"$PYTHON" reproduced.py compare "$packs"
