//! Messages that a task sends beside the work of who handed them over.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{CLOSE_LIMIT, Shared};
use crate::service::ServiceError;

/// Messages that wait to be sent, at most. While there are so many, what comes is dropped: it is repeated.
const WAITING_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Outbox {
    messages: mpsc::Sender<(String, Vec<u8>)>,
    failure: Arc<Mutex<Option<ServiceError>>>,
    task: JoinHandle<()>,
}

impl Outbox {
    pub(super) fn open(shared: &Arc<Shared>) -> Self {
        let (messages, mut waiting) = mpsc::channel::<(String, Vec<u8>)>(WAITING_MAX);
        let failure: Arc<Mutex<Option<ServiceError>>> = Arc::default();
        let (failed, shared_by_task) = (Arc::clone(&failure), Arc::clone(shared));
        let task = shared.handle.spawn(async move {
            while let Some((queue, body)) = waiting.recv().await {
                if let Err(error) = shared_by_task.deliver(&queue, &body).await {
                    *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                }
            }
        });
        Self { messages, failure, task }
    }

    /// Has `body` sent to `queue`; a failure is that of an earlier message.
    pub(super) fn hand_over(&self, queue: String, body: Vec<u8>) -> Result<(), ServiceError> {
        if let Some(failure) = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(failure);
        }
        match self.messages.try_send((queue, body)) {
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Closed(_)) => Ok(()),
        }
    }

    /// Sends what waits, if that can be done soon.
    pub(super) async fn close(self) {
        let Self { messages, mut task, .. } = self;
        drop(messages);
        if timeout(CLOSE_LIMIT, &mut task).await.is_err() {
            task.abort();
            let _ = task.await;
        }
    }
}
