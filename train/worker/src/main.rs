//! The AWS Lambda function of a run: a worker or the supervisor, as the event invites it to be, or one that looks around.

use std::time::SystemTime;

use lambda_runtime::{Error, LambdaEvent, service_fn};
use schemas::exit::Explain;
use serde_json::{Value, json};
use train::job::Event;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    lambda_runtime::run(service_fn(handle)).await
}

/// A failure is an answer: what became of it, the client knows already, and Lambda need not invoke it again.
async fn handle(event: LambdaEvent<Event>) -> Result<Value, Error> {
    let left = event.context.deadline().duration_since(SystemTime::now()).unwrap_or_default();
    let (done, result) = tokio::sync::oneshot::channel();
    let part = move || done.send(train::checkup::answer(&event.payload, left));
    std::thread::Builder::new().name("part".to_owned()).spawn(part)?;
    Ok(match result.await? {
        Ok(answer) => answer,
        Err(error) => json!({ "kind": error.kind(), "error": error.to_string(), "fix": error.fix() }),
    })
}
