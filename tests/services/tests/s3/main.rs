//! S3 against a real server: the storage port's own suite, places, and what happens when networks, servers and credentials fail; and the
//! local Lambda, whose functions reach it.

#![expect(clippy::unwrap_used, reason = "a test may panic; clippy knows test functions, not what they call")]

mod access;
mod faults;
mod functions;
mod places;
mod ports;
mod rates;

use std::time::Duration;

use s3::{Credentials, S3Store, Settings};
use services::SeaweedFs;

/// The server at `url`, with waits that suit a test.
fn settings(url: &str, key: (&str, &str)) -> Settings {
    Settings {
        endpoint: Some(url.to_owned()),
        region: Some("us-east-1".to_owned()),
        credentials: Some(Credentials { key: key.0.to_owned(), secret: key.1.to_owned(), token: None }),
        attempts: 5,
        backoff: Duration::from_millis(20),
        backoff_max: Duration::from_millis(200),
        deadline: Duration::from_secs(20),
        connect_timeout: Duration::from_secs(2),
        read_timeout: Duration::from_secs(2),
        ..Settings::default()
    }
}

fn store(server: &SeaweedFs) -> S3Store {
    S3Store::connect(server.bucket(), &settings(&server.url(), SeaweedFs::ADMIN)).unwrap()
}

/// `len` bytes that differ from one another, and by `seed`.
fn bytes(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(len).collect()
}
