//! The threads that the SDK's requests live on, so that callers need no async runtime of their own.

use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

use crate::Error;

/// One drives a body while the other signs and sums; more would take the processors from the tools.
const THREADS: usize = 2;

/// The threads of the process, started when they are first needed.
pub(crate) fn handle() -> Result<&'static Handle, Error> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let start = || {
        let runtime = Builder::new_multi_thread().worker_threads(THREADS).thread_name("s3").enable_all().build();
        runtime.map_err(|e| e.to_string())
    };
    match RUNTIME.get_or_init(start) {
        Ok(runtime) => Ok(runtime.handle()),
        Err(cause) => Err(Error::Internal { cause: format!("no threads for requests: {cause}") }),
    }
}

/// Drives `future` on the crate's threads; whoever drops the result stops it.
pub(crate) async fn run<T: Send + 'static>(
    future: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    Task(handle()?.spawn(future)).await
}

struct Task<T>(JoinHandle<Result<T, Error>>);

impl<T> Future for Task<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(context)
            .map(|joined| joined.unwrap_or_else(|e| Err(Error::Internal { cause: e.to_string() })))
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn timers_run_under_any_executor() {
        let slept = run(async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(7)
        });
        assert_eq!(futures::executor::block_on(slept).unwrap(), 7);
    }

    #[test]
    fn what_is_dropped_is_stopped() {
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let waiting = run(async move {
            let _sender = sender;
            std::future::pending::<Result<(), Error>>().await
        });
        futures::executor::block_on(async {
            let mut waiting = std::pin::pin!(waiting);
            assert!(futures::poll!(&mut waiting).is_pending());
        });
        assert!(futures::executor::block_on(receiver).is_err(), "the sender went with the task");
    }
}
