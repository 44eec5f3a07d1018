#!/usr/bin/env python3
"""Logistic regression in PyTorch, for `lr_torch.json`: 200 steps of torch.optim.Adam in float64 on small fixed mini-batches.

usage: python3 lr_torch.py > lr_torch.json        (made with torch 2.15.0, numpy 2.4.6, Python 3.11; CPU)
       python3 lr_torch.py --check                compares with Adam written out in numpy

    {data: [{name, kind, n_buckets, scales: [[bucket, scale]], batches: [{labels, numbers: [13 columns], buckets: [26 columns]}]}],
     cases: [{name, data, settings, epoch: [[batches of a step]], losses, weights_after: {"1", "10", "50", "200": {intercept,
              numeric, buckets}}, in_f32: {loss, weight}}]}

Numbers are to be read as float32; null is missing. Dense data has no buckets. Step s, from 0, takes the batches
`epoch[s % len(epoch)]`, and its epoch is s // len(epoch); with the decay `sqrt-epoch` the learning rate of epoch e is
lr / sqrt(e + 1). `losses` are the mean log losses, in nats and without penalty, over the rows of each step before its update.
Weights are zero at the start; of buckets those that are not zero are listed, as [bucket, weight]. A hit on a bucket is worth
1 / its scale, or 1. `mean` divides by the step's rows, `sum` adds the batches' mean gradients. The penalty is Adam's
weight_decay, without the intercept: l2 * weight is added to the reduced gradient, for all features in every step. `in_f32` is
how far the same run in float32 goes from the figures here: the largest difference of a loss and of a weight.
"""
import json
import sys

import numpy as np
import torch

STEPS, SNAPSHOTS, N_NUMERIC, N_CATEGORICAL, N_BUCKETS = 200, (1, 10, 50, 200), 13, 26, 400
# Columns that share buckets: a row may then hit one of them two or three times.
SHARED = {3: 2, 8: 7, 9: 7}
ZONE = 15


def dense_data(name, seed, sizes):
    rng = np.random.default_rng(seed)
    n = sum(sizes)
    x = np.exp(rng.normal(0, 1, (n, N_NUMERIC))) * rng.integers(1, 50, N_NUMERIC)
    x = ((x - x.mean(0)) / x.std(0)).round(4)
    z = x @ rng.normal(0, 0.6, N_NUMERIC) - 1.0
    y = (rng.random(n) < 1 / (1 + np.exp(-z))).astype(int)
    batches = []
    for end, size in zip(np.cumsum(sizes), sizes):
        rows = slice(end - size, end)
        batches.append(dict(labels=y[rows].tolist(), numbers=x[rows].T.tolist(), buckets=[]))
    return dict(name=name, kind="dense", n_buckets=0, scales=[], batches=batches)


def sparse_data(name, seed, sizes):
    rng = np.random.default_rng(seed)
    n = sum(sizes)
    numbers = (rng.random((n, N_NUMERIC)) ** rng.integers(1, 6, N_NUMERIC)).round(4)
    numbers[0], numbers[1] = 0, 1
    absent = rng.random((n, N_NUMERIC)) < rng.choice([0, 0.05, 0.2, 0.45, 0.76], N_NUMERIC)
    ranks = np.minimum(rng.zipf(1.5, (n, N_CATEGORICAL)) - 1, ZONE - 1)
    zones = np.array([SHARED.get(j, j) for j in range(N_CATEGORICAL)])
    # The last zone ends with the last bucket.
    buckets = np.where(zones == N_CATEGORICAL - 1, N_BUCKETS - 1 - ranks, zones * ZONE + ranks)
    missing = rng.random((n, N_CATEGORICAL)) < rng.choice([0, 0, 0.03, 0.12, 0.44], N_CATEGORICAL)
    absent[2], missing[2] = True, True     # a row without any value
    hits = np.zeros((n, N_BUCKETS), int)
    np.add.at(hits, (np.repeat(np.arange(n), N_CATEGORICAL)[~missing.ravel()], buckets.ravel()[~missing.ravel()]), 1)
    scale = hits.max(0)
    assert {2, 3} <= set(scale), "some buckets are hit twice or three times in a row"
    z = np.where(absent, 0, numbers) @ rng.normal(0, 1, N_NUMERIC) + hits @ rng.normal(0, 0.5, N_BUCKETS) - 1.0
    y = (rng.random(n) < 1 / (1 + np.exp(-z))).astype(int)
    batches = []
    for end, size in zip(np.cumsum(sizes), sizes):
        rows = range(end - size, end)
        batches.append(dict(
            labels=y[rows].tolist(),
            numbers=[[None if absent[r, j] else float(numbers[r, j]) for r in rows] for j in range(N_NUMERIC)],
            buckets=[[None if missing[r, j] else int(buckets[r, j]) for r in rows] for j in range(N_CATEGORICAL)]))
    return dict(name=name, kind="sparse", n_buckets=N_BUCKETS, scales=[[b, int(s)] for b, s in enumerate(scale) if s > 1], batches=batches)


def matrices(data):
    """Each batch as (rows x features, labels), every absent value a zero."""
    scale = dict(data["scales"])
    out = []
    for batch in data["batches"]:
        x = np.zeros((len(batch["labels"]), N_NUMERIC + data["n_buckets"]))
        for j, column in enumerate(batch["numbers"]):
            x[:, j] = [0 if v is None else float(np.float32(v)) for v in column]
        for column in batch["buckets"]:
            for row, bucket in enumerate(column):
                if bucket is not None:
                    x[row, N_NUMERIC + bucket] += 1 / scale.get(bucket, 1)
        out.append((x, np.array(batch["labels"], float)))
    return out


