#!/usr/bin/env bash
# Everything that is to be known of a GPU, in ten minutes on one H100 or H200: the tests that need one, rates of fit
# beside a bare loop, images from disk, views, transform, and how long the papers' trainings would take.
#
#     benchmarks/gpu.sh [--toy] [--wheels DIR] [FOLDER]
#
# The table goes to $OUT if that is set, else to FOLDER: gpu.md and gpu.csv, beside gpu.log.
# --toy     Small networks and a few steps, also without a GPU: does every part run?
# --wheels  For a machine that reaches no package index: a folder of wheels of what it lacks, such as
#               pip wheel --no-deps -w DIR . skorch skops prettytable wcwidth zuko numpydoc
#           makes elsewhere for the same Python, skastro's own for its version. They serve this run alone.
# Nothing else is installed, unless torch is missing. PYTHON names the interpreter.
# Each part has a process and a limit of time: one that fails leaves its error in the table, and the others run.
set -uo pipefail

toy='' wheels='' folder=''
while (($#)); do
    case $1 in
        --toy) toy=--toy ;;
        --wheels) wheels=$(realpath "${2:?}") && shift ;;
        -*) sed -n '2,/^set/p' "$0" && exit 2 ;;
        *) folder=$1 ;;
    esac
    shift
done
folder=${OUT:-${folder:-$(mktemp -d)}}
mkdir -p "$folder" && folder=$(realpath "$folder") || exit
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
python=${PYTHON:-python3} site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
if [[ $wheels ]]; then
    "$python" -m pip install -q --no-index --no-deps --no-compile --target "$site" "$wheels"/*.whl || exit
fi
export PYTHONUNBUFFERED=1 PYTHONPATH=$PWD:$site${PYTHONPATH:+:$PYTHONPATH}
"$python" -c 'import torch' 2>/dev/null || "$python" -m pip install -q -e '.[test]' || exit

part() {
    local name=$1 limit=$2 left=$((570 - SECONDS)) status
    ((limit < left)) || limit=$left
    echo "== $name: at $SECONDS s, for at most $limit s"
    ((limit > 0)) && timeout --signal=INT --kill-after=10 "$limit" "$python" benchmarks/gpu.py "$name" "$folder" $toy
    status=$?
    ((status == 0)) || echo "$name,error,,,ended with status $status after at most $limit s: see gpu.log" >>"$folder/gpu.csv"
}

all() {
    "$python" benchmarks/gpu.py machine "$folder" || return # where a package is missing, it shows here
    part tests 130
    part hayat2021 90
    part slijepcevic2023 80
    part parker2024-image 110
    part clip 70
    part sources 110
    part views 60
    part transform 60
    "$python" benchmarks/gpu.py table "$folder" $toy
    echo "In $folder, after $SECONDS s"
    ! grep -q ',error,' "$folder/gpu.csv"
}

all 2>&1 | tee "$folder/gpu.log"
