#!/usr/bin/env python3
"""The same work by other tools, for `movielens.py`. Each command prints one line of JSON.

usage: rivals.py prep-polars RATINGS.csv OUT.parquet       dense ids, mean-centred ratings
       rivals.py shard-polars IN.parquet FOLDER BATCH       shuffled files of BATCH rows
       rivals.py train-torch RATINGS.csv TARGET             SGD with Nesterov momentum until the held-out RMSE is TARGET
       rivals.py text-libmf RATINGS.csv PREFIX              PREFIX.train and PREFIX.test for LIBMF's mf-train
Every tenth row is held out.
"""
import json
import shutil
import sys
import time

import polars as pl

command, source, *rest = sys.argv[1:]
start = time.perf_counter()


def ratings():
    schema = {"userId": pl.Int32, "movieId": pl.Int32, "rating": pl.Float32, "timestamp": pl.Int64}
    frame = pl.scan_csv(source, schema=schema).drop("timestamp").collect(engine="streaming")
    mean = frame["rating"].cast(pl.Float64).mean()
    return frame.select(
        user=(pl.col("userId").rank("dense") - 1).cast(pl.UInt32),
        item=(pl.col("movieId").rank("dense") - 1).cast(pl.UInt32),
        rating=(pl.col("rating") - mean).cast(pl.Float32),
    )


def prep_polars(out):
    frame = ratings()
    frame.write_parquet(out, compression="snappy")
    return dict(rows=len(frame))


def shard_polars(folder, batch):
    shutil.rmtree(folder, ignore_errors=True)
    import os
    os.makedirs(folder)
    frame = pl.read_parquet(source).sample(fraction=1.0, shuffle=True, seed=1)
    for number, part in enumerate(frame.iter_slices(int(batch))):
        part.write_parquet(f"{folder}/{number:06d}.parquet", compression="snappy")
    return dict(rows=len(frame))


def text_libmf(prefix):
    frame = ratings().with_row_index("row").with_columns(pl.col("rating").round(4))
    for name, chosen in (("train", pl.col("row") % 10 != 9), ("test", pl.col("row") % 10 == 9)):
        frame.filter(chosen).select("user", "item", "rating").write_csv(f"{prefix}.{name}", include_header=False, separator=" ")
    return dict(rows=len(frame))


def train_torch(target, batch=12000, factors=20, rate=8.0, momentum=0.9, l2=0.02, epochs_max=8):
    import numpy as np
    import torch
    torch.manual_seed(0)
    frame = ratings()
    user, item, rating = (frame[c].to_numpy() for c in ("user", "item", "rating"))
    held = np.arange(len(rating)) % 10 == 9
    order = np.random.default_rng(3).permutation(np.flatnonzero(~held))
    tensor = lambda a, rows, kind: torch.from_numpy(np.ascontiguousarray(a[rows]).astype(kind))
    u, i, r = tensor(user, order, np.int64), tensor(item, order, np.int64), tensor(rating, order, np.float32)
    ut, it, rt = tensor(user, held, np.int64), tensor(item, held, np.int64), tensor(rating, held, np.float32)
    p = torch.nn.Embedding(int(user.max()) + 1, factors)
    q = torch.nn.Embedding(int(item.max()) + 1, factors)
    for table in (p, q):
        torch.nn.init.normal_(table.weight, 0, 0.1)
    sgd = torch.optim.SGD([p.weight, q.weight], lr=rate, momentum=momentum, nesterov=True, fused=True)
    loop, losses = 0.0, []
    for _ in range(epochs_max):
        begin = time.perf_counter()
        for a in range(0, len(r), batch):
            rows = slice(a, a + batch)
            sgd.zero_grad(set_to_none=True)
            pu, qi = p(u[rows]), q(i[rows])
            error = r[rows] - (pu * qi).sum(1)
            ((error * error).mean() + l2 * ((pu * pu).sum(1) + (qi * qi).sum(1)).mean()).backward()
            sgd.step()
        loop += time.perf_counter() - begin
        with torch.no_grad():
            squares = sum(
                float(((rt[a:a + 500_000] - (p(ut[a:a + 500_000]) * q(it[a:a + 500_000])).sum(1)) ** 2).sum())
                for a in range(0, len(rt), 500_000)
            )
        losses.append(round((squares / len(rt)) ** 0.5, 4))
        if losses[-1] <= float(target):
            break
    return dict(epochs=len(losses), holdout_rmse=losses, rows_per_second=len(r) * len(losses) / loop)


run = {"prep-polars": prep_polars, "shard-polars": shard_polars, "text-libmf": text_libmf, "train-torch": train_torch}
print(json.dumps(dict(run[command](*rest), seconds=round(time.perf_counter() - start, 3))))
