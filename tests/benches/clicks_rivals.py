#!/usr/bin/env python3
"""Logistic regression on click logs by other tools, for `clicks.py`. Each command prints one line of JSON.

usage: clicks_rivals.py torch ROWS [--threads 2] [--max-epochs 2] [--batch 6250] [--step-batches 1] [--learning-rate .0075]
                              [--l2 0] [--lr-decay none|sqrt-epoch]
       clicks_rivals.py sgd ROWS [--max-epochs 2] [--learning-rate .003] [--l2 0]    scikit-learn, sparse or dense rows
       clicks_rivals.py vw-text ROWS PREFIX                                          PREFIX.train and PREFIX.test for the next
       clicks_rivals.py vw PREFIX [--max-epochs 1] [--learning-rate .25] [--l2 0]        Vowpal Wabbit; one pass over text is its best

ROWS is what `prep criteo --holdout F` wrote, or the manifest of its mini-batches: the same features, with the same values, as
`train` gets. Prepared rows are shuffled in memory, mini-batches are used as they are. `torch` is its fastest form that was found:
all rows in memory, index_select with 32-bit indices a mini-batch (it beats gather, take and EmbeddingBag), times what each hit is
worth, a fused Adam over all features. Times: `loading` up to rows in memory, in random order; `loop` the training itself;
held-out measures are in neither, the whole process is `seconds`.
"""
import argparse
import json
import os
import resource
import time

start = time.perf_counter()
parser = argparse.ArgumentParser()
parser.add_argument("command", choices=["torch", "sgd", "vw-text", "vw"])
parser.add_argument("source")
parser.add_argument("target", nargs="?")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--max-epochs", type=int)
parser.add_argument("--batch", type=int, default=6250)
parser.add_argument("--step-batches", type=int, default=1)
parser.add_argument("--learning-rate", type=float)
parser.add_argument("--l2", type=float, default=0.0)
parser.add_argument("--lr-decay", choices=["none", "sqrt-epoch"], default="none")
args = parser.parse_args()
epochs = args.max_epochs or (1 if args.command == "vw" else 2)
for limit in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ[limit] = str(args.threads)

import numpy as np  # noqa: E402

NUMERIC, CATEGORICAL = [f"I{j}" for j in range(1, 14)], [f"C{j}" for j in range(1, 27)]


class Rows:
    """Prepared rows, or the mini-batches of a manifest. A missing number is 0, a missing bucket is `n_buckets`."""

    def __init__(self):
        import polars as pl
        self.sharded = not os.path.isdir(args.source)
        path = args.source if self.sharded else f"{args.source}/dataset.json"
        with open(path) as file:
            self.descriptor = json.load(file)
        self.base = os.path.join(os.path.dirname(path), self.descriptor.get("base", ""))
        layout = self.descriptor["layout"]
        self.sparse = layout["kind"] == "sparse"
        self.n_buckets = layout["hash"]["buckets"] if self.sparse else 0
        # What a hit is worth; nothing when the bucket is missing.
        self.worth = np.ones(self.n_buckets + 1, np.float32)
        if self.sparse and layout["scales"]:
            scales = pl.read_parquet(f"{self.base}/{layout['scales']['key']}")
            self.worth[scales["bucket"].to_numpy()] = 1 / scales["scale"].to_numpy().astype(np.float32)
        self.worth[-1] = 0

    def frame(self, holdout):
        import polars as pl
        parts = self.descriptor[("holdout_" if holdout else "") + ("batches" if self.sharded else "parts")]
        frame = pl.read_parquet([f"{self.base}/{part['key']}" for part in parts])
        hits = [pl.col(CATEGORICAL).fill_null(self.n_buckets).cast(pl.Int32)] if self.sparse else []
        return frame.with_columns(pl.col(NUMERIC).fill_null(0), *hits)

    def of(self, holdout):
        """Labels, numbers, buckets; training rows in random order, as mini-batches are."""
        frame = self.frame(holdout)
        labels, numbers = frame["label"].to_numpy(), frame.select(NUMERIC).to_numpy(order="c")
        buckets = frame.select(CATEGORICAL).to_numpy(order="c") if self.sparse else None
        if not holdout and not self.sharded:
            order = np.random.default_rng(3).permutation(len(labels))
            labels, numbers, buckets = labels[order], numbers[order], buckets[order] if self.sparse else None
        return labels, numbers, buckets


