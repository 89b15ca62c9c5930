#!/usr/bin/env bash
# What this project does on a CUDA GPU: speed, memory, correctness, in four parts (docs/gpu.md).
#
#   benchmarks/gpu.sh --out DIR [--part 1-4] [--wheels FOLDER] [--retry] [--rehearse]
#
# Part 1 takes at most 4 minutes, the others at most 9, so that one fits into a lease of ten. Every row is printed and
# appended to DIR/gpu.jsonl at once; pages are DIR/gpu-N.md and benchmarks/results/gpu-N.md. The same command again goes
# on with what is left, which it prints at its end.
#
# Needed: Python 3.11 or later ($PYTHON, else python3) with torch, torchvision, timm, and seven packages, none of which
# has to be installed. Collected where there is a network, for Python 3.12 on x86-64 (3 MB):
#
#   pip download --no-deps --only-binary=:all: --python-version 3.12 --platform manylinux_2_17_x86_64 \
#       --platform manylinux2014_x86_64 -c constraints.txt -d wheels \
#       pydantic pydantic_core annotated_types typing_inspection typing_extensions tomli tomli_w
#
# and brought along with --wheels wheels. Used where installed: pytest (runs the tests marked cuda), scikit-learn (the
# images of the demo, else generated ones), nvidia-ml-py (doctor), faiss.
#
# GPU_PART_SECONDS, at least 11, is another limit of a part.
#
# Exit codes: 0 all is measured, 1 something failed, 2 no GPU or a wrong option, 3 something is left.
set -u
cd "$(dirname "$0")/.." || exit 2
python=${PYTHON:-python3} out='' parts='1 2 3 4' wheels='' more=()
while [ $# -gt 0 ]; do
    case $1 in
        --out) out=${2:?--out needs a folder}; shift ;;
        --part) parts=${2:?--part needs a number from 1 to 4}; shift ;;
        --wheels) wheels=${2:?--wheels needs a folder}; shift ;;
        --retry | --rehearse) more+=("$1") ;;
        *) sed -n '/^#   benchmarks/s/^# *//p' "$0" >&2; exit 2 ;;
    esac
    shift
done
[ -n "$out" ] || { echo "--out DIR is needed" >&2; exit 2; }
if [ -n "$wheels" ]; then
    site=$(mktemp -d) || exit 2
    trap 'rm -rf "$site"' EXIT
    for wheel in "$wheels"/*.whl; do "$python" -m zipfile -e "$wheel" "$site" || exit 2; done
    export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
fi
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
worst=0
for part in $parts; do
    limit=${GPU_PART_SECONDS:-540}
    [ "$part" != 1 ] || limit=${GPU_PART_SECONDS:-240}
    until=$(($(date +%s) + limit - 10))
    while :; do
        left=$((until - $(date +%s)))
        [ $left -gt 0 ] || break
        # Where a job hangs, the part is stopped from outside: its rows are kept.
        timeout --signal=INT --kill-after=10 $((left + 10)) \
            "$python" -m benchmarks.gpu --out "$out" --part "$part" --until $until ${more[@]+"${more[@]}"}
        code=$?
        # 75: the GPU answers this process no more, another one goes on.
        [ $code = 75 ] || break
    done
    case $code in 0 | 1 | 2 | 3) ;; *) code=3 ;; esac
    [ $code != 2 ] || exit 2
    [ $code -le $worst ] || worst=$code
done
[ $worst != 3 ] || echo "something is left: run the same command again"
exit $worst
