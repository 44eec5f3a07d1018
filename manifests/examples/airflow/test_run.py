"""Runs gristmill.py in a real Airflow, and checks what became of it: `test.sh` calls this.

    test_run.py gristmill.py SCRATCH_FOLDER

The API server, the scheduler with its LocalExecutor and the DAG processor run as they would on a small installation, and the
runs are triggered and read through the REST API. `airflow dags test` would be lighter, but it runs the tasks inside its own
process: no serialised DAG, no scheduler that retries, no worker process that is told to stop.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

DEADLINE_SECONDS = 180  # of everything that is waited for
TASKS = ["prep", "shard", "train", "evaluate"]


class Airflow:
    """The processes of an Airflow in `home`, and its REST API."""

    def __init__(self, home, dags, tools):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url, self.home, self.processes, self.token = f"http://127.0.0.1:{port}", home, [], None
        binaries = Path(sys.executable).parent
        self.airflow = str(binaries / "airflow")
        # Airflow starts others of its programs by name.
        self.environment = os.environ | {
            "PATH": f"{tools}:{binaries}:{os.environ['PATH']}",
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "2",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": "0",
            "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        }

    def __enter__(self):
        try:
            with open(self.home / "airflow.txt", "w") as log:
                to_log = {"env": self.environment, "stdout": log, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
                subprocess.run([self.airflow, "db", "migrate"], check=True, **to_log)
                for command in (["api-server", "--workers", "1"], ["scheduler", "--skip-serve-logs"], ["dag-processor"]):
                    process = subprocess.Popen([self.airflow, *command], start_new_session=True, **to_log)
                    self.processes.append(process)
            self.wait_for("the API server", lambda: self.get("/api/v2/version", None))
            self.token = self.get("/auth/token", None)["access_token"]
            return self
        except BaseException:
            self.__exit__()
            print((self.home / "airflow.txt").read_text()[-10_000:])
            raise

    def __exit__(self, *_):
        # Each process has a group of its own with all that it started.
        for sign in (signal.SIGTERM, signal.SIGKILL):
            for process in self.processes:
                try:
                    os.killpg(process.pid, sign)
                except ProcessLookupError:
                    pass
            for process in self.processes:
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    pass

    def get(self, path, otherwise=LookupError):
        return self.call("GET", path, None, otherwise)

    def call(self, method, path, body=None, otherwise=LookupError):
        """The answer; when nobody answers or there is no such thing, `otherwise`, unless that is an exception."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.URLError as error:
            if otherwise is LookupError:
                text = error.read().decode() if isinstance(error, urllib.error.HTTPError) else ""
                raise LookupError(f"{method} {path}: {error} {text}") from error
            return otherwise

    def wait_for(self, what, probe):
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline:
            if found := probe():
                return found
            for process in self.processes:
                if process.poll() is not None:
                    raise RuntimeError(f"{process.args} ended with {process.returncode}")
            time.sleep(0.25)
        raise TimeoutError(f"{what} after {DEADLINE_SECONDS} s")

    def run(self, title, dag, conf, meanwhile=lambda: None):
        """Triggers a run, waits for its end, calling `meanwhile` now and then, and prints its log."""
        print(f"\n== {title}\n   {dag} {json.dumps(conf)}", flush=True)
        base = f"/api/v2/dags/{dag}/dagRuns"
        run_id = self.call("POST", base, {"logical_date": None, "conf": conf})["dag_run_id"]
        base += "/" + urllib.request.quote(run_id)

        def ended():
            meanwhile()
            return self.get(base)["state"] in ("success", "failed")

        self.wait_for(f"the end of {run_id}", ended)
        run = Run(self.get(base)["state"])
        for task in self.get(f"{base}/taskInstances")["task_instances"]:
            name = task["task_id"]
            entry = self.get(f"{base}/taskInstances/{name}/xcomEntries/return_value?deserialize=true", None)
            run.tasks[name] = task["state"]
            run.tries[name] = task["try_number"]
            run.reports[name] = entry and entry["value"]
            folder = self.home / "logs" / f"dag_id={dag}" / f"run_id={run_id}" / f"task_id={name}"
            run.logs[name] = [said(folder / f"attempt={n}.log") for n in range(1, task["try_number"] + 1)]
        for name in (name for name in TASKS if name in run.tasks):
            print(f"   {name}: {run.tasks[name]}, tries: {run.tries[name]}")
            for attempt in run.logs[name]:
                print("".join(f"      {line}\n" for line in attempt), end="", flush=True)
        return run


