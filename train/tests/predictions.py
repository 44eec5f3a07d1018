"""Reckons predictions anew from a run's own tables, with other libraries than the tools use, and compares.

    python train/tests/predictions.py RUN INPUT PREDICTIONS [ROWS]

INPUT is the raw text that `train predict --model RUN INPUT -o PREDICTIONS` scored: tab-separated click logs with labels, or ratings as
csv with a header. PREDICTIONS is Parquet. The largest difference over the first ROWS rows (3000) is printed. Needs numpy, pandas,
pyarrow and xxhash.
"""

import json
import sys
from itertools import islice

import numpy as np
import pandas as pd


def clicks(run, layout, lines):
    import xxhash

    table = pd.read_parquet(f"{run}/weights.parquet")
    names = table.name.fillna("")
    intercept = table[names == "intercept"].weight.sum()
    numbers = table[names.str.startswith("I")].weight.to_numpy(float)
    buckets = table[table.bucket.notna()].sort_values("bucket").weight.to_numpy(float)
    scales = np.ones(len(buckets))
    if layout.get("scales"):
        found = pd.read_parquet(f"{run}/{layout['scales']['key']}")
        scales[found.bucket] = found.scale
    sparse = layout["kind"] == "sparse"
    for line in lines:
        fields = line.rstrip("\n").split("\t")[1:]
        z = intercept
        for text, column, weight in zip(fields[:13], layout["numeric"], numbers):
            if sparse and text and column["max"] > column["min"]:
                z += weight * (int(text) - column["min"]) / (column["max"] - column["min"])
            if not sparse and column["sd"] > 0:
                z += weight * (int(text or 0) - column["mean"]) / column["sd"]
        for number, token in enumerate(fields[13:] if sparse else [], 1):
            if token:
                bucket = xxhash.xxh3_64_intdigest(token.encode(), seed=number) % len(buckets)
                z += buckets[bucket] / scales[bucket]
        yield 1 / (1 + np.exp(-z))


def ratings(run, layout, lines):
    sides = [pd.read_parquet(f"{run}/{name}s.parquet").set_index(f"{name}_id") for name in ("user", "item")]
    next(lines)
    for line in lines:
        rows = [side.loc[id] if id in side.index else None for side, id in zip(sides, map(int, line.split(",")[:2]))]
        stars = layout["mean"] + sum(row.get("bias", 0.0) for row in rows if row is not None)
        if all(row is not None for row in rows):
            stars += float(np.dot(*(row.factors.astype(float) for row in rows)))
        yield stars


def main(run, text, predictions, n_rows=3000):
    with open(f"{run}/preparation.json") as file:
        layout = json.load(file)["layout"]
    of_kind, column = (ratings, "prediction") if layout["kind"] == "ratings" else (clicks, "probability")
    with open(text) as lines:
        expected = np.array(list(islice(of_kind(run, layout, lines), int(n_rows))))
    found = pd.read_parquet(predictions)[column][: len(expected)].to_numpy(float)
    print(f"{len(expected)} rows, largest difference {abs(found - expected).max():.2e}")


main(*sys.argv[1:])
