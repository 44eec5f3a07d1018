#!/usr/bin/env python3
"""Training with workers that are processes, over a Redis and a RabbitMQ of its own, and PyTorch with Gloo beside it.

usage: processes.py FOLDER --python PATH [--workers 2,8,24] [--seconds 20] [--runs 3] [--only sparse,ratings,gloo]
                    [--sparse MANIFEST] [--dense MANIFEST] [--ratings MANIFEST] [--rows 1000000] [--n-ratings 20000263]

FOLDER is for data and results; PATH is a Python that has torch, pyarrow and numpy. The tools are taken from target/release (or
$CARGO_TARGET_DIR/release), Redis from $GRISTMILL_REDIS_SERVER or the path, RabbitMQ's programs from $GRISTMILL_RABBITMQ or where Debian
puts them. Without manifests, data are generated, prepared and cut into mini-batches of 6250 rows or 12,000 ratings in FOLDER.

sparse, ratings: `train --launch process` by numbers of workers and strategies, one mini-batch a worker and step. Steps and rows a second
are of the steps after the first tenth, without evaluations; bytes are those that a worker writes and reads a step, beside the fewest
that the values of the same gradients can take (`gloo.py bound`; whole gradients of ratings travel as residuals, which are far fewer); shares are of the time of all workers' steps, by the columns of timings.csv.
gloo: rows a second of `train --launch process --workers 2` and of PyTorch with two processes, on the same mini-batches, two a step, in turn.
"""
import argparse
import contextlib
import csv
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=pathlib.Path)
parser.add_argument("--python", required=True)
parser.add_argument("--workers", default="2,8,24")
parser.add_argument("--seconds", type=float, default=20)
parser.add_argument("--runs", type=int, default=3)
parser.add_argument("--only", default="sparse,ratings,gloo")
parser.add_argument("--sparse", type=pathlib.Path)
parser.add_argument("--dense", type=pathlib.Path)
parser.add_argument("--ratings", type=pathlib.Path)
parser.add_argument("--rows", type=int, default=1_000_000)
parser.add_argument("--n-ratings", type=int, default=20_000_263)
args = parser.parse_args()
root = pathlib.Path(__file__).resolve().parents[2]
tools = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", root / "target")).resolve() / "release"
peer = [args.python, str(pathlib.Path(__file__).with_name("gloo.py"))]
folder = args.folder.resolve()
folder.mkdir(parents=True, exist_ok=True)
COLUMNS = ["decode", "batch_wait", "compute", "exchange_write", "exchange_wait", "exchange_read", "apply", "decision"]
READY, LIMIT = 60, 600


def once(command, environment=None):
    process = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder, timeout=LIMIT,
                             env={**os.environ, **(environment or {})})
    if process.returncode != 0:
        sys.exit(f"failed: {' '.join(map(str, command))}\n{process.stderr.decode(errors='replace')}")
    return json.loads(process.stdout.splitlines()[-1]) if process.stdout.strip() else {}


