"""Starts MiniStack 1.5.33 and mends where it differs from AWS in what a caller or a function can tell.

It leads a process group, so that the functions that it starts can be ended with it.
"""

import os
import time

os.setpgid(0, 0)

from ministack import app
from ministack.core import lambda_runtime
from ministack.services import lambda_svc

reserved_concurrency = lambda_svc._reserved_concurrency
invoke_async = lambda_svc.invoke_async_with_retry
execute = lambda_svc._execute_function


def of_function(record, config):
    """A published version's record has neither the concurrency nor the retries that are set for it."""
    return reserved_concurrency(lambda_svc._functions.get(config["FunctionName"], record), config)


def invoke_async_by_version(record, event):
    config = record["config"]
    version = None if config["Version"] == "$LATEST" else config["Version"]
    function = lambda_svc._functions[config["FunctionName"]]
    settings = lambda_svc._event_invoke_config(function, version)
    invoke_async({**record, "event_invoke_config": settings, "asynchronous": True}, event)


def execute_when_there_is_room(record, event):
    """An event that finds no room waits in the queue, and that is no attempt; MiniStack counts it as one that failed."""
    pause = 0.1
    while True:
        result = execute(record, event)
        if not (record.get("asynchronous") and result.get("throttle")):
            return result
        time.sleep(pause)
        pause = min(2 * pause, 1)


def end_at_once(process):
    """A function that has no extensions is not told that it ends."""
    if process is not None and process.poll() is None:
        process.kill()


lambda_svc._reserved_concurrency = of_function
lambda_svc.invoke_async_with_retry = invoke_async_by_version
lambda_svc._execute_function = execute_when_there_is_room
lambda_runtime._signal = end_at_once
app.main()
