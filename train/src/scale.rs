//! Changes the number of workers of a run that goes on: tells its client, and returns when the client has been told.

use manifests::place::Place;
use reporting::{Console, counted};
use schemas::message::{Message, Party};
use schemas::report::ScaleReport;

use crate::TOOL;
use crate::control::{ControlError, ControlPlane};
use crate::error::Error;
use crate::job::Job;
use crate::plan::launch::{ExchangeAt, Scale, Servers};
use crate::protocol::envelope;
use crate::servers::{Connections, FIRST_DEADLINE};

/// Tells the client of the run how many workers there should be.
///
/// # Errors
/// When the run is not going on, or its RabbitMQ cannot be reached.
pub fn run(scale: &Scale, console: &Console) -> Result<ScaleReport, Error> {
    let out = Place::parse(&scale.run)?;
    let job = Job::read(&out)?;
    // Gradients are no matter of this command.
    let servers = Servers { amqp: scale.amqp.clone(), exchange: ExchangeAt::Storage(scale.run.clone()) };
    let connections = Connections::open(&servers, &job.session, FIRST_DEADLINE)?;
    let client = Party::Client.life(0);
    let message = Message::Scale { n_workers: scale.workers };
    // Another life of the client's party, so that it is not taken for the client itself.
    match connections.control.send(client, &envelope(&job.session, Party::Client.life(1), message)) {
        Err(ControlError::NoMailbox { .. }) => {
            return Err(Error::Unfit {
                place: out.to_string(),
                problem: "the run is not going on".to_owned(),
                fix: format!("go on with it by `train --resume {} --workers {}`", scale.run, scale.workers),
            });
        }
        sent => sent?,
    }
    console.note(format!("{} goes on with {}", out, counted(scale.workers.into(), "worker")));
    Ok(ScaleReport { tool: TOOL.to_owned(), output: out.to_string(), workers: scale.workers })
}
