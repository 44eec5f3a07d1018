#!/usr/bin/env python3
"""Logistic regression by PyTorch with Gloo on the mini-batches of `shard`, for `processes.py`. Each command prints one line of JSON.

usage: gloo.py train MANIFEST [--processes 2] [--seconds 20] [--lr 0.0075] [--ddp] [--memory N]
       gloo.py bound MANIFEST SLOTS [--factors 20]

train: one thread a process; each step every process takes a mini-batch, and the dense gradient is summed over all by Gloo, as in the
thesis's baseline: by one `all_reduce` a tensor, or with --ddp by DistributedDataParallel. Adam is the fused one, the sum over 26
weights a `gather`, which is far faster than EmbeddingBag of width 1. A thread of each process reads Parquet ahead, in which pyarrow lets
go of the interpreter; with --memory the first N mini-batches of each process lie in memory before the clock starts, and none is
read. A missing token has a weight that is shared by all columns. The first 40 steps are not counted.

bound: the fewest bytes that the gradients of SLOTS mini-batches can take: 4 bytes a value and log2 C(n, k) bits for which k of n
parameters (or users, or items, of --factors values each) these are; the mean of one mini-batch, and all of them reduced to one.
"""
import argparse
import json
import math
import os
import pathlib
import queue
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

parser = argparse.ArgumentParser()
parser.add_argument("command", choices=["train", "bound"])
parser.add_argument("manifest", type=pathlib.Path)
parser.add_argument("slots", type=int, nargs="?", default=2)
parser.add_argument("--factors", type=int, default=20)
parser.add_argument("--processes", type=int, default=2)
parser.add_argument("--seconds", type=float, default=20)
parser.add_argument("--lr", type=float, default=0.0075)
parser.add_argument("--ddp", action="store_true")
parser.add_argument("--memory", type=int, default=0)
parser.add_argument("--rank", type=int, default=-1, help=argparse.SUPPRESS)
args = parser.parse_args()
manifest = json.loads(args.manifest.read_text())
layout = manifest["layout"]
paths = [args.manifest.parent / manifest["base"] / batch["key"] for batch in manifest["batches"]]
NUMERIC, CATEGORICAL = [f"I{j}" for j in range(1, 14)], [f"C{j}" for j in range(1, 27)]
SPARSE = layout["kind"] == "sparse"
BUCKETS = layout["hash"]["buckets"] if SPARSE else 0
WARM_UP = 20


def table(number):
    return pq.read_table(paths[number], use_threads=False, memory_map=True)


def floor(n, k, width):
    """Bytes of `k` of `n` rows of `width` values."""
    choose = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return 4 * k * width + choose / math.log(2) / 8


def bound():
    kinds = {"ratings": [("user", layout.get("n_users"), args.factors), ("item", layout.get("n_items"), args.factors)],
             "sparse": [(CATEGORICAL, BUCKETS, 1)], "dense": []}[layout["kind"]]
    # Of click logs there are the weights of the numbers and the intercept, always.
    fixed = 0 if layout["kind"] == "ratings" else 4 * 14
    tables = [table(number) for number in range(min(args.slots, len(paths)))]
    each, reduced, counts = fixed, fixed, {}
    for columns, n, width in kinds:
        columns = [columns] if isinstance(columns, str) else columns
        ids = [np.unique(np.concatenate([t[c].drop_null().to_numpy() for c in columns])) for t in tables]
        union = np.unique(np.concatenate(ids))
        each += sum(floor(n, len(i), width) for i in ids) / len(ids)
        reduced += floor(n, len(union), width)
        counts["+".join(columns[:2])] = dict(one=sum(map(len, ids)) / len(ids), all=len(union), of=n)
    print(json.dumps(dict(each=each, reduced=reduced, slots=len(tables), counts=counts)))


