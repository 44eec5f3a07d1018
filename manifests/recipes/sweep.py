#!/usr/bin/env python3
"""Compares recipes, and settings in a grid, by the held-out loss they reach in equal time.

    sweep.py MANIFEST RECIPE... [--grid FLAG=VALUE,VALUE]... [--seeds 8,9,10] [--max-time 20s] [--csv FILE]

Runs `train` with every recipe, every point of the grid and every seed, one after the other; recipes take turns, so that a machine
that becomes slow does so for all of them. Prints a table in Markdown, best first, and with --csv writes a line a run.
Only Python's standard library is needed.
"""

import argparse
import csv
import itertools
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

DIVERGED = 6


def loss(report):
    """The held-out loss of the kept model: RMSE in stars, or log loss in nats."""
    if report["model"] == "pmf":
        return report["holdout_rmse"]
    return report["holdout"] and report["holdout"]["log_loss"]


def seconds_to_best(run, report):
    """Seconds of training until the epoch that was kept was measured."""
    with open(run / "history.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["holdout_loss"]]
    return next(float(row["seconds"]) for row in rows if int(row["epoch"]) == report["model_epoch"])


def trained(arguments, run):
    """What came of one run."""
    ended = subprocess.run([*arguments, "-o", str(run), "--quiet"], capture_output=True, text=True)
    if ended.returncode == DIVERGED:
        return {"stopped_by": "diverged"}
    if ended.returncode != 0:
        sys.exit(f"{' '.join(arguments)}\n{ended.stderr}")
    report = json.loads(ended.stdout.splitlines()[-1])
    if loss(report) is None:
        sys.exit("there is no held-out loss to compare: prepare the data with `--holdout 0.1`, and give a longer --max-time")
    return {
        "holdout_loss": loss(report),
        "best_epoch": report["model_epoch"] + 1,
        "best_seconds": round(seconds_to_best(run, report), 3),
        "epochs": report["epochs"],
        "steps": report["steps"],
        "seconds": round(report["seconds"], 3),
        "stopped_by": report["stopped_by"],
    }


def table(rows):
    """A line of Markdown for every recipe and point, best first."""
    groups = {}
    for row in rows:
        groups.setdefault((row["recipe"], row["settings"]), []).append(row)

    def mean(group, column):
        values = [row[column] for row in group if column in row]
        return statistics.mean(values) if len(values) == len(group) else float("inf")

    yield "| recipe | settings | held-out loss | least to most | best epoch | after | epochs | in all | ended by |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for (recipe, settings), group in sorted(groups.items(), key=lambda item: mean(item[1], "holdout_loss")):
        ends = ", ".join(sorted({row["stopped_by"] for row in group}))
        losses = [row["holdout_loss"] for row in group if "holdout_loss" in row]
        if len(losses) < len(group):
            yield f"| {recipe} | {settings} | | | | | | | {ends} |"
            continue
        figures = [
            f"{mean(group, 'holdout_loss'):.4f}",
            f"{min(losses):.4f} to {max(losses):.4f}",
            f"{mean(group, 'best_epoch'):.0f}",
            f"{mean(group, 'best_seconds'):.1f} s",
            f"{mean(group, 'epochs'):.0f}",
            f"{mean(group, 'seconds'):.1f} s",
        ]
        yield f"| {recipe} | {settings} | {' | '.join(figures)} | {ends} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest")
    parser.add_argument("recipes", nargs="+", metavar="RECIPE")
    parser.add_argument("--grid", action="append", default=[], metavar="FLAG=VALUE,VALUE", help="values of a flag of `train`")
    parser.add_argument("--seeds", default="8", metavar="N,N")
    parser.add_argument("--max-time", default="20s", metavar="TIME", help="of every run, as for `train`")
    parser.add_argument("--workers", type=int, metavar="N", help="of every run; the result of a step does not depend on it")
    parser.add_argument("--train", default="train", metavar="PROGRAM")
    parser.add_argument("--csv", metavar="FILE")
    options = parser.parse_args()

    grid = [[f"--{flag}={value}" for value in values.split(",")] for flag, values in (axis.split("=", 1) for axis in options.grid)]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        points = itertools.product(options.seeds.split(","), itertools.product(*grid), options.recipes)
        for number, (seed, point, recipe) in enumerate(points):
            arguments = [options.train, "--manifest", options.manifest, "--recipe", recipe, "--seed", seed, *point]
            arguments += ["--max-time", options.max_time]
            if options.workers:
                arguments += ["--workers", str(options.workers)]
            row = {"recipe": pathlib.Path(recipe).stem, "settings": " ".join(point), "seed": seed}
            row |= trained(arguments, pathlib.Path(folder) / str(number))
            print(*row.values(), file=sys.stderr)
            rows.append(row)
    if options.csv:
        columns = "recipe settings seed holdout_loss best_epoch best_seconds epochs steps seconds stopped_by".split()
        with open(options.csv, "w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
    print("\n".join(table(rows)))


main()