def measures(z, y):
    z, y = z.astype(np.float64), y.astype(np.float64)
    _, group, sizes = np.unique(z, return_inverse=True, return_counts=True)
    ranks = np.cumsum(sizes) - (sizes - 1) / 2
    clicks = y.sum()
    area = (ranks[group][y > 0].sum() - clicks * (clicks + 1) / 2) / (clicks * (len(y) - clicks))
    return dict(log_loss=round(mean_log_loss(z, y), 6), auc=round(float(area), 6))


def mean_log_loss(z, y):
    return float(np.mean(np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z)))))


def train_torch():
    import torch
    torch.set_num_threads(args.threads)
    data = Rows()
    labels, numbers, buckets = data.of(holdout=False)
    y, x = torch.from_numpy(labels), torch.from_numpy(numbers)
    if data.sparse:
        b, value = torch.from_numpy(buckets), torch.from_numpy(data.worth[buckets])
    n = len(y)
    # The mini-batches of a step are one: under a mean that is the same.
    n_batches = -(-n // (args.batch * args.step_batches))
    # As `shard` cuts: sizes differ by at most one, the longer ones first.
    edges = [i * (n // n_batches) + min(i, n % n_batches) for i in range(n_batches + 1)]
    test = data.of(holdout=True)
    loaded = time.perf_counter()

    linear, intercept = torch.zeros(13, requires_grad=True), torch.zeros(1, requires_grad=True)
    hashed = torch.zeros(data.n_buckets + 1, requires_grad=data.sparse)
    weights = [linear, hashed] if data.sparse else [linear]
    rate = args.learning_rate or 0.0075
    groups = [dict(params=weights, weight_decay=args.l2), dict(params=[intercept])]
    adam = torch.optim.Adam(groups, lr=rate, fused=True)

    def logits(batch):
        a, e = edges[batch], edges[batch + 1]
        z = torch.addmv(intercept, x[a:e], linear)
        if data.sparse:
            z = z + (torch.index_select(hashed, 0, b[a:e].view(-1)).view(-1, 26) * value[a:e]).sum(1)
        return z

    def holdout():
        with torch.no_grad():
            z = torch.addmv(intercept, torch.from_numpy(test[1]), linear)
            if data.sparse:
                hits = torch.from_numpy(test[2]).view(-1)
                z += torch.index_select(hashed * torch.from_numpy(data.worth), 0, hits).view(-1, 26).sum(1)
        return measures(z.numpy(), test[0])

    loop, losses, held = 0.0, [], []
    for epoch in range(epochs):
        begin, total = time.perf_counter(), torch.zeros((), dtype=torch.float64)
        for group in adam.param_groups:
            group["lr"] = rate / (epoch + 1) ** 0.5 if args.lr_decay == "sqrt-epoch" else rate
        for batch in np.random.default_rng(epoch).permutation(n_batches):
            adam.zero_grad(set_to_none=True)
            labels = y[edges[batch]:edges[batch + 1]]
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits(batch), labels)
            loss.backward()
            adam.step()
            total += loss.detach() * len(labels)
        loop += time.perf_counter() - begin
        losses.append(round(float(total) / n, 6))
        held.append(holdout())
    return dict(loading=loaded - start, loop=loop, rows_per_second=n * epochs / loop, train_log_loss=losses, holdout=held)


def train_sgd():
    import scipy.sparse
    from sklearn.linear_model import SGDClassifier
    data = Rows()

    def matrix(labels, numbers, buckets):
        if not data.sparse:
            return numbers, labels
        present = np.concatenate([numbers != 0, buckets != data.n_buckets], 1)
        columns = np.concatenate([np.broadcast_to(np.arange(13, dtype=np.int32), numbers.shape), buckets + 13], 1)[present]
        values = np.concatenate([numbers, data.worth[buckets]], 1)[present]
        ends = np.concatenate([[0], np.cumsum(present.sum(1))])
        rows = scipy.sparse.csr_matrix((values, columns, ends.astype(np.int32)), shape=(len(labels), 13 + data.n_buckets))
        rows.sum_duplicates()
        return rows, labels

    x, y = matrix(*data.of(holdout=False))
    test = matrix(*data.of(holdout=True))
    loaded = time.perf_counter()
    model = SGDClassifier(loss="log_loss", alpha=args.l2, penalty="l2" if args.l2 else None, learning_rate="constant",
                          eta0=args.learning_rate or 0.003, shuffle=True, random_state=0)
    loop, held = 0.0, []
    for _ in range(epochs):
        begin = time.perf_counter()
        model.partial_fit(x, y, classes=[0.0, 1.0])
        loop += time.perf_counter() - begin
        held.append(measures(model.decision_function(test[0]), test[1]))
    return dict(loading=loaded - start, loop=loop, rows_per_second=len(y) * epochs / loop, holdout=held)


def vw_text():
    """A line a row: `1 |n I1:0.5 |c 437597 ...`. Buckets are numbers, so VW does not hash them; zeros are left out."""
    import polars as pl
    data = Rows()
    for name in ("train", "test"):
        frame = data.frame(holdout=name == "test")
        if name == "train" and not data.sharded:
            frame = frame.sample(fraction=1.0, shuffle=True, seed=3)
        with open(f"{args.target}.{name}", "wb") as out:
            for part in frame.iter_slices(500_000):
                number = lambda c: pl.when(pl.col(c) != 0).then(pl.format(" {}:{}", pl.lit(c), pl.col(c).cast(pl.String))).otherwise(pl.lit(""))
                worth = pl.Series(data.worth)
                bucket = lambda c: pl.when(pl.col(c) != data.n_buckets).then(
                    pl.format(" {}{}", pl.col(c), pl.when(pl.lit(worth).gather(pl.col(c)) != 1).then(
                        pl.format(":{}", pl.lit(worth).gather(pl.col(c)))).otherwise(pl.lit("")))).otherwise(pl.lit(""))
                sign = pl.when(pl.col("label") > 0).then(pl.lit("1 |n")).otherwise(pl.lit("-1 |n"))
                hits = [pl.lit(" |c"), *map(bucket, CATEGORICAL)] if data.sparse else []
                part.select(pl.concat_str([sign, *map(number, NUMERIC), *hits])).write_csv(out, include_header=False, quote_style="never")
    return dict()


def train_vw():
    import vowpalwabbit
    prefix = args.source
    with open(f"{prefix}.test", "rb") as file:
        y = np.array([line[:1] == b"1" for line in file])
    with open(f"{prefix}.train", "rb") as file:
        rows = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 24), b""))
    for left_over in (f"{prefix}.model", f"{prefix}.cache"):
        if os.path.exists(left_over):
            os.remove(left_over)
    # From the second pass on it reads its own binary cache, which the first pass writes.
    passes = f"--passes {epochs} --cache_file {prefix}.cache --holdout_off" if epochs > 1 else ""
    loaded = time.perf_counter()
    setting = f"--loss_function logistic -b 20 -l {args.learning_rate or 0.25} --l2 {args.l2}"
    vowpalwabbit.Workspace(f"-d {prefix}.train {setting} {passes} -f {prefix}.model --quiet").finish()
    loop = time.perf_counter() - loaded
    vowpalwabbit.Workspace(f"-d {prefix}.test -t -i {prefix}.model -p {prefix}.out --quiet").finish()
    held = [measures(np.loadtxt(f"{prefix}.out"), y)]
    return dict(loading=loaded - start, loop=loop, rows_per_second=rows * epochs / loop, holdout=held)


report = {"torch": train_torch, "sgd": train_sgd, "vw-text": vw_text, "vw": train_vw}[args.command]()
report = {k: round(v, 3) if isinstance(v, float) else v for k, v in report.items()}
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps(dict(report, peak_mb=round(peak), seconds=round(time.perf_counter() - start, 3))))
