#!/bin/sh
# Runs every test program of the given build directories and adds up what cmocka reports. A program
# that dies, or reports nothing, counts as a failure. Last line: N passed, N failed. ONLY='test_mpi*'
# runs some.
export OMP_WAIT_POLICY=passive # as the program sets it for itself (ref/cli.c)
passed=0 failed=0 skipped=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for dir in "$@"; do
    for program in "$dir"/${ONLY:-test_*}; do
        [ -x "$program" ] || continue
        case $program in *.o|*.d) continue ;; esac
        "$program" >"$log" 2>&1
        code=$?
        p=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test(s).*/\1/p' "$log" | tail -n 1)
        f=$(sed -n 's/^\[  FAILED  \] \([0-9]*\) test(s).*/\1/p' "$log" | tail -n 1)
        s=$(sed -n 's/^\[  SKIPPED \] \([0-9]*\) test(s).*/\1/p' "$log" | tail -n 1)
        p=${p:-0} f=${f:-0} s=${s:-0}
        if [ "$code" -ne 0 ] && [ "$f" -eq 0 ]; then f=1; fi
        if [ $((p + f + s)) -eq 0 ]; then f=1; fi
        if [ "$f" -ne 0 ]; then cat "$log"; else grep '^skipped: ' "$log"; fi
        echo "$program: $p passed, $f failed$([ "$s" -eq 0 ] || echo ", $s skipped")"
        passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    done
done
[ "$skipped" -eq 0 ] || echo "($skipped skipped, each for the reason printed above)"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