class Run:
    """What became of a run: of each task its state, number of tries, report (XCom) and what each try said."""

    def __init__(self, state):
        self.state, self.tasks, self.tries, self.reports, self.logs = state, {}, {}, {}, {}


def said(log):
    """What the tool said, and how it ended, in the log of one try."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")] if log.exists() else []
    hook = [line["event"] for line in lines if line.get("logger", "").endswith("SubprocessHook")]
    return hook[hook.index("Output:") + 1 :] if "Output:" in hook else hook


def check(found, expected, what):
    assert found == expected, f"{what}: {found!r}, expected {expected!r}"


def copy_dags(source, dags):
    """The DAG, and a hasty one that differs in its name, the wait before another try and the time a task may take."""
    shutil.copy(source, dags / "gristmill.py")
    text = source.read_text()
    for old, new in (
        ('dag_id="gristmill"', 'dag_id="hasty"'),
        ('"retry_delay": timedelta(seconds=30)', '"retry_delay": timedelta(seconds=1)'),
        ('"retries": 3', '"retries": 1'),
        ('"execution_timeout": timedelta(hours=6)', '"execution_timeout": timedelta(seconds=10)'),
    ):
        check(text.count(old), 1, f"occurrences of {old}")
        text = text.replace(old, new)
    (dags / "hasty.py").write_text(text)


def flaky_tools(folder, place):
    """A `prep` that ends with 75 the first time it is to write to `place`, as when a store is away, and else is the real one."""
    folder.mkdir()
    tool = folder / "prep"
    real = shutil.which("prep")
    tool.write_text(f'#!/bin/sh\nif [ "$PLACE" = "{place}" ] && mkdir "{place}" 2>/dev/null; then exit 75; fi\nexec "{real}" "$@"\n')
    tool.chmod(0o755)


def whole_chain(airflow, title, conf, fields):
    """The DAG twice over one place: all done, and then all found unchanged."""
    first = airflow.run(title, "gristmill", conf)
    check(first.state, "success", "the run")
    check(first.tasks, dict.fromkeys(TASKS, "success"), "its tasks")
    check(first.tries, dict.fromkeys(TASKS, 1), "its tries")
    for task in TASKS:
        check(first.reports[task], json.loads(first.logs[task][0][-2]), f"the XCom of {task} is the last line that it printed")
    for task in TASKS[:3]:
        check(first.reports[task]["unchanged"], False, f"{task} unchanged")
        assert Path(first.reports[task]["output"]).is_dir(), task
    for task, field, expected in fields:
        check(first.reports[task][field], expected, f"{field} of {task}")
    check(first.reports["train"]["manifest"], first.reports["shard"]["manifest"], "the manifest that was handed on")
    check(first.reports["evaluate"]["model_digest"], first.reports["train"]["model_digest"], "the model that was measured")

    second = airflow.run(f"{title}, again", "gristmill", conf)
    check(second.state, "success", "the second run")
    for task in TASKS[:3]:
        check(second.reports[task]["unchanged"], True, f"{task} unchanged")
    check(second.reports["train"]["model_digest"], first.reports["train"]["model_digest"], "the model")
    check(second.reports["evaluate"]["quality"], first.reports["evaluate"]["quality"], "the measures")


def fails_at_once(airflow, title, conf, task, exit_code, words):
    """A run that ends at `task` without another try, and leaves the tasks after it alone."""
    run = airflow.run(title, "gristmill", conf)
    before = TASKS[: TASKS.index(task)]
    after = TASKS[TASKS.index(task) + 1 :]
    check(run.state, "failed", "the run")
    expected = dict.fromkeys(before, "success") | {task: "failed"} | dict.fromkeys(after, "upstream_failed")
    check(run.tasks, expected, "its tasks")
    check(run.tries[task], 1, f"tries of {task}")
    check(run.reports[task], None, f"XCom of {task}")
    check(run.logs[task][0][-1], f"Command exited with return code {exit_code}", f"end of {task}")
    assert any(words in line for line in run.logs[task][0]), f"{words!r} in {run.logs[task][0]}"


def refused(airflow, conf, words):
    """A run that Airflow does not even begin, because a parameter breaks its rule."""
    try:
        airflow.call("POST", "/api/v2/dags/gristmill/dagRuns", {"logical_date": None, "conf": conf})
    except LookupError as error:
        assert words in str(error), error
        print(f"\n== refused: {words}")
    else:
        raise AssertionError(f"not refused: {conf}")


def running(argument):
    """Processes with `argument` on their command line."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if argument.encode() in line.read_bytes().split(b"\0"):
                found.append(line.parent.name)
        except OSError:
            pass
    return found


