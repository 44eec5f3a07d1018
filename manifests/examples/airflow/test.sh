#!/bin/sh
# Runs the DAG beside this file for real, in an Airflow of its own that is gone afterwards.
#
#     test.sh [FOLDER_OF_THE_TOOLS]      without it, prep, shard and train are those on the PATH
#
# Needs Linux, Python 3.10 or newer with venv, and a package index that pip can reach. AIRFLOW_TEST_FOLDER names an environment
# that is made once and kept, for repeated runs.
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

environment=${AIRFLOW_TEST_FOLDER:-$scratch/environment}
if [ ! -x "$environment/bin/airflow" ]; then
    echo "installing Airflow into $environment"
    python3 -m venv "$environment"
    "$environment/bin/pip" install --quiet --requirement "$here/requirements.txt"
    du -sh "$environment"
fi
"$environment/bin/python" "$here/test_run.py" "$here/gristmill.py" "$scratch"
