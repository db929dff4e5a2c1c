#!/bin/sh
# Runs every test program of the given build directories, as many at a time as there are cores, and adds
# up what cmocka reports. A program that dies, or reports nothing, counts as a failure. Last line:
# N passed, N failed. ONLY='test_mpi*' runs some.
export OMP_WAIT_POLICY=passive # as the program sets it for itself (ref/cli.c)

# run.sh --one LOGS PROGRAM: its result, and its counts in a file
if [ "$1" = --one ]; then
    log=$2/$(echo "$3" | tr / _)
    "$3" >"$log" 2>&1
    code=$?
    p=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test(s).*/\1/p' "$log" | tail -n 1)
    f=$(sed -n 's/^\[  FAILED  \] \([0-9]*\) test(s).*/\1/p' "$log" | tail -n 1)
    s=$(sed -n 's/^\[  SKIPPED \] \([0-9]*\) test(s).*/\1/p' "$log" | tail -n 1)
    p=${p:-0} f=${f:-0} s=${s:-0}
    if [ "$code" -ne 0 ] && [ "$f" -eq 0 ]; then f=1; fi
    if [ $((p + f + s)) -eq 0 ]; then f=1; fi
    if [ "$f" -ne 0 ]; then cat "$log"; else grep '^skipped: ' "$log"; fi
    echo "$3: $p passed, $f failed$([ "$s" -eq 0 ] || echo ", $s skipped")"
    echo "$p $f $s" >"$log.counts"
    exit 0
fi

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
trap 'exit 130' INT TERM
programs=$(for dir in "$@"; do
    for program in "$dir"/${ONLY:-test_*}; do
        case $program in *.o|*.d) continue ;; esac
        [ ! -x "$program" ] || echo "$program"
    done
done)
echo "$programs" | xargs -r -n 1 -P "$(nproc)" "$0" --one "$logs"
passed=0 failed=0 skipped=0
for program in $programs; do
    p=0 f=1 s=0
    counts=$logs/$(echo "$program" | tr / _).counts
    [ ! -e "$counts" ] || read -r p f s <"$counts"
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
done
[ "$skipped" -eq 0 ] || echo "($skipped skipped, each for the reason printed above)"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
