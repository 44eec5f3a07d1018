#!/bin/sh
# Raw ratings or click logs to a measured model, in POSIX sh.
#
#     run.sh INPUT PLACE
#     run.sh data/ml-20m.zip results/ml20m
#     KIND=criteo BATCH=6250 run.sh s3://raw/criteo/train.txt.gz s3://models/criteo
#
# Each tool's last line of standard output is its report. A line is taken apart by jq, or by python3 where there is no jq, and
# the next tool gets the place from it. The reports are printed as they come, so the last line of this script is that of the
# last tool. The exit code is that of the tool that failed; the same call again changes nothing and is cheap.
#
# Settings, from the environment: KIND (movielens), BATCH (6250), HOLDOUT (0.1), and words to add to a call:
# PREP_OPTIONS, SHARD_OPTIONS, TRAIN_OPTIONS (--step-batches 24).
set -eu

if [ $# -ne 2 ]; then
    echo "usage: $0 INPUT PLACE" >&2
    exit 2
fi
input=$1
place=$2

if command -v jq >/dev/null; then
    field() { printf '%s\n' "$1" | jq -er ".$2"; }
elif command -v python3 >/dev/null; then
    field() { printf '%s\n' "$1" | python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$2"; }
else
    echo "$0: neither jq nor python3 is here to read the reports" >&2
    exit 2
fi

# The options are split at blanks, but no word of them is a pattern.
set -f
# --out is always given: without it, prep writes rows instead of a report to a standard output that is a pipe, as it is here.
# An assignment has the exit code of the command in it, so `set -e` ends the script at a tool that fails, with its code.
report=$(prep "${KIND:-movielens}" "$input" --out "$place/prepared" --holdout "${HOLDOUT:-0.1}" ${PREP_OPTIONS:-})
printf '%s\n' "$report"
prepared=$(field "$report" output)

report=$(shard "$prepared" --out "$place/shards" --batch "${BATCH:-6250}" ${SHARD_OPTIONS:-})
printf '%s\n' "$report"
manifest=$(field "$report" manifest)

report=$(train --manifest "$manifest" --out "$place/run" ${TRAIN_OPTIONS:---step-batches 24})
printf '%s\n' "$report"
model=$(field "$report" output)

train evaluate --model "$model" "$manifest"