def main():
    source, scratch = Path(sys.argv[1]), Path(sys.argv[2])
    dags, home, data = (scratch / name for name in ("dags", "home", "data"))
    for folder in (dags, home, data):
        folder.mkdir()
    ratings, clicks, bad = data / "ratings.csv", data / "train.txt", data / "bad.csv"
    generate = ["prep", "generate", "--quiet"]
    sizes = ["--ratings", "100000", "--users", "600", "--movies", "400", "--seed", "8"]
    subprocess.run([*generate, "movielens", *sizes, "-o", ratings], check=True)
    subprocess.run([*generate, "criteo", "--rows", "50000", "--seed", "8", "-o", clicks], check=True)
    bad.write_text("userId,movieId,rating,timestamp\n1,1,9.5,978300760\n")
    away = str(data / "away")
    flaky_tools(scratch / "tools", away)
    copy_dags(source, dags)
    stars = {"kind": "movielens", "input": str(ratings), "place": str(data / "stars"), "batch": 1000}
    stars["train_options"] = ["--step-batches", "2", "--max-epochs", "5"]
    ads = {"kind": "criteo", "input": str(clicks), "place": str(data / "a place with 'blanks' and $(signs)"), "batch": 500}
    ads["prep_options"], ads["train_options"] = ["--hash-buckets", "10000"], ["--step-batches", "2", "--max-epochs", "3"]

    started = time.monotonic()
    with Airflow(home, dags, scratch / "tools") as airflow:
        for dag in ("gristmill", "hasty"):
            airflow.wait_for(f"the DAG {dag}", lambda: airflow.get(f"/api/v2/dags/{dag}", None))
        check(airflow.get("/api/v2/importErrors")["import_errors"], [], "import errors")
        print(f"Airflow {airflow.get('/api/v2/version')['version']} was ready after {time.monotonic() - started:.0f} s")

        whole_chain(airflow, "ratings", stars, [("shard", "kind", "ratings"), ("train", "model", "pmf")])
        whole_chain(airflow, "click logs", ads, [("shard", "kind", "sparse"), ("train", "model", "lr")])

        fails_at_once(airflow, "no such input", stars | {"input": str(data / "none.csv")}, "prep", 2, "none.csv: not found")
        fails_at_once(airflow, "bad data", stars | {"input": str(bad), "place": str(data / "bad")}, "prep", 3, "bad.csv:2:5: rating 9.5 is outside")
        fails_at_once(airflow, "other content", stars | {"batch": 900}, "shard", 5, "its batch size is 1000, this one's 900")
        steep = stars | {"place": str(data / "steep"), "train_options": ["--biases", "--learning-rate", "1000"]}
        fails_at_once(airflow, "a learning rate that is too high", steep, "train", 6, "training diverged at step 1")

        refused(airflow, stars | {"place": "here"}, "'here' does not match")
        refused(airflow, stars | {"train_options": ["$(reboot)"]}, "'$(reboot)' does not match")
        refused(airflow, stars | {"kind": "other"}, "'other' is not one of")

        run = airflow.run("a store that is away once", "hasty", stars | {"place": away})
        check(run.state, "success", "the run")
        check(run.tries, {"prep": 2, "shard": 1, "train": 1, "evaluate": 1}, "tries")
        check(run.logs["prep"][0][-1], "Command exited with return code 75", "end of the first try")

        forever = ["--step-batches", "2", "--max-epochs", "1000000", "--patience", "1000000"]
        folder, seen = str(data / "long" / "run"), []
        long = stars | {"place": str(data / "long"), "train_options": forever}
        run = airflow.run("a task that takes too long", "hasty", long, lambda: seen.extend(running(folder)))
        check(run.state, "failed", "the run")
        check((run.tasks["train"], run.tries["train"]), ("failed", 2), "train")
        check(len(set(seen)), 2, "processes in their time")
        check(running(folder), [], "processes after their time")
        left = [str(path) for path in Path(folder).rglob("*")]
        check([path for path in left if path.endswith(("report.json", ".safetensors"))], [], "what looks like a run")
        print(f"   processes {sorted(set(seen))} ran and are gone; left under their place: {left or 'nothing'}")
    print(f"\nall as expected, in {time.monotonic() - started:.0f} s without the installation")


if __name__ == "__main__":
    main()