def batches(torch, rank):
    """Label, numbers and tokens of one mini-batch after the other, in an order of its own every epoch."""
    def one(number):
        rows = table(number)
        label = torch.tensor(rows["label"].to_numpy())
        column = lambda name, missing: rows[name].fill_null(missing).to_numpy()
        numbers = torch.from_numpy(np.stack([column(c, 0) for c in NUMERIC], 1).astype(np.float32, copy=False))
        tokens = torch.from_numpy(np.stack([column(c, BUCKETS) for c in CATEGORICAL], 1).astype(np.int64)) if SPARSE else None
        return label, numbers, tokens

    def order():
        for epoch in range(1_000_000):
            yield from np.random.default_rng(epoch).permutation(len(paths) // args.processes * args.processes)[rank::args.processes]

    if args.memory:
        kept = [one(number) for number, _ in zip(order(), range(args.memory))]
        while True:
            yield from kept
    ahead = queue.Queue(3)
    threading.Thread(target=lambda: [ahead.put(one(number)) for number in order()], daemon=True).start()
    while True:
        yield ahead.get()


def train(rank):
    import torch
    import torch.distributed as dist
    torch.set_num_threads(1)
    pa.set_cpu_count(1)
    torch.manual_seed(0)
    dist.init_process_group("gloo", rank=rank, world_size=args.processes)

    class Logistic(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.numbers = torch.nn.Linear(13, 1)
            torch.nn.init.zeros_(self.numbers.weight)
            torch.nn.init.zeros_(self.numbers.bias)
            if SPARSE:
                self.tokens = torch.nn.Parameter(torch.zeros(BUCKETS + 1))

        def forward(self, numbers, tokens):
            z = self.numbers(numbers).squeeze(1)
            return z if tokens is None else z + torch.gather(self.tokens, 0, tokens.reshape(-1)).view(-1, 26).sum(1)

    model = Logistic()
    adam = torch.optim.Adam(model.parameters(), lr=args.lr, fused=True)
    net = torch.nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True) if args.ddp else model
    entropy = torch.nn.BCEWithLogitsLoss()
    source = batches(torch, rank)

    def step():
        label, numbers, tokens = next(source)
        adam.zero_grad(set_to_none=args.processes == 1)
        loss = entropy(net(numbers, tokens), label)
        loss.backward()
        if not args.ddp:
            # One message for all small tensors.
            linear = model.numbers
            small = torch.cat([linear.weight.grad.view(-1), linear.bias.grad])
            works = [dist.all_reduce(small, async_op=True)]
            if SPARSE:
                works.append(dist.all_reduce(model.tokens.grad, async_op=True))
            [work.wait() for work in works]
            small /= args.processes
            linear.weight.grad.copy_(small[:13].view(1, 13))
            linear.bias.grad.copy_(small[13:])
            if SPARSE:
                model.tokens.grad /= args.processes
        adam.step()
        return float(loss.detach()), len(label)

    for _ in range(WARM_UP):
        step()
    begin = time.perf_counter()
    for _ in range(WARM_UP):
        step()
    steps = torch.tensor([max(1.0, args.seconds * WARM_UP / (time.perf_counter() - begin))])
    dist.all_reduce(steps, op=dist.ReduceOp.MAX)
    steps = int(steps)
    dist.barrier()
    begin, losses, rows = time.perf_counter(), [], 0
    for _ in range(steps):
        loss, n = step()
        losses.append(loss)
        rows += n
    dist.barrier()
    seconds = time.perf_counter() - begin
    total = torch.tensor([float(rows)], dtype=torch.float64)
    dist.all_reduce(total)
    if rank == 0:
        last = losses[-max(1, steps // 10):]
        print(json.dumps(dict(rows_per_second=float(total) / seconds, steps_per_second=steps / seconds, steps=steps,
                              loss=sum(last) / len(last), torch=torch.__version__)), flush=True)
    dist.barrier()
    dist.destroy_process_group()


if args.command == "bound":
    bound()
elif args.rank >= 0:
    train(args.rank)
    # The thread that reads ahead has no end.
    sys.stdout.flush()
    os._exit(0)
else:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [subprocess.Popen([sys.executable, *sys.argv, "--rank", str(r)], env=environment) for r in range(args.processes)]
    sys.exit(max(abs(process.wait()) for process in processes))
