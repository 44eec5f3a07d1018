//! Real servers for the tests: started when a test needs one, on ports of its own, gone when the test ends, however it ends.
//!
//! * [`SeaweedFs`]: an S3 server that checks signatures and whose conditional writes are atomic.
//! * [`FaultProxy`]: what may happen to a request between us and a server.
//!
//! The servers' programs are installed by the script `install` beside this crate. A test that does not find one fails and says so:
//! a test that skips itself is not run by anybody.

mod fault_proxy;
mod process;
mod seaweedfs;

pub use fault_proxy::{Fault, FaultProxy, Request};
pub use seaweedfs::SeaweedFs;
