//! A network between a client and a server of this machine: what either says arrives some time later.

use std::io::{Read, Result, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

/// Bytes that are passed on together.
const CHUNK: usize = 64 << 10;

/// A server as it is reached from far away, for as long as the process lives.
#[derive(Clone, Copy, Debug)]
pub struct Distance {
    address: SocketAddr,
}

impl Distance {
    /// Puts a round trip of `round_trip` before the server at `port` of this machine; the throughput is not limited.
    ///
    /// # Panics
    /// When there is no free port.
    #[must_use]
    pub fn to(port: u16, round_trip: Duration) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        spawn(move || {
            // A connection ends when either end of it does.
            listener.incoming().map_while(Result::ok).for_each(|client| drop(connect(&client, port, round_trip / 2)));
        });
        Self { address }
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.address.port()
    }
}

fn connect(client: &TcpStream, port: u16, way: Duration) -> Result<()> {
    let server = TcpStream::connect(("127.0.0.1", port))?;
    for (from, to) in [(client, &server), (&server, client)] {
        from.set_nodelay(true)?;
        let (from, to, (sender, receiver)) = (from.try_clone()?, to.try_clone()?, channel());
        spawn(move || drop(listen(from, &sender, way)));
        spawn(move || drop(speak(to, &receiver)));
    }
    Ok(())
}

fn listen(mut from: TcpStream, to: &Sender<(Instant, Vec<u8>)>, way: Duration) -> Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let n = from.read(&mut chunk)?;
        // The last, empty one says that there is no more.
        if to.send((Instant::now() + way, chunk[..n].to_vec())).is_err() || n == 0 {
            return Ok(());
        }
    }
}

fn speak(mut to: TcpStream, from: &Receiver<(Instant, Vec<u8>)>) -> Result<()> {
    for (at, chunk) in from {
        sleep(at.saturating_duration_since(Instant::now()));
        to.write_all(&chunk)?;
        if chunk.is_empty() {
            break;
        }
    }
    to.shutdown(std::net::Shutdown::Write)
}
