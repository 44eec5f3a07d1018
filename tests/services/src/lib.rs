//! Real servers for the tests: started when a test needs one, on ports of its own, gone when the test ends, however it ends.
//!
//! * [`SeaweedFs`]: an S3 server that checks signatures and whose conditional writes are atomic.
//! * [`RabbitMq`]: a broker with a plain and a TLS listener, which can be stopped, killed, paused and started again.
//! * [`MiniStack`]: AWS Lambda, whose functions are processes that can be seen, stopped and killed.
//! * [`FaultProxy`]: what may happen to a request between us and a server.
//! * [`Distance`]: how long it takes to a server and back.
//! * [`Redis`] and [`RedisCluster`]: Redis, plain, with users, over TLS, with little memory.
//! * [`Terminal`]: tmux, in whose panes programs find a terminal.
//! * [`Certificates`]: a certificate authority and a server's certificate for those that speak TLS.
//!
//! The servers' programs are installed by the script `install` beside this crate. A test that does not find one fails and says so:
//! a test that skips itself is not run by anybody.

mod certificates;
mod distance;
mod fault_proxy;
mod ministack;
mod process;
mod rabbitmq;
mod redis_server;
mod seaweedfs;
mod terminal;

pub use certificates::Certificates;
pub use distance::Distance;
pub use fault_proxy::{Fault, FaultProxy, Request};
pub use ministack::{Deployment, Invocation, MiniStack};
pub use process::readers;
pub use rabbitmq::RabbitMq;
pub use redis_server::{Redis, RedisCluster, RedisOptions};
pub use seaweedfs::SeaweedFs;
pub use terminal::{Pane, Terminal};
