//! The body of an answer, asked for again from where it stopped.
//!
//! The SDK retries requests, but what it hands out of a body is final. Here a body that is reset, cut short or silent is continued
//! by a request for the rest of it, of the same version of the object. A body is never shorter than it was announced without an
//! error, and a whole object is checked against the server's checksum.

use std::ops::Range;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use tokio::sync::mpsc;

use crate::checksum::Check;
use crate::sdk::{Ask, Body, Bucket, content_range};
use crate::{Error, retry, runtime, token};

/// Chunks that are read ahead of whoever takes them; each has up to some hundred KB.
const AHEAD: usize = 4;

/// A body under way.
pub(crate) struct Transfer {
    pub(crate) bucket: Bucket,
    /// Asks for the same version of the object; its range is set anew for each request.
    pub(crate) again: Ask,
    pub(crate) range: Range<u64>,
    pub(crate) check: Option<Check>,
}

impl Transfer {
    /// The bytes of `range`, the first of which arrive in `body`.
    pub(crate) fn stream(self, body: Body) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error> {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let length = self.range.end - self.range.start;
        runtime::handle()?.spawn(self.pump(body, sender));
        let state = Some((receiver, 0));
        let stream = futures::stream::unfold(state, move |state| async move {
            let (mut receiver, received) = state?;
            match receiver.recv().await {
                Some(Ok(chunk)) => {
                    let received = received + Bytes::len(&chunk) as u64;
                    Some((Ok(chunk), Some((receiver, received))))
                }
                Some(Err(error)) => Some((Err(error), None)),
                None if received == length => None,
                None => Some((Err(Error::Truncated { received, length, cause: "its reader ended".to_owned() }), None)),
            }
        });
        // The port's readers ask once more after the end.
        Ok(stream.fuse().boxed())
    }

    /// Sends the bytes on until all have been sent, nobody takes them, or there is no hope.
    async fn pump(mut self, mut body: Body, sender: mpsc::Sender<Result<Bytes, Error>>) {
        let (start, end) = (self.range.start, self.range.end);
        let settings = self.bucket.connection.settings.clone();
        let mut position = start;
        let mut attempt = 1;
        loop {
            let cause = match tokio::time::timeout(settings.read_timeout, body.next()).await {
                Ok(Some(Ok(mut chunk))) => {
                    let missing = end - position;
                    chunk.truncate(usize::try_from(missing).unwrap_or(usize::MAX));
                    position += chunk.len() as u64;
                    if let Some(check) = &mut self.check {
                        check.update(&chunk);
                    }
                    if !chunk.is_empty() && sender.send(Ok(chunk)).await.is_err() {
                        return;
                    }
                    continue;
                }
                // What ails a body of which every byte has come, as a checksum of the SDK's, is checked below.
                _ if position == end => break,
                Ok(None) => "it ended".to_owned(),
                Ok(Some(Err(cause))) => cause,
                Err(_) => format!("nothing came for {} s", settings.read_timeout.as_secs_f32()),
            };
            let broken = Error::Truncated { received: position - start, length: end - start, cause };
            let rest = if attempt < settings.attempts {
                let wait = retry::backoff(attempt, settings.backoff, settings.backoff_max, token::fraction());
                tokio::time::sleep(wait).await;
                attempt += 1;
                self.rest(position).await
            } else {
                Err(broken)
            };
            match rest {
                Ok(rest) => body = rest,
                Err(error) => {
                    // Whoever has gone does not want to know.
                    let _ = sender.send(Err(error)).await;
                    return;
                }
            }
        }
        if let Some(Err(algorithm)) = self.check.as_ref().map(Check::finish) {
            let _ = sender.send(Err(Error::Mismatch { algorithm })).await;
        }
    }

    /// The body of what comes from `position` on.
    async fn rest(&self, position: u64) -> Result<Body, Error> {
        let range = format!("bytes={position}-{}", self.range.end - 1);
        let ask = Ask { range: Some(range), ..self.again.clone() };
        let (described, body) = self.bucket.get(ask).await?;
        match described.content_range.as_deref().and_then(content_range) {
            Some((range, _)) if range.start == position => Ok(body),
            _ => Err(Error::Internal {
                cause: "the server does not answer with the range that was asked for".to_owned(),
            }),
        }
    }
}