def steps(settings, epoch):
    for step in range(STEPS):
        passed = step // len(epoch)
        rate = settings["learning_rate"] / ((passed + 1) ** 0.5 if settings["decay"] == "sqrt-epoch" else 1)
        yield step + 1, rate, epoch[step % len(epoch)]


def torch_run(batches, settings, epoch, kind):
    tensors = [(torch.tensor(x, dtype=kind), torch.tensor(y, dtype=kind)) for x, y in batches]
    weight = torch.nn.Parameter(torch.zeros(tensors[0][0].shape[1], dtype=kind))
    intercept = torch.nn.Parameter(torch.zeros(1, dtype=kind), requires_grad=settings["intercept"])
    groups = [dict(params=[weight], weight_decay=settings["l2"])]
    if settings["intercept"]:
        groups.append(dict(params=[intercept], weight_decay=0.0))
    adam = torch.optim.Adam(groups, lr=settings["learning_rate"], betas=(settings["beta1"], settings["beta2"]), eps=settings["epsilon"])
    losses, snapshots = [], {}
    for done, rate, chosen in steps(settings, epoch):
        for group in adam.param_groups:
            group["lr"] = rate
        adam.zero_grad()
        of = [torch.nn.functional.binary_cross_entropy_with_logits(tensors[b][0] @ weight + intercept, tensors[b][1], reduction="sum")
              for b in chosen]
        sizes = [len(tensors[b][1]) for b in chosen]
        losses.append(float(sum(of).detach()) / sum(sizes))
        (sum(of) / sum(sizes) if settings["reduce"] == "mean" else sum(o / n for o, n in zip(of, sizes))).backward()
        adam.step()
        if done in SNAPSHOTS:
            snapshots[done] = np.append(weight.detach().numpy(), intercept.detach().numpy()).astype(float)
    return losses, snapshots


def numpy_run(batches, s, epoch):
    n = batches[0][0].shape[1]
    w, m, v = np.zeros(n + 1), np.zeros(n + 1), np.zeros(n + 1)
    decayed = np.append(np.full(n, s["l2"]), 0)
    losses, snapshots = [], {}
    for t, rate, chosen in steps(s, epoch):
        rows = sum(len(batches[b][1]) for b in chosen)
        gradient, loss = decayed * w, 0.0
        for x, y in (batches[b] for b in chosen):
            z = x @ w[:-1] + w[-1]
            loss += (np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z)))).sum()
            error = 1 / (1 + np.exp(-z)) - y
            gradient += np.append(x.T @ error, error.sum() * s["intercept"]) / (rows if s["reduce"] == "mean" else len(y))
        losses.append(loss / rows)
        m = s["beta1"] * m + (1 - s["beta1"]) * gradient
        v = s["beta2"] * v + (1 - s["beta2"]) * gradient**2
        w = w - rate * (m / (1 - s["beta1"] ** t)) / (np.sqrt(v / (1 - s["beta2"] ** t)) + s["epsilon"])
        if t in SNAPSHOTS:
            snapshots[t] = w.copy()
    return losses, snapshots


def apart(one, other):
    return dict(loss=max(abs(a - b) for a, b in zip(one[0], other[0])), weight=max(abs(one[1][k] - other[1][k]).max() for k in SNAPSHOTS))


def short(x, digits):
    return float(f"{x:.{digits}g}")


def case(name, data, epoch, **changed):
    settings = dict(learning_rate=0.0075, beta1=0.9, beta2=0.999, epsilon=1e-8, l2=0.0, intercept=True, decay="none", reduce="mean") | changed
    batches = matrices(data)
    run = torch_run(batches, settings, epoch, torch.float64)
    if "--check" in sys.argv:
        print(f"{name}: {apart(run, numpy_run(batches, settings, epoch))}")
    weights = {str(k): dict(intercept=short(w[-1], 10), numeric=[short(x, 10) for x in w[:N_NUMERIC]],
                            buckets=[[b, short(x, 8)] for b, x in enumerate(w[N_NUMERIC:-1]) if x != 0]) for k, w in run[1].items()}
    in_f32 = {k: short(x, 2) for k, x in apart(run, torch_run(batches, settings, epoch, torch.float32)).items()}
    return dict(name=name, data=data["name"], settings=settings, epoch=epoch, losses=[short(x, 10) for x in run[0]],
                weights_after=weights, in_f32=in_f32)


torch.set_num_threads(1)
dense = dense_data("dense", 1, [64] * 10)
sparse = sparse_data("sparse", 2, [50] * 10)
uneven = sparse_data("uneven", 3, [50, 49, 50, 31, 49, 50, 7])
one_by_one = [[2, 0, 1, 5, 9, 3, 8, 4, 7, 6][i:i + 1] for i in range(10)]
pairs = [[3, 0], [1, 6], [5, 2], [4]]     # the last step of an epoch is short
cases = [
    case("dense", dense, one_by_one),
    case("dense, l2, no intercept", dense, one_by_one, intercept=False, l2=0.05),
    case("dense, l2", dense, [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]], l2=0.05),
    case("sparse", sparse, one_by_one),
    case("sparse, l2, sqrt-epoch", sparse, one_by_one, l2=0.001, decay="sqrt-epoch"),
    case("sparse, two batches a step, mean, other betas", uneven, pairs, beta1=0.8, beta2=0.99),
    case("sparse, two batches a step, sum", uneven, pairs, reduce="sum"),
]
if "--check" not in sys.argv:
    print(json.dumps(dict(data=[dense, sparse, uneven], cases=cases), separators=(",", ":")))
