//! SIGINT and SIGTERM: the first one is remembered and asked for at safe points, the second one ends the process at once.

use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use schemas::exit::{ErrorKind, Explain};
use signal_hook::consts::{SIGINT, SIGTERM};

static INTERRUPTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);
static TERMINATED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// The work was stopped by a signal; nothing was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped(ErrorKind);

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0 == ErrorKind::Interrupted { "interrupted" } else { "terminated" })
    }
}

impl std::error::Error for Stopped {}

impl Explain for Stopped {
    fn kind(&self) -> ErrorKind {
        self.0
    }

    fn fix(&self) -> Option<String> {
        Some("run the same command again; what was not finished is made anew".to_owned())
    }
}

/// Begins to listen for SIGINT and SIGTERM.
///
/// # Errors
/// When the operating system refuses to install a signal handler.
pub fn listen() -> std::io::Result<()> {
    for (signal, flag) in [(SIGINT, &*INTERRUPTED), (SIGTERM, &*TERMINATED)] {
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(flag))?;
        signal_hook::flag::register(signal, Arc::clone(flag))?;
    }
    Ok(())
}

/// Fails once a signal has arrived. Long loops call this at points where stopping leaves nothing half-made.
///
/// # Errors
/// [`Stopped`], with the kind of the signal.
pub fn check() -> Result<(), Stopped> {
    if INTERRUPTED.load(Ordering::Relaxed) {
        Err(Stopped(ErrorKind::Interrupted))
    } else if TERMINATED.load(Ordering::Relaxed) {
        Err(Stopped(ErrorKind::Terminated))
    } else {
        Ok(())
    }
}
