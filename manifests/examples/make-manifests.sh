#!/bin/sh
# Makes stand-ins for the data of the thesis' four experiments, and from them the manifests in thesis/.
#
#     make-manifests.sh FOLDER [tenth|full]
#
# FOLDER gets raw/, prepared/, shards/ and four manifests. `tenth` (the default) is what the manifests in thesis/ were made of: a
# tenth of the ratings and users, a twentieth of the click log, so that the manifests stay small. `full` has as many rows
# as the real data and needs 30 GB. The same version of the tools makes the same bytes on any machine.
# prep and shard must be on the PATH.
set -eu

case "$#:${2:-tenth}" in
1:tenth | 2:tenth) clicks=2292031 small="1000005 6988" large="2000026 13849" ;;
2:full) clicks=45840617 small="10000054 69878" large="20000263 138493" ;;
*)
    echo "usage: $0 FOLDER [tenth|full]" >&2
    exit 2
    ;;
esac
mkdir -p "$1/raw"
cd "$1"

# The options of `prep generate movielens`, for "RATINGS USERS" MOVIES.
ratings() { echo "--ratings ${1% *} --users ${1#* } --movies $2 --seed 8"; }

prep generate criteo --rows "$clicks" --seed 8 --out raw/train.txt --replace
prep generate movielens $(ratings "$small" 10677) --out raw/ml-10m.csv --replace
prep generate movielens $(ratings "$large" 26744) --out raw/ml-20m.csv --replace

prep criteo raw/train.txt --features dense --name lr-dense --out prepared/lr-dense --replace
shard prepared/lr-dense --batch 6250 --out shards/lr-dense --manifest lr-dense.json --replace

prep criteo raw/train.txt --hash-buckets 1000000 --name lr-sparse --out prepared/lr-sparse --replace
shard prepared/lr-sparse --batch 6250 --out shards/lr-sparse --manifest lr-sparse.json --replace

prep movielens raw/ml-10m.csv --name pmf-10m --out prepared/pmf-10m --replace
shard prepared/pmf-10m --batch 6250 --out shards/pmf-10m --manifest pmf-10m.json --replace

prep movielens raw/ml-20m.csv --name pmf-20m --out prepared/pmf-20m --replace
shard prepared/pmf-20m --batch 12000 --out shards/pmf-20m --manifest pmf-20m.json --replace
