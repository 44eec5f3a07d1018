#!/usr/bin/env python3
"""Gristmill against other tools on MovieLens-sized ratings: whole processes, in turn (A B A B), medians, on this machine.

usage: movielens.py FOLDER [--ratings N] [--runs 3] [--mf-train PATH] [--only NAME,...]

Run it with a Python that has polars and torch; FOLDER is for data and results and should be on a disk with 5 GB free. The
tools are taken from target/release (or $CARGO_TARGET_DIR/release). `--mf-train` names LIBMF's program; without it LIBMF is
left out. Figures: wall seconds, CPU seconds, peak memory of the largest process, and what the tool said of its work.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=pathlib.Path)
parser.add_argument("--ratings", type=int, default=20_000_263)
parser.add_argument("--runs", type=int, default=3)
parser.add_argument("--mf-train", type=pathlib.Path)
parser.add_argument("--only", default="prep,shard,train,target")
args = parser.parse_args()
root = pathlib.Path(__file__).resolve().parents[2]
tools = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", root / "target")).resolve() / "release"
rivals = [sys.executable, str(pathlib.Path(__file__).with_name("rivals.py"))]
folder = args.folder.resolve()
folder.mkdir(parents=True, exist_ok=True)
ratings = folder / "ratings.csv"


def once(command):
    begin = time.perf_counter()
    process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=folder)
    out = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begin
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"failed: {command}")
    return dict(wall=wall, cpu=usage.ru_utime + usage.ru_stime, mb=usage.ru_maxrss / 1024, out=out)


def compare(title, contestants):
    """Runs each contestant (name, commands to run one after the other, what to say of them) in turn, and prints a table."""
    results = {name: [] for name, _, _ in contestants}
    for _ in range(args.runs):
        for name, commands, _ in contestants:
            # Put aside, not deleted: file systems are slow to make files for a while after many were deleted.
            if (folder / "out").exists():
                (folder / "out").rename(folder / f"old-{time.time_ns()}")
            (folder / "out").mkdir()
            runs = [once(command) for command in commands]
            results[name].append(dict(
                wall=sum(r["wall"] for r in runs), cpu=sum(r["cpu"] for r in runs), mb=max(r["mb"] for r in runs),
                parts=[r["wall"] for r in runs], out=runs[-1]["out"]))
    print(f"\n### {title}\n\n| | wall s, median (all) | CPU s | peak MB | |\n|---|---|---|---|---|")
    for name, _, note in contestants:
        runs = results[name]
        walls = ", ".join(f"{r['wall']:.2f}" for r in runs)
        middle = {k: statistics.median(r[k] for r in runs) for k in ("wall", "cpu", "mb")}
        print(f"| {name} | **{middle['wall']:.2f}** ({walls}) | {middle['cpu']:.1f} | {middle['mb']:.0f} | {note(runs)} |", flush=True)


def ours(runs):
    said = [json.loads(r["out"].strip().splitlines()[-1]) for r in runs]
    parts = " + ".join(f"{statistics.median(p):.2f}" for p in zip(*(r["parts"] for r in runs)))
    text = f"steps of the chain: {parts} s" if "+" in parts else ""
    if "rows_per_second" in said[0]:
        rate = statistics.median(s["rows_per_second"] for s in said) / 1e6
        holdout = said[0]["holdout_rmse"]
        holdout = holdout[-1] if isinstance(holdout, list) else holdout
        text += f" {rate:.1f} M ratings/s in the loop, held-out RMSE {holdout:.4f} after {said[0]['epochs']} epochs"
    return text.strip()


def libmf(runs):
    lines = [line.split() for line in runs[0]["out"].splitlines() if re.match(r"\s+\d+\s", line)]
    parts = " + ".join(f"{statistics.median(p):.2f}" for p in zip(*(r["parts"] for r in runs)))
    return f"text and mf-train: {parts} s; held-out RMSE {lines[-1][2]} after {int(lines[-1][0]) + 1} iterations"


if not ratings.exists():
    users, movies = max(100, args.ratings // 144), max(100, args.ratings // 748)
    once([tools / "prep", "generate", "movielens", "--ratings", args.ratings, "--users", users, "--movies", movies, "-o", ratings])
prep = [tools / "prep", "movielens", ratings, "-q", "--name", "bench", "-o", "out/prepared", "--replace"]
held = [*prep, "--holdout", "0.1"]
shard = lambda source, batch: [tools / "shard", source, "--batch", batch, "-q", "-o", "out/shards"]
train = [tools / "train", "--manifest", "out/shards/bench.json", "-q", "-o", "out/run"]
kept = folder / "kept"
if not (kept / "prepared").exists():
    once([*prep[:-2], kept / "prepared", "--replace"])
    once([*rivals, "prep-polars", ratings, kept / "polars.parquet"])
print(f"{args.ratings} ratings, {ratings.stat().st_size / 1e6:.0f} MB of csv, {os.cpu_count()} processors, {args.runs} runs each")
only = args.only.split(",")
nothing = lambda runs: ""
if "prep" in only:
    polars = [*rivals, "prep-polars", ratings, "out/polars.parquet"]
    compare("ratings.csv to clean Parquet", [("`prep movielens`", [prep], nothing), ("polars", [polars], nothing)])
if "shard" in only:
    polars = [*rivals, "shard-polars", kept / "polars.parquet", "out/shards", "12000"]
    compare("clean Parquet to shuffled files of 12,000 rows", [
        ("`shard --batch 12000`", [shard(kept / "prepared", 12000)], nothing), ("polars", [polars], nothing)])
if "train" in only:
    if not (kept / "shards").exists():
        once([tools / "shard", kept / "prepared", "--batch", "12000", "-o", kept / "shards"])
    five = [tools / "train", "--manifest", kept / "shards/bench.json", "-q", "-o", "out/run", "--workers", "2", "--max-epochs", "5"]
    rate = lambda runs: statistics.median(json.loads(r["out"])["rows_per_second"] for r in runs) / 1e6
    compare("training: 20 factors, B 12000, 2 workers, 5 epochs", [
        ("`train --workers 2`", [five], lambda runs: f"{rate(runs):.1f} M ratings/s over the steps")])
if "target" in only:
    recipe = ["--biases", "--l2", "0.02", "--learning-rate", "24", "--step-batches", "2"]
    chain = lambda goal: [held, shard("out/prepared", 12000), [*train, *recipe, "--target-holdout-loss", goal]]
    easy = [("gristmill", chain("0.7525"), ours), ("PyTorch", [[*rivals, "train-torch", ratings, "0.7525"]], ours)]
    hard = [("gristmill", chain("0.7295"), ours)]
    if args.mf_train:
        text = [*rivals, "text-libmf", ratings, "out/mf"]
        fit = [args.mf_train.resolve(), "-f", "0", "-k", "20", "-s", "2", "-r", "0.1", "-l2", "0.05", "-p", "out/mf.test"]
        easy.append(("LIBMF, 4 iterations", [text, [*fit, "-t", "4", "out/mf.train", "out/mf.model"]], libmf))
        hard.append(("LIBMF, 13 iterations", [text, [*fit, "-t", "13", "out/mf.train", "out/mf.model"]], libmf))
    compare("ratings.csv to a held-out RMSE of 0.7525 (each with a tenth held out)", easy)
    compare("ratings.csv to a held-out RMSE of 0.7295", hard)
for old in [folder / "out", *folder.glob("old-*")]:
    shutil.rmtree(old, ignore_errors=True)
