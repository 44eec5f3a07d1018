#!/usr/bin/env python3
"""What `prep criteo` must make of criteo.tsv, by other programs: xxhash for buckets, numpy and exact fractions for numbers,
scikit-learn's StandardScaler for dense rows.

usage: criteo_values.py > criteo.json
       criteo_values.py --check        compares with a second reckoning, by pyarrow, pandas and duckdb
Python 3.11, xxhash 4.1.0, numpy 2.4.6, scikit-learn 1.9.1; for the check pyarrow 26.0.1, pandas 3.1.1, duckdb 2.0.0

Buckets are stored for 1,000,000 of them; the bucket of 1,000 is its remainder. Scaled numbers are the bits of a float32 in
hexadecimal, standardised ones its shortest decimal; `-` is missing. Rows stand in the order of the file, held-out ones too.
"""
import json
import math
import sys
from collections import Counter
from fractions import Fraction

import numpy as np
import xxhash
from sklearn.preprocessing import StandardScaler

BUCKETS = [1_000_000, 1000]
MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15

lines = open("criteo.tsv", "rb").read().split(b"\n")
assert lines.pop() == b""
fields = [line.split(b"\t") for line in lines]
assert all(len(row) == 40 for row in fields)
labels = [int(row[0]) for row in fields]
numbers = [[int(x) if x else None for x in row[1:14]] for row in fields]
hashes = [[xxhash.xxh3_64_intdigest(x, seed=j) if x else None for j, x in enumerate(row[14:], 1)] for row in fields]


def mix(x):
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)


def held_out(fraction, seed):
    """SplitMix64 by counter, as schemas/random defines it, its stream called `holdout`."""
    key = mix((seed + GOLDEN) & MASK)
    for byte in b"holdout":
        key = (mix(key ^ byte) + GOLDEN) & MASK
    return [mix((key + GOLDEN * (i + 1)) & MASK) < fraction * 2.0**64 for i in range(len(fields))]


def root(x):
    """The square root of a fraction."""
    scale = 1 << 200
    return float(Fraction(math.isqrt(int(x * scale * scale)), scale))


def column(rows, j):
    present = [numbers[i][j] for i in rows if numbers[i][j] is not None]
    if not present:
        return dict(present=0, min=None, max=None, mean=0.0, sd=0.0)
    mean = Fraction(sum(present), len(present))
    variance = Fraction(sum(x * x for x in present), len(present)) - mean * mean
    return dict(present=len(present), min=min(present), max=max(present), mean=float(mean), sd=root(variance))


def scaled(x, c):
    """Whole numbers are subtracted exactly; both differences and their quotient are rounded to f64, the quotient to f32."""
    if x is None:
        return "-"
    if c["min"] is None or c["min"] == c["max"]:
        return f"{0:08x}"
    quotient = np.float64(x - c["min"]) / np.float64(c["max"] - c["min"])
    return f"{np.float32(quotient).view(np.uint32):08x}"


def log_loss(rows, share):
    return -math.fsum(math.log(share if labels[i] else 1 - share) for i in rows) / len(rows) if rows else None


def variant(args, held):
    train, kept = [i for i in range(len(fields)) if not held[i]], [i for i in range(len(fields)) if held[i]]
    columns = [column(train, j) for j in range(13)]
    filled = np.array([[0 if x is None else x for x in row] for row in numbers], dtype=np.float64)
    scaler = StandardScaler().fit(filled[train])
    dense = scaler.transform(filled).astype(np.float32)
    positives = lambda rows: sum(labels[i] for i in rows)
    share = positives(train) / len(train)
    hits = {n: [Counter(h % n for h in hashes[i] if h is not None) for i in train] for n in BUCKETS}

    def scales(n):
        most = Counter()
        for row in hits[n]:
            most |= row
        return sorted([bucket, count] for bucket, count in most.items() if count > 1)

    return dict(
        args=args,
        held_out="".join("1" if h else "0" for h in held),
        labels=dict(train_positives=positives(train), holdout_positives=positives(kept),
                    train_base_log_loss=log_loss(train, share), holdout_base_log_loss=log_loss(kept, share)),
        numeric=columns,
        dense=[dict(mean=float(m), sd=float(s)) for m, s in zip(scaler.mean_, np.sqrt(scaler.var_))],
        categorical=[sum(hashes[i][j] is not None for i in train) for j in range(26)],
        rows_with_collisions={str(n): sum(max(row.values(), default=0) > 1 for row in hits[n]) for n in BUCKETS},
        scales={str(n): scales(n) for n in BUCKETS},
        scaled=[" ".join(scaled(x, c) for x, c in zip(row, columns)) for row in numbers],
        standardised=[" ".join(repr(float(str(x))) for x in row) for row in dense],
    )


