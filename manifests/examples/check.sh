#!/bin/sh
# Runs the chains in shell/ and make/ on small data, and makes the manifests in thesis/ again: they must come out byte for byte.
#
#     check.sh [FOLDER_OF_THE_TOOLS]      without it, prep, shard and train are those on the PATH
#
# Takes seconds, and 1.2 GB for temporary data. With GRISTMILL_UPDATE_MANIFESTS=1 the manifests in thesis/ are written anew: for a
# new version of the tools, whose name and whose Parquet they contain.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
if [ $# -gt 0 ]; then
    PATH=$(cd "$1" && pwd):$PATH
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
cd "$scratch"

fail() {
    echo "$*" >&2
    [ ! -f log ] || tail -n 20 log >&2
    exit 1
}

# The exit code of a command, whose words go to the file `log`.
code_of() {
    code=0
    "$@" >out 2>log || code=$?
    echo "$code"
}

expect() {
    [ "$1" = "$2" ] || fail "$3: $1, expected $2"
}

# How many reports in `out` say that nothing was changed.
unchanged() { grep -c '"unchanged":true' out || true; }

# Of the run in folder $1.
model_digest() { grep -o '"model_digest": *"[^"]*"' "$1/report.json" | tr -d ' '; }

prep generate movielens --quiet --ratings 100000 --users 600 --movies 400 --seed 8 --out ratings.csv >out
prep generate criteo --quiet --rows 50000 --seed 8 --out train.txt >out
printf 'userId,movieId,rating,timestamp\n1,1,9.5,978300760\n' >bad.csv

export BATCH=1000 TRAIN_OPTIONS='--step-batches 2 --max-epochs 3'
run=$here/shell/run.sh
expect "$(code_of "$run" ratings.csv 'of the shell')" 0 'run.sh'
expect "$(grep -c '^{' out)" 4 'reports of run.sh'
expect "$(unchanged)" 0 'unchanged'
expect "$(code_of "$run" ratings.csv 'of the shell')" 0 'run.sh again'
expect "$(unchanged)" 3 'unchanged of prep, shard and train'
expect "$(KIND=criteo PREP_OPTIONS='--hash-buckets 10000' code_of "$run" train.txt clicks)" 0 'run.sh on clicks'
expect "$(code_of "$run" bad.csv bad)" 3 'run.sh on bad data'
expect "$(code_of "$run" none.csv none)" 2 'run.sh on nothing'
expect "$(BATCH=900 code_of "$run" ratings.csv 'of the shell')" 5 'run.sh with other settings at the same place'

# The tests of a makefile must not see the options of the make that may have called this.
unset MAKEFLAGS MFLAGS MAKELEVEL
make_chain() { make -f "$here/make/Makefile" INPUT="$1" PLACE="$2"; }
expect "$(code_of make_chain ratings.csv of-make)" 0 'make'
expect "$(model_digest of-make/run)" "$(model_digest 'of the shell/run')" 'the model of make, and that of run.sh'
expect "$(code_of make_chain ratings.csv of-make)" 0 'make again'
expect "$(grep -c -e 'prep ' -e 'shard ' -e 'train ' out || true)" 0 'calls of make again'
touch ratings.csv
expect "$(code_of make_chain ratings.csv of-make)" 0 'make after a touch'
expect "$(unchanged)" 3 'unchanged of prep, shard and train after a touch'
expect "$(code_of make_chain bad.csv bad-of-make)" 2 "make's own code for bad data"
grep -q 'bad.csv:2:5: rating 9.5 is outside' log || fail 'make does not show why prep failed'

expect "$(code_of sh "$here/make-manifests.sh" thesis)" 0 'make-manifests.sh'
for name in lr-dense lr-sparse pmf-10m pmf-20m; do
    if [ -n "${GRISTMILL_UPDATE_MANIFESTS:-}" ]; then
        cp "thesis/$name.json" "$here/thesis/"
    fi
    cmp "$here/thesis/$name.json" "thesis/$name.json" || fail "thesis/$name.json is not what make-manifests.sh makes"
done
echo 'run.sh, the Makefile and the manifests are as they should be'
