#!/bin/sh
# What a function is started as: a cold start, what MiniStack's own environment has and a function's has not, and AWS's limits.
unset BIND_HOST DOCKER_HOST GATEWAY_PORT HOME IOT_MTLS_ENABLED LAMBDA_ACCOUNT_CONCURRENCY LAMBDA_ASYNC_RETRY_BASE_SECONDS
unset LC_CTYPE MINISTACK_HOST OLDPWD PWD SHLVL
[ -n "$AWS_SESSION_TOKEN" ] || unset AWS_SESSION_TOKEN
pause=$((LEAST + $$ * 7919 % SPAN))
[ "$pause" = 0 ] || sleep "$((pause / 1000)).$(printf %03d $((pause % 1000)))"
ulimit -n 1024
ulimit -d $((AWS_LAMBDA_FUNCTION_MEMORY_SIZE * 1024))
exec "$LAMBDA_TASK_ROOT/worker"
