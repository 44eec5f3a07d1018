# make demo    build, then raw ratings to a trained recommender on this machine
# make test    install what the tests need, run all of them
# make test-faults     runs as processes and as functions, a hundred each, with everything done to them: 40 minutes, and tables
# make check   formatting and lints, then the tests
# make test-examples   the recipes of manifests/examples, on small data
# make test-guides     the Python and SQL of manifests/guides, with packages that are installed for it (pyarrow, polars, PyTorch, DuckDB)
# make test-airflow    the DAG of manifests/examples in a real Airflow that is installed for it (300 MB) and removed again

SHELL := /bin/sh
TARGET := $(or $(CARGO_TARGET_DIR),target)
BIN := $(abspath $(TARGET))/release

# Ratings of your own: a ratings.csv, ratings.dat or u.data, or a GroupLens zip. Without it some are generated.
DATA ?=

.PHONY: demo test test-examples test-guides test-airflow test-faults check build

build:
	cargo build --release --workspace --all-targets

demo: build
	@mkdir -p demo
ifeq ($(strip $(DATA)),)
	$(BIN)/prep generate movielens --ratings 1000000 --users 6000 --movies 4000 --seed 8 -o demo/ratings.csv
	$(BIN)/prep movielens demo/ratings.csv --holdout 0.1 -o demo/prepared --name demo --replace
else
	$(BIN)/prep movielens $(DATA) --holdout 0.1 -o demo/prepared --name demo --replace
endif
	$(BIN)/shard demo/prepared --batch 4000 -o demo/shards --manifest demo/demo.json --replace
	$(BIN)/train --manifest demo/demo.json --biases --l2 0.05 --step-batches 2 --max-epochs 40 -o demo/run --replace

# nextest runs every test in a process of its own and stops one that hangs; without it cargo's own runner does.
test: build
	tests/services/install
	@if cargo nextest --version >/dev/null 2>&1; then \
		set -x; cargo nextest run --release --workspace; \
	else \
		set -x; cargo test --release --workspace; \
	fi

test-examples: build
	manifests/examples/check.sh $(BIN)

test-guides: build
	manifests/guides/check.sh $(BIN)

# SEEDS=1000 for more.
test-faults: build
	tests/services/install
	GRISTMILL_FAULT_SEEDS=$(or $(SEEDS),100) cargo test --release --workspace --test processes whatever_happens -- --nocapture --test-threads 2

test-airflow: build
	manifests/examples/airflow/test.sh $(BIN)

check:
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets -- -D warnings
	$(MAKE) test