entries = sum(x is not None for row in numbers + hashes for x in row)
expected = dict(
    labels="".join(map(str, labels)),
    entries=entries,
    buckets=[" ".join("-" if h is None else str(h % BUCKETS[0]) for h in row) for row in hashes],
    variants=[variant("", [False] * len(fields)), variant("--holdout 0.25 --seed 8", held_out(0.25, 8))],
)


def check():
    import duckdb
    import pandas as pd
    import pyarrow as pa
    import pyarrow.csv as csv

    numeric, categorical = [f"I{j}" for j in range(1, 14)], [f"C{j}" for j in range(1, 27)]
    types = {"label": pa.int8(), **{c: pa.int64() for c in numeric}, **{c: pa.binary() for c in categorical}}
    table = csv.read_csv("criteo.tsv", csv.ReadOptions(column_names=list(types)),
                         csv.ParseOptions(delimiter="\t", quote_char=False),
                         csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=True))
    assert table.num_rows == len(fields)
    assert sum(table[c].length() - table[c].null_count for c in numeric + categorical) == entries
    for v in expected["variants"]:
        train = np.array([h == "0" for h in v["held_out"]])
        fitted = table.filter(pa.array(train))
        assert int(pd.Series(fitted["label"].to_pylist()).sum()) == v["labels"]["train_positives"]
        for j, (name, c) in enumerate(zip(numeric, v["numeric"])):
            low, high, n, mean, sd = duckdb.sql(f"select min({name}), max({name}), count({name}), avg({name}::double), stddev_pop({name}::double) from fitted").fetchall()[0]
            assert (low, high, n) == (c["min"], c["max"], c["present"]), name
            if n:
                assert math.isclose(mean, c["mean"], rel_tol=1e-9, abs_tol=1e-9 * max(sd, 1)) and math.isclose(sd, c["sd"], rel_tol=1e-9), name
            # Differences as unsigned 64-bit numbers, which hold every difference of two signed ones where low is the least.
            x = table[name].to_pandas(types_mapper=pd.ArrowDtype)
            zeros = table[name].fill_null(0).to_numpy().astype(np.float64)
            mean0, sd0 = zeros[train].mean(), zeros[train].std()
            assert math.isclose(mean0, v["dense"][j]["mean"], rel_tol=1e-9, abs_tol=1e-9 * max(sd0, 1)), name
            assert math.isclose(sd0, v["dense"][j]["sd"], rel_tol=1e-9, abs_tol=1e-12), name
            for i in range(len(fields)):
                cell = v["scaled"][i].split()[j]
                assert (cell == "-") == pd.isna(x[i]), (name, i)
                if cell != "-" and n and low != high and low <= x[i]:
                    span = np.uint64((int(high) - int(low)) & MASK)
                    found = np.uint64((int(x[i]) - int(low)) & MASK).astype(np.float64) / span.astype(np.float64)
                    assert f"{found.astype(np.float32).view(np.uint32):08x}" == cell, (name, i)
                want = 0.0 if sd0 == 0 else (zeros[i] - mean0) / sd0
                assert math.isclose(float(v["standardised"][i].split()[j]), want, rel_tol=1e-6, abs_tol=1e-9), (name, i)
        for n in BUCKETS:
            cells = pd.DataFrame({c: [None if t is None else xxhash.xxh3_64(t, seed=j).intdigest() % n for t in fitted[c].to_pylist()]
                                  for j, c in enumerate(categorical, 1)}).stack().dropna()
            counts = cells.groupby([cells.index.get_level_values(0), cells]).size()
            most = counts.groupby(level=1).max()
            assert [[int(b), int(m)] for b, m in most[most > 1].items()] == v["scales"][str(n)]
            assert int((counts.groupby(level=0).max() > 1).sum()) == v["rows_with_collisions"][str(n)] > 0
    lengths = {len(t) for row in fields for t in row[14:]}
    assert {0, 1, 3, 4, 8, 9, 16, 17, 128, 129, 240, 241, 1024, 1100} <= lengths, sorted(lengths)
    print("both reckonings agree", file=sys.stderr)


if sys.argv[1:] == ["--check"]:
    check()
else:
    json.dump(expected, sys.stdout, indent=0)
    print()
