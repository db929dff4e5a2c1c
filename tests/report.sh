#!/bin/sh
# The worst error of every station in both precisions, beside torch float32's own. Errors are relative
# to the tensor's largest magnitude; "of limit" is the worst share of its tolerance that a value used.
#   tests/report.sh DIR-OF-FLOAT-TESTS DIR-OF-DOUBLE-TESTS
export OMP_WAIT_POLICY=passive
lines=$(mktemp)
trap 'rm -f "$lines"' EXIT
export LLMDIFF_REPORT="$lines"
for dir in "$@"; do
    for program in "$dir"/test_*; do
        case $program in *_check|*.o|*.d) continue ;; esac
        [ -x "$program" ] && "$program" >/dev/null 2>&1
    done
done
awk '{
    split($3, path, "/"); name = path[1]; n[name] += $1 == "float64"; station[name] = $2
    worst = $1 == "float64" ? "d" : "f"
    if ($4 > error[worst, name]) error[worst, name] = $4
    if ($6 > 0 && $4 / $6 > share[worst, name]) share[worst, name] = $4 / $6
    if ($5 > torch[name]) torch[name] = $5
} END {
    for (name in n) printf "| %s | %s | %d | %.1e | %.1e | %.1e | %.2f |\n", name, station[name],
        n[name], error["d", name], error["f", name], torch[name], share["f", name]
}' "$lines" | sort >"$lines.table"
echo "| golden | station | tensors | double | float | torch float32 | float, of limit |"
echo "|---|---|---|---|---|---|---|"
cat "$lines.table"
rm -f "$lines.table"
