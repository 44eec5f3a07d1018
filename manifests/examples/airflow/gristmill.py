"""Raw ratings or click logs to a measured model: prep, shard, train and evaluate, one Airflow task each.

Every tool prints one line of JSON last, its report. `GristmillOperator` makes that line the task's XCom, and the next task
takes the place from there: no task knows where another one wrote. A task that is run again finds its own work, checks it and
reports `"unchanged": true`. Written for Airflow 3; the tools must be on the worker's PATH, and credentials for s3:// in its
environment (AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL_S3 and so on, as every AWS tool reads them).

    airflow dags trigger gristmill --conf '{"kind": "criteo",
        "input": "s3://raw/criteo/train.txt.gz", "place": "s3://models/criteo/2026-11-23",
        "batch": 6250, "prep_options": ["--hash-buckets", "1000000"],
        "train_options": ["--step-batches", "24", "--l2", "6e-6", "--lr-decay", "sqrt-epoch"]}'
"""

import json
from datetime import timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, Param
from airflow.sdk.exceptions import AirflowException, AirflowFailException

# Ends that another try would only repeat: the tools' own codes for a bug, usage, data, configuration, conflict and divergence,
# and bash's for a tool that cannot be run or is not there. The others are 75 (storage or a service failed) and death by a
# signal (a negative number, or 128 and more), and are worth another try.
FINAL_EXIT_CODES = {1, 2, 3, 4, 5, 6, 126, 127}


class GristmillOperator(BashOperator):
    """A BashOperator whose XCom is the report, and which is retried only when trying again may help."""

    def __init__(self, **settings):
        super().__init__(append_env=True, skip_on_exit_code=None, output_processor=json.loads, **settings)

    def execute(self, context):
        try:
            return super().execute(context)
        except AirflowException as failure:
            process = self.subprocess_hook.sub_process
            if process and process.returncode in FINAL_EXIT_CODES:
                raise AirflowFailException(str(failure)) from failure
            raise


def reported(task, field):
    """The Jinja expression for a field of another task's report."""
    return f"{{{{ ti.xcom_pull(task_ids='{task}')['{field}'] }}}}"


PLACE = r"^(/|[a-z][a-z0-9+.-]*://)"  # a task's working folder is a temporary one of Airflow's, so no relative path
WORDS = {"type": "array", "items": {"type": "string", "pattern": r"^[A-Za-z0-9._:,=/+-]+$"}}

# Values reach bash as environment variables and are quoted there, so that none of them is ever read as shell code. The lists of
# options are the exception: they are split at blanks, and their pattern admits only words without a meaning to bash.
with DAG(
    dag_id="gristmill",
    description="Raw ratings or click logs to a measured model",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    # Two runs over one place at a time would only make one of them wait or lose.
    max_active_runs=1,
    params={
        "kind": Param("movielens", enum=["movielens", "criteo"], description="What the input is"),
        "input": Param(type="string", pattern=PLACE, description="Raw data: /data/ml-20m.zip or s3://raw/ml-20m.zip"),
        "place": Param(type="string", pattern=PLACE, description="Folder for all results: /data/ml20m or s3://models/ml20m"),
        "holdout": Param(0.1, type="number", exclusiveMinimum=0, exclusiveMaximum=1, description="Share of the rows to measure with"),
        "batch": Param(6250, type="integer", minimum=1, description="Rows of a mini-batch"),
        "prep_options": Param([], **WORDS, description="More of `prep KIND --help`"),
        "train_options": Param(
            # The number of step batches is part of the model and defaults to the number of the machine's processors:
            # stated here, the model is the same on every worker.
            ["--step-batches", "24"], **WORDS, description="More of `train --help`"
        ),
    },
    default_args={
        "retries": 3,
        "retry_delay": timedelta(seconds=30),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=10),
        # Airflow then sends SIGTERM: the tool leaves nothing half-made and exits with 143.
        "execution_timeout": timedelta(hours=6),
    },
) as dag:
    # --out is always given: without it, prep writes rows instead of a report to a standard output that is a pipe, as it is here.
    prep = GristmillOperator(
        task_id="prep",
        bash_command='set -f; exec prep "$KIND" "$INPUT" --out "$PLACE/prepared" --holdout "$HOLDOUT" $OPTIONS',
        env={
            "KIND": "{{ params.kind }}",
            "INPUT": "{{ params.input }}",
            "PLACE": "{{ params.place }}",
            "HOLDOUT": "{{ params.holdout }}",
            "OPTIONS": "{{ params.prep_options | join(' ') }}",
        },
    )
    shard = GristmillOperator(
        task_id="shard",
        bash_command='exec shard "$PREPARED" --out "$PLACE/shards" --batch "$BATCH"',
        env={
            "PREPARED": reported("prep", "output"),
            "PLACE": "{{ params.place }}",
            "BATCH": "{{ params.batch }}",
        },
    )
    train = GristmillOperator(
        task_id="train",
        bash_command='set -f; exec train --manifest "$MANIFEST" --out "$PLACE/run" $OPTIONS',
        env={
            "MANIFEST": reported("shard", "manifest"),
            "PLACE": "{{ params.place }}",
            "OPTIONS": "{{ params.train_options | join(' ') }}",
        },
    )
    evaluate = GristmillOperator(
        task_id="evaluate",
        bash_command='exec train evaluate --model "$MODEL" "$MANIFEST"',
        env={
            "MODEL": reported("train", "output"),
            "MANIFEST": reported("shard", "manifest"),
        },
    )
    prep >> shard >> train >> evaluate
