//! The servers by which the processes of a run meet, as one of these processes sees them.

use std::time::Duration;

use manifests::place::Place;
use tokio::runtime::Runtime;

use crate::control::rabbitmq::RabbitControl;
use crate::error::Error;
use crate::exchange::store::Store;
use crate::exchange::store::object::ObjectStorageStore;
use crate::exchange::store::redis::RedisStore;
use crate::plan::launch::{ExchangeAt, Servers};

/// What a run leaves in Redis and RabbitMQ when it is killed is gone after this long.
pub const EXPIRY: Duration = Duration::from_secs(600);

/// A call to a server that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(30);

/// Connections to the servers of a run. The runtime that serves them goes last.
pub struct Connections {
    /// Messages.
    pub control: RabbitControl,
    servers: Servers,
    session: String,
    runtime: Runtime,
}

impl Connections {
    /// Connects to RabbitMQ for the run `session`.
    ///
    /// # Errors
    /// When it cannot be reached or refuses.
    pub fn open(servers: &Servers, session: &str) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("servers")
            .enable_all()
            .build()
            .map_err(Error::internal)?;
        let control =
            RabbitControl::connect(runtime.handle().clone(), &servers.amqp_url()?, session, EXPIRY, DEADLINE)?;
        Ok(Self { control, servers: servers.clone(), session: session.to_owned(), runtime })
    }

    /// Connects to where gradients go.
    ///
    /// # Errors
    /// When it cannot be reached or refuses.
    pub fn store(&self) -> Result<Box<dyn Store>, Error> {
        let prefix = self.prefix();
        Ok(match &self.servers.exchange {
            ExchangeAt::Redis(_) => {
                let urls = self.servers.redis_urls()?;
                let handle = self.runtime.handle().clone();
                Box::new(RedisStore::connect(handle, &urls, &prefix, EXPIRY, DEADLINE)?)
            }
            ExchangeAt::Storage(place) => Box::new(ObjectStorageStore::new(&Place::parse(place)?, &prefix)?),
        })
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
