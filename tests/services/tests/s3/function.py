#!/usr/bin/env python3
"""A function that does what its event says and returns what it sees. BUILD is replaced by what tells one build from another."""

import json
import os
import signal
import sys
import time
import urllib.request

with open("/proc/self/environ", "rb") as file:
    environment = dict(entry.split("=", 1) for entry in file.read().decode().split("\0") if entry)
api = f"http://{environment['AWS_LAMBDA_RUNTIME_API']}/2018-06-01/runtime/invocation/"
started = time.time()


def lines(name):
    with open(name) as file:
        return len(file.readlines())


def ended_in_order(*_):
    with open(f"{environment['TMPDIR']}/told-to-end", "w"):
        sys.exit()


def run(event):
    if "note" in event:
        with open(event["note"], "a") as file:
            file.write(f"{os.getpid()}\n")
    if "together" in event:
        while lines(event["note"]) < event["together"]:
            time.sleep(0.02)
    while "until" in event and not os.path.exists(event["until"]):
        time.sleep(0.02)
    time.sleep(event.get("sleep", 0))
    held = len(bytearray(event.get("megabytes", 0) << 20))
    if "die" in event:
        os._exit(1)
    if "fail" in event:
        raise RuntimeError(event["fail"])
    return {"build": "BUILD", "process": os.getpid(), "environment": environment, "held": held, "started": started}


signal.signal(signal.SIGTERM, ended_in_order)
while True:
    with urllib.request.urlopen(api + "next") as answer:
        event = json.load(answer)
        request, deadline = (answer.headers[f"Lambda-Runtime-{name}"] for name in ("Aws-Request-Id", "Deadline-Ms"))
    left = int(deadline) / 1000 - time.time()
    print("works on", event, flush=True)
    try:
        kind, said = "response", {**run(event), "left": left}
    except (RuntimeError, MemoryError) as error:
        kind, said = "error", {"errorType": type(error).__name__, "errorMessage": str(error)}
    urllib.request.urlopen(f"{api}{request}/{kind}", json.dumps(said).encode()).close()
