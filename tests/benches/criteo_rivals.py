#!/usr/bin/env python3
"""The same work on click logs by other tools, for `criteo.py`. Each command prints one line of JSON.

usage: criteo_rivals.py prep-polars-streaming|prep-polars-memory|prep-duckdb RAW.tsv OUT.parquet
       criteo_rivals.py dense-polars RAW.tsv OUT.parquet
       criteo_rivals.py shard-polars IN.parquet FOLDER BATCH

Sparse: range, mean and deviation of 13 numbers, these min-max scaled and 26 tokens hashed into 1,000,000 buckets (by the
tool's own hash, salted by column), missing values kept as nulls, to Parquet. Dense: 13 numbers, missing as 0, standardised.
"""
import json
import os
import shutil
import sys
import time

BUCKETS = 1_000_000
NUMERIC, CATEGORICAL = [f"I{j}" for j in range(1, 14)], [f"C{j}" for j in range(1, 27)]
command, source, *rest = sys.argv[1:]
start = time.perf_counter()


def scan(pl):
    schema = {"label": pl.Int8, **{c: pl.Int32 for c in NUMERIC}, **{c: pl.String for c in CATEGORICAL}}
    return pl.scan_csv(source, separator="\t", has_header=False, schema=schema, quote_char=None)


def statistics(pl, frame, **how):
    asked = {"min": pl.Expr.min, "max": pl.Expr.max, "mean": pl.Expr.mean, "sd": lambda e: e.std(ddof=0)}
    return frame.select(f(pl.col(c)).alias(f"{name}_{c}") for c in NUMERIC for name, f in asked.items()).collect(**how).to_dicts()[0]


def sparse(pl, frame, s):
    scaled = (((pl.col(c) - s[f"min_{c}"]).cast(pl.Float64) / max(1, s[f"max_{c}"] - s[f"min_{c}"])).cast(pl.Float32) for c in NUMERIC)
    hashed = (pl.when(pl.col(c).is_not_null()).then(pl.col(c).hash(seed=j) % BUCKETS).cast(pl.UInt32).alias(c)
              for j, c in enumerate(CATEGORICAL, 1))
    return frame.select(pl.col("label").cast(pl.Float32), *scaled, *hashed)


def prep_polars_streaming(out):
    import polars as pl
    frame = scan(pl)
    sparse(pl, frame, statistics(pl, frame, engine="streaming")).sink_parquet(out, compression="snappy", engine="streaming")


def prep_polars_memory(out):
    import polars as pl
    frame = scan(pl).collect().lazy()
    sparse(pl, frame, statistics(pl, frame)).collect().write_parquet(out, compression="snappy")


def dense_polars(out):
    import polars as pl
    frame = scan(pl).select(pl.col("label").cast(pl.Float32), *(pl.col(c).fill_null(0) for c in NUMERIC))
    s = statistics(pl, frame, engine="streaming")
    columns = (((pl.col(c).cast(pl.Float64) - s[f"mean_{c}"]) / (s[f"sd_{c}"] or 1)).cast(pl.Float32) for c in NUMERIC)
    frame.select("label", *columns).sink_parquet(out, compression="snappy", engine="streaming")


def prep_duckdb(out):
    import duckdb
    connection = duckdb.connect()
    types = {"label": "FLOAT", **{c: "INTEGER" for c in NUMERIC}, **{c: "VARCHAR" for c in CATEGORICAL}}
    columns = "{" + ", ".join(f"'{c}': '{t}'" for c, t in types.items()) + "}"
    read = f"read_csv('{source}', delim='\t', header=false, quote='', escape='', nullstr='', auto_detect=false, columns={columns})"
    asked = [f"{f}({c})" for c in NUMERIC for f in ("min", "max", "avg", "stddev_pop")]
    found = connection.execute(f"select {', '.join(asked)} from {read}").fetchone()
    fitted = {c: found[4 * j:4 * j + 2] for j, c in enumerate(NUMERIC)}
    scaled = [f"(({c} - ({low}))::double / {max(1, high - low)})::float as {c}" for c, (low, high) in fitted.items()]
    hashed = [f"case when {c} is null then null else (hash({j}, {c}) % {BUCKETS})::uinteger end as {c}" for j, c in enumerate(CATEGORICAL, 1)]
    select = f"select label, {', '.join(scaled + hashed)} from {read}"
    connection.execute(f"copy ({select}) to '{out}' (format parquet, compression snappy)")


def shard_polars(folder, batch):
    import polars as pl
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    frame = pl.read_parquet(source).sample(fraction=1.0, shuffle=True, seed=1)
    for number, part in enumerate(frame.iter_slices(int(batch))):
        part.write_parquet(f"{folder}/{number:06d}.parquet", compression="snappy")


run = {"prep-polars-streaming": prep_polars_streaming, "prep-polars-memory": prep_polars_memory, "dense-polars": dense_polars,
       "prep-duckdb": prep_duckdb, "shard-polars": shard_polars}
run[command](*rest)
print(json.dumps(dict(seconds=round(time.perf_counter() - start, 3))))
