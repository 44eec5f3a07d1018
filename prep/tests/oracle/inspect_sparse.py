#!/usr/bin/env python3
"""What `prep inspect` must find in the rows that tests/cli/inspect.rs writes, by pandas and numpy.

usage: inspect_sparse.py > inspect.json        Python 3.11, pandas 3.1.1, numpy 2.4.6

The rows are made from whole numbers by the same rules there and here: 900 rows, the last 200 held out, 5000 buckets.
"""
import json
import math
import sys

import numpy as np
import pandas as pd

ROWS, TRAIN, BUCKETS = 900, 700, 5000


def cell(i, c):
    return (i * 7919 + c * 104729 + i * i * 31 + i * c * 17) % 1009


def number(i, j):
    v = cell(i, j)
    if j == 13 or v % (j + 1) == 0:
        return np.nan
    return np.float32(0.5) if j == 12 else np.float32(v) / np.float32(1009)


def bucket(i, j):
    v = cell(i, 13 + j)
    if j == 26 or v % 5 == 0:
        return pd.NA
    return {1: v % 3, 2: v % 3, 25: 7}.get(j, (v * v * 37 + v + j * 1009) % BUCKETS)


numeric, categorical = [f"I{j}" for j in range(1, 14)], [f"C{j}" for j in range(1, 27)]
frame = pd.DataFrame({"label": [int(cell(i, 0) % 4 == 0) for i in range(ROWS)]})
for j, name in enumerate(numeric, 1):
    frame[name] = np.array([number(i, j) for i in range(ROWS)], dtype=np.float32)
for j, name in enumerate(categorical, 1):
    frame[name] = pd.array([bucket(i, j) for i in range(ROWS)], dtype="UInt32")
train, held = frame[:TRAIN], frame[TRAIN:]
share = train["label"].mean()
base = lambda rows: -(rows["label"] * math.log(share) + (1 - rows["label"]) * math.log(1 - share)).mean()


def stored(column):
    x = column.dropna().astype(np.float64)
    return dict(min=x.min(), max=x.max(), mean=x.mean(), sd=x.std(ddof=0)) if len(x) else None


def category(name):
    column = train[name]
    counts = column.value_counts()
    top = int(counts[counts == counts.max()].index.min()) if len(counts) else None
    return dict(name=name, missing=float(column.isna().mean()), buckets=int(column.nunique()), top_bucket=top,
                top_share=float((column == top).fillna(False).mean()) if top is not None else 0.0,
                present=int(column.notna().sum()))


hits = train[categorical].stack().dropna()
used = int(hits.nunique())
collisions = int(train[categorical].apply(lambda row: row.dropna().duplicated().any(), axis=1).sum())
json.dump(dict(
    labels=dict(train_clicks=share, holdout_clicks=held["label"].mean(), train_base_log_loss=base(train),
                holdout_base_log_loss=base(held), train_positives=int(train["label"].sum()), holdout_positives=int(held["label"].sum())),
    numeric=[dict(name=n, missing=float(train[n].isna().mean()), present=int(train[n].notna().sum()), stored=stored(train[n])) for n in numeric],
    categorical=[category(name) for name in categorical],
    buckets=dict(buckets=BUCKETS, used=used, rows_with_collisions=collisions, share_with_collisions=collisions / TRAIN,
                 tokens_per_bucket=math.log(1 - used / BUCKETS) / math.log(1 - 1 / BUCKETS) / BUCKETS),
    entries=int(frame[numeric + categorical].notna().sum().sum()),
), sys.stdout, indent=1)
print()