def manifest(kind, given):
    """The manifest that was given, or one of data that are made first if they are not there."""
    if given:
        return given.resolve()
    command, options, batch = {"sparse": ("criteo", [], 6_250), "dense": ("criteo", ["--features", "dense"], 6_250),
                               "ratings": ("movielens", [], 12_000)}[kind]
    raw, place = folder / f"{command}.raw", folder / kind
    if not (place / "shards" / "bench.json").exists():
        if not raw.exists():
            users, movies = max(100, args.n_ratings // 144), max(100, args.n_ratings // 748)
            shape = ["--rows", args.rows] if command == "criteo" else ["--ratings", args.n_ratings, "--users", users, "--movies", movies]
            once([tools / "prep", "generate", command, *shape, "--seed", "8", "-q", "-o", raw])
        once([tools / "prep", command, raw, *options, "--name", "bench", "-q", "-o", place / "prepared"])
        once([tools / "shard", place / "prepared", "--batch", batch, "-q", "-o", place / "shards"])
    return place / "shards" / "bench.json"


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def answers(port, said, begins):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as stream:
            stream.sendall(said)
            return stream.recv(8).startswith(begins)
    except OSError:
        return False


@contextlib.contextmanager
def server(name, command, place, port, said, begins, environment=None):
    with open(place / f"{name}.log", "wb") as log:
        process = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=place,
                                   env={**os.environ, **(environment or {})})
    try:
        limit = time.monotonic() + READY
        while not answers(port, said, begins):
            if process.poll() is not None or time.monotonic() > limit:
                sys.exit(f"{name} does not start:\n{(place / f'{name}.log').read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def servers():
    """A private Redis and RabbitMQ; gives the environment by which `train` finds them."""
    with contextlib.ExitStack() as stack:
        place = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="servers-", ignore_cleanup_errors=True)))
        redis, amqp, distribution, mapper = (free_port() for _ in range(4))
        program = os.environ.get("GRISTMILL_REDIS_SERVER", "redis-server")
        stack.enter_context(server("redis", [program, "--port", redis, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", place],
                                   place, redis, b"PING\r\n", b"+PONG"))
        programs = pathlib.Path(os.environ.get("GRISTMILL_RABBITMQ", "/usr/lib/rabbitmq/bin"))
        (place / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{amqp}\ndefault_user = bench\ndefault_pass = bench\nlog.console = true\nlog.file = false\n"
            "disk_free_limit.absolute = 50MB\nvm_memory_high_watermark.absolute = 1GB\n")
        (place / "enabled_plugins").write_text("[].")
        environment = {
            "HOME": place, "ERL_EPMD_PORT": mapper, "ERL_EPMD_ADDRESS": "127.0.0.1", "RABBITMQ_NODENAME": f"rmq{amqp}@localhost",
            "RABBITMQ_DIST_PORT": distribution, "RABBITMQ_CONFIG_FILE": place / "rabbitmq.conf", "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_MNESIA_BASE": place / "mnesia", "RABBITMQ_LOG_BASE": place / "mnesia", "RABBITMQ_PID_FILE": place / "rabbit.pid",
            "RABBITMQ_ENABLED_PLUGINS_FILE": place / "enabled_plugins", "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none"}
        environment = {name: str(value) for name, value in environment.items()}
        # Its answer to 4 bytes that say nothing is to hang up; that it listens is seen by the names it is asked for (n) below.
        stack.enter_context(server("epmd", ["epmd", "-port", mapper, "-address", "127.0.0.1"], place, mapper, b"\0\1n", b"\0\0"))
        stack.enter_context(server("rabbitmq", [programs / "rabbitmq-server", "-noinput"], place, amqp, b"AMQP\0\0\x09\x01", b"\1", environment))
        yield {"GRISTMILL_REDIS": f"redis://127.0.0.1:{redis}", "GRISTMILL_AMQP": f"amqp://bench:bench@127.0.0.1:{amqp}/%2F"}


def steady(run, rows_a_step):
    """Steps and rows a second after the first tenth of the steps, without the evaluation that follows an epoch."""
    with open(run / "history.csv", newline="") as text:
        steps = list(csv.DictReader(text))
    first = max(1, len(steps) // 10)
    held = [column for column in steps[0] if "holdout" in column]
    seconds, n = 0.0, 0
    for before, step in zip(steps[first - 1:], steps[first:]):
        if not any(before[column] for column in held):
            seconds += float(step["seconds"]) - float(before["seconds"])
            n += 1
    if not n:
        sys.exit(f"{run}: {len(steps)} steps are too few, give more --seconds")
    return n / seconds, rows_a_step * n / seconds, len(steps), first


def train(place, workers, environment, extra=()):
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    report = once([tools / "train", "--manifest", place, "--launch", "process", "--workers", workers, "--max-time", f"{args.seconds}s",
                   "--max-epochs", 1_000_000, "-q", "-o", run, *extra], environment)
    batches = json.loads(place.read_text())
    rows_a_step = batches["rows"] / len(batches["batches"]) * workers
    steps, rows, n, first = steady(run, rows_a_step)
    with open(run / "timings.csv", newline="") as text:
        timings = [row for row in csv.DictReader(text) if int(row["step"]) >= first]
    shutil.rmtree(run)
    spent = {column: sum(int(row[f"{column}_us"]) for row in timings) for column in COLUMNS}
    whole = sum(spent.values())
    mean = lambda column: sum(int(row[column]) for row in timings) / len(timings)
    return dict(steps=steps, rows=rows, n=n, written=mean("bytes_written"), read=mean("bytes_read"), report=report,
                shares={column: 100 * us / whole for column, us in spent.items()})


def fewest(bound, workers, strategy):
    """Bytes that a worker must write and read a step."""
    each, reduced = bound["each"], bound["reduced"]
    if strategy == "all-to-all":
        return each, (workers - 1) * each
    others = (workers - 1) / workers
    return each * others + reduced / workers, (workers - 1) * each / workers + reduced * others


def exchange(title, place, environment, extra=()):
    print(f"\n### {title}\n\n| workers | strategy | steps/s | M rows/s | KB written a step and worker (of the fewest) | KB read | not computing | "
          + " | ".join(column.replace("_", " ") for column in COLUMNS) + " | steps |\n|" + "---|" * (8 + len(COLUMNS)))
    for workers in map(int, args.workers.split(",")):
        bound = once([*peer, "bound", place, workers])
        for strategy in ("all-to-all", "reduce-scatter"):
            runs = [train(place, workers, environment, ["--strategy", strategy, *extra]) for _ in range(args.runs)]
            middle = sorted(runs, key=lambda r: r["steps"])[len(runs) // 2]
            write, read = fewest(bound, workers, strategy)
            shares = middle["shares"]
            busy = sum(shares[column] for column in ("decode", "compute", "apply"))
            spread = f"{min(r['steps'] for r in runs):.1f}-{max(r['steps'] for r in runs):.1f}"
            print(f"| {workers} | {strategy} | **{middle['steps']:.1f}** ({spread}) | {middle['rows'] / 1e6:.3f} | "
                  f"{middle['written'] / 1e3:.1f} ({middle['written'] / write:.3f} x) | {middle['read'] / 1e3:.1f} ({middle['read'] / read:.3f} x) | "
                  f"{100 - busy:.0f} % | " + " | ".join(f"{shares[column]:.1f}" for column in COLUMNS) + f" | {middle['n']} |", flush=True)


def against_gloo(title, place, environment):
    batches = min(100, len(json.loads(place.read_text())["batches"]) // 2)
    seconds = ["--seconds", args.seconds]
    contestants = [
        ("`train --launch process --workers 2`", lambda: train(place, 2, environment)["rows"]),
        ("PyTorch and Gloo, all_reduce, Parquet read ahead", lambda: once([*peer, "train", place, *seconds])["rows_per_second"]),
        ("PyTorch and Gloo, DDP, Parquet read ahead", lambda: once([*peer, "train", place, "--ddp", *seconds])["rows_per_second"]),
        ("PyTorch and Gloo, all_reduce, mini-batches in memory",
         lambda: once([*peer, "train", place, "--memory", batches, *seconds])["rows_per_second"]),
        ("PyTorch and Gloo, DDP, mini-batches in memory",
         lambda: once([*peer, "train", place, "--ddp", "--memory", batches, *seconds])["rows_per_second"])]
    results = {name: [] for name, _ in contestants}
    for _ in range(args.runs):
        for name, contestant in contestants:
            results[name].append(contestant())
    ours = statistics.median(next(iter(results.values())))
    print(f"\n### {title}\n\n| | M rows/s, median (all) | ours is |\n|---|---|---|")
    for name, rates in results.items():
        middle = statistics.median(rates)
        print(f"| {name} | **{middle / 1e6:.3f}** ({', '.join(f'{r / 1e6:.3f}' for r in rates)}) | {ours / middle:.2f} x |", flush=True)


only = args.only.split(",")
print(f"{os.cpu_count()} processors, {args.runs} runs of {args.seconds} s each")
with servers() as environment:
    if "sparse" in only:
        exchange("sparse logistic regression", manifest("sparse", args.sparse), environment)
    if "ratings" in only:
        exchange("matrix factorisation, 20 factors", manifest("ratings", args.ratings), environment)
    if "gloo" in only:
        against_gloo("sparse logistic regression, 2 processes", manifest("sparse", args.sparse), environment)
        against_gloo("dense logistic regression, 2 processes", manifest("dense", args.dense), environment)
