#!/bin/sh
# Runs the code of reading-shards.md (pyarrow, polars, PyTorch, DuckDB) on small data, as it stands there.
#
#     check.sh [FOLDER_OF_THE_TOOLS]      without it, prep, shard and train are those on the PATH
#
# Needs Python 3.10 or newer with venv, and a package index that pip can reach. What requirements-torch.txt names is installed for the time of
# the test; GUIDES_TEST_FOLDER names an environment that is made once and kept, GUIDES_PYTHON a Python that has it all. On Linux PyPI's torch brings
# CUDA, some gigabytes; PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu has one of 200 MB.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
if [ $# -gt 0 ]; then
    PATH=$(cd "$1" && pwd):$PATH
fi
for tool in prep shard train; do
    command -v "$tool" >/dev/null || { echo "$0: $tool is not on the PATH: give the folder of the tools" >&2; exit 2; }
done

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

python=${GUIDES_PYTHON:-}
if [ -z "$python" ]; then
    environment=${GUIDES_TEST_FOLDER:-$scratch/environment}
    python=$environment/bin/python
    if [ ! -f "$environment/installed" ]; then
        echo "installing $(grep -h == "$here"/requirements*.txt | tr '\n' ' ')into $environment"
        python3 -m venv "$environment"
        "$python" -m pip install --quiet --requirement "$here/requirements-torch.txt"
        touch "$environment/installed"
    fi
fi
mkdir "$scratch/data"
cd "$scratch/data"
"$python" "$here/check.py" "$here/reading-shards.md"
