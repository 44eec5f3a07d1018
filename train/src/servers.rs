//! The servers by which the processes of a run meet, as one of these processes sees them.

use std::time::Duration;

use manifests::place::Place;
use tokio::runtime::{Handle, Runtime};

use crate::control::rabbitmq::RabbitControl;
use crate::error::Error;
use crate::exchange::store::Store;
use crate::exchange::store::object::ObjectStorageStore;
use crate::exchange::store::redis::RedisStore;
use crate::plan::launch::{ExchangeAt, Servers};

/// What a run leaves in Redis and RabbitMQ when it is killed is gone after this long.
const EXPIRY: Duration = Duration::from_secs(600);

/// A call to a server that takes longer has failed. It may be tried again meanwhile, as servers are restarted and networks recover.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Who has just typed where a server is learns sooner that it is not there.
pub const FIRST_DEADLINE: Duration = Duration::from_secs(5);

/// Connects to where gradients go, which have names that begin with `prefix`.
///
/// # Errors
/// When it cannot be reached or refuses.
pub fn store(at: &ExchangeAt, handle: Handle, prefix: &str, deadline: Duration) -> Result<Box<dyn Store>, Error> {
    Ok(match at {
        ExchangeAt::Redis(_) => Box::new(RedisStore::connect(handle, &at.redis_urls()?, prefix, EXPIRY, deadline)?),
        ExchangeAt::FunctionsRedis => {
            return Err(Error::Internal("only functions know where their Redis is".to_owned()));
        }
        ExchangeAt::Storage(place) => Box::new(ObjectStorageStore::new(&Place::parse(place)?, prefix)?),
    })
}

/// Connections to the servers of a run. The runtime that serves them goes last.
pub struct Connections {
    /// Messages.
    pub control: RabbitControl,
    servers: Servers,
    session: String,
    deadline: Duration,
    runtime: Runtime,
}

impl Connections {
    /// Connects to RabbitMQ for the run `session`. Each call to a server takes `deadline` at most.
    ///
    /// # Errors
    /// When it cannot be reached or refuses.
    pub fn open(servers: &Servers, session: &str, deadline: Duration) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("servers")
            .enable_all()
            .build()
            .map_err(Error::internal)?;
        let url = servers.amqp_url()?;
        let control = RabbitControl::connect(runtime.handle().clone(), &url, session, EXPIRY, deadline)?;
        Ok(Self { control, servers: servers.clone(), session: session.to_owned(), deadline, runtime })
    }

    /// Connects to where gradients go.
    ///
    /// # Errors
    /// When it cannot be reached or refuses.
    pub fn store(&self) -> Result<Box<dyn Store>, Error> {
        store(&self.servers.exchange, self.runtime.handle().clone(), &self.prefix(), self.deadline)
    }

    /// Under which name the run's gradients go.
    fn prefix(&self) -> String {
        format!("gristmill.{}", self.session)
    }

    /// Removes what is left of the run where gradients went, if nothing there removes it by itself.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn clear(&self) -> Result<(), Error> {
        if let ExchangeAt::Storage(place) = &self.servers.exchange {
            ObjectStorageStore::new(&Place::parse(place)?, &self.prefix())?.clear()?;
        }
        Ok(())
    }
}
