#!/usr/bin/env python3
"""The statistics of `prep movielens` by another road: plain Python, float sums with math.fsum, sets and dictionaries.

statistics.py FILE [FRACTION SEED]      prints what tests/cli.rs compares with, as JSON (FILE: csv with header, may hold bad rows)
statistics.py --grid FILE               prints the held-out RMSE over shrinkages, mean of ten splits of 10 %

Only the shape of a row is checked here as the tests need it; Python 3 without packages.
"""
import json
import math
import struct
import sys

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def mix(x):
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)


def stream_key(seed, name):
    key = mix((seed + GOLDEN) & MASK)
    for byte in name.encode():
        key = (mix(key ^ byte) + GOLDEN) & MASK
    return key


def word(key, i):
    return mix((key + GOLDEN * (i + 1)) & MASK)


def f32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def read(path):
    """[(row number, user id, item id, rating)], how many rows there are."""
    rows, n = [], 0
    with open(path, encoding="utf-8-sig", newline="") as file:
        next(file)
        for n, line in enumerate(file, 1):
            try:
                user, item, rating, _ = line.rstrip("\r\n").split(",")
                user, item, rating = int(user), int(item), f32(float(rating))
            except ValueError:
                continue
            if 0 <= user < 1 << 32 and 0 <= item < 1 << 32 and 0.5 <= rating <= 5:
                rows.append((n - 1, user, item, rating))
    return rows, n


def rmse(errors):
    return math.sqrt(math.fsum(e * e for e in errors) / len(errors)) if errors else None


def effects(train, mean, item_shrinkage, user_shrinkage):
    def fit(key, residuals, shrinkage):
        groups = {}
        for row, residual in zip(train, residuals):
            groups.setdefault(row[key], []).append(residual)
        return {k: math.fsum(v) / (shrinkage + len(v)) for k, v in groups.items()}

    residuals = [r[3] - mean for r in train]
    items = fit(2, residuals, item_shrinkage)
    users = fit(1, [e - items[r[2]] for e, r in zip(residuals, train)], user_shrinkage)
    return items, users


def split(rows, fraction, seed):
    if fraction is None:
        return rows, []
    key = stream_key(seed, "holdout")
    held = {r[0] for r in rows if word(key, r[0]) < fraction * 2.0**64}
    return [r for r in rows if r[0] not in held], [r for r in rows if r[0] in held]


def statistics(path, fraction=None, seed=8, item_shrinkage=3.0, user_shrinkage=4.0):
    rows, n_read = read(path)
    train, held = split(rows, fraction, seed)
    mean = math.fsum(r[3] for r in train) / len(train)
    items, users = effects(train, mean, item_shrinkage, user_shrinkage)

    def baselines(some):
        if not some:
            return None
        return {
            "mean": rmse([r[3] - mean for r in some]),
            "effects": rmse([r[3] - mean - items.get(r[2], 0.0) - users.get(r[1], 0.0) for r in some]),
        }

    def most(key):
        counts = {}
        for r in train:
            counts[r[key]] = counts.get(r[key], 0) + 1
        return max(counts.values())

    return {
        "rows": {"read": n_read, "train": len(train), "holdout": len(held), "rejected": n_read - len(rows)},
        "n_users": len({r[1] for r in rows}),
        "n_items": len({r[2] for r in rows}),
        "user_ids": sorted({r[1] for r in rows}),
        "item_ids": sorted({r[2] for r in rows}),
        "mean": mean,
        "rating_min": min(r[3] for r in train),
        "rating_max": max(r[3] for r in train),
        "user_rows_max": most(1),
        "item_rows_max": most(2),
        "repeated_pairs": len(rows) - len({(r[1], r[2]) for r in rows}),
        "train": baselines(train),
        "holdout": baselines(held),
        "first_held_out": [r[0] for r in held[:5]],
    }


def grid(path):
    rows, _ = read(path)
    for item_shrinkage in (2, 3, 4, 5, 6, 8, 10):
        line = []
        for user_shrinkage in (2, 3, 4, 5, 6, 8, 10, 15):
            found = []
            for seed in range(10):
                train, held = split(rows, 0.1, seed)
                mean = math.fsum(r[3] for r in train) / len(train)
                items, users = effects(train, mean, item_shrinkage, user_shrinkage)
                found.append(rmse([r[3] - mean - items.get(r[2], 0.0) - users.get(r[1], 0.0) for r in held]))
            line.append(f"{math.fsum(found) / len(found):.5f}")
        print("items", item_shrinkage, "users 2 3 4 5 6 8 10 15:", *line, flush=True)


if sys.argv[1] == "--grid":
    grid(sys.argv[2])
else:
    holdout = [float(sys.argv[2]), int(sys.argv[3])] if len(sys.argv) > 2 else []
    json.dump(statistics(sys.argv[1], *holdout), sys.stdout, indent=1)
    print()
