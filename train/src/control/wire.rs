//! The wire format of control messages: a fixed header and a body in postcard, bounded and checked before it is believed.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `GMST` |
//! | 2 | version of the format, little-endian |
//! | 4 | bytes of the body, little-endian |
//! | 8 | xxh3-64 of the body, little-endian |
//! | the rest | [`Envelope`] in postcard 1 |
//!
//! Numbers of the body are varints, floats their bits, so every value survives as it is. There is no compatibility between versions
//! of the protocol to keep: a run's parties are one build. What a run means is not checked here; the protocol refuses what is not its own.

use schemas::exit::{ErrorKind, Explain};
use schemas::message::Envelope;
use xxhash_rust::xxh3::xxh3_64;

/// The largest body, so that no message can ask its receiver for more memory.
pub const MAX_BYTES: usize = 4 << 20;

/// Version of the format.
const VERSION: u16 = 1;

const MAGIC: [u8; 4] = *b"GMST";
const HEADER: usize = 18;

/// Bytes that are no message, or a message that cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Somebody else's.
    #[error("not a control message of Gristmill")]
    Foreign,
    /// Of a build with another format.
    #[error("format version {found} of control messages, this build speaks {VERSION}")]
    Version {
        /// Its version.
        found: u16,
    },
    /// Over the limit.
    #[error("a control message of {bytes} bytes, at most {MAX_BYTES} are allowed")]
    TooLarge {
        /// Bytes of the body.
        bytes: usize,
    },
    /// The end is missing.
    #[error("a control message that ends after {found} of {declared} bytes")]
    Truncated {
        /// Bytes that are there, with the header.
        found: usize,
        /// Bytes that there should be, with the header.
        declared: usize,
    },
    /// There is more than the message.
    #[error("{bytes} bytes after the end of a control message")]
    Trailing {
        /// Bytes too many.
        bytes: usize,
    },
    /// The body is not what was sent.
    #[error("a control message whose digest is wrong")]
    Damaged,
    /// The body is whole but says nothing that this build knows.
    #[error("a control message that this build cannot read: {problem}")]
    Unknown {
        /// What the decoder says.
        problem: String,
    },
}

impl Explain for WireError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}

/// The bytes of `envelope`.
///
/// # Errors
/// [`WireError::TooLarge`], as no receiver would take it.
pub fn encode(envelope: &Envelope) -> Result<Vec<u8>, WireError> {
    let unknown = |error: postcard::Error| WireError::Unknown { problem: error.to_string() };
    let mut bytes = postcard::to_extend(envelope, vec![0; HEADER]).map_err(unknown)?;
    let (header, body) = bytes.split_at_mut(HEADER);
    if body.len() > MAX_BYTES {
        return Err(WireError::TooLarge { bytes: body.len() });
    }
    header[..4].copy_from_slice(&MAGIC);
    header[4..6].copy_from_slice(&VERSION.to_le_bytes());
    header[6..10].copy_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    header[10..].copy_from_slice(&xxh3_64(body).to_le_bytes());
    Ok(bytes)
}

/// The message that `bytes` are, all of them. Allocates no more than a few times their number.
///
/// # Errors
/// When they are not one whole message of this format.
pub fn decode(bytes: &[u8]) -> Result<Envelope, WireError> {
    let magic = bytes.len().min(MAGIC.len());
    if bytes[..magic] != MAGIC[..magic] {
        return Err(WireError::Foreign);
    }
    let Some((header, body)) = bytes.split_first_chunk::<HEADER>() else {
        return Err(WireError::Truncated { found: bytes.len(), declared: HEADER });
    };
    let [_, _, _, _, v0, v1, l0, l1, l2, l3, digest @ ..] = *header;
    let found = u16::from_le_bytes([v0, v1]);
    if found != VERSION {
        return Err(WireError::Version { found });
    }
    let declared = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if declared > MAX_BYTES {
        return Err(WireError::TooLarge { bytes: declared });
    }
    if body.len() < declared {
        return Err(WireError::Truncated { found: bytes.len(), declared: HEADER + declared });
    }
    if body.len() > declared {
        return Err(WireError::Trailing { bytes: body.len() - declared });
    }
    if xxh3_64(body) != u64::from_le_bytes(digest) {
        return Err(WireError::Damaged);
    }
    match postcard::take_from_bytes(body) {
        Ok((envelope, [])) => Ok(envelope),
        Ok((_, rest)) => Err(WireError::Trailing { bytes: rest.len() }),
        Err(error) => Err(WireError::Unknown { problem: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use random::Stream;
    use schemas::message::{Message, PROTOCOL, Party, Turn, Work};
    use schemas::records::{BatchLoss, Scores};

    use super::*;

    fn envelope(run: &str, sender: Party, message: Message) -> Envelope {
        Envelope { protocol: PROTOCOL, run: run.to_owned(), sender: sender.life(3), message }
    }

    fn computed(losses: &[f64]) -> Envelope {
        let loss = |(slot, &loss_sum): (u32, &f64)| BatchLoss { slot, loss_sum, rows: 6250 };
        let losses = (0..).zip(losses).map(loss).collect();
        let result = Work::Computed { losses, timings: None, sizes: None };
        let turn = Turn { supervisor: 1, number: u64::MAX };
        envelope("lively-otter", Party::Worker(7), Message::Report { turn, result, stored: vec![] })
    }

    fn evaluated(bins: Vec<(u32, u64, u64)>) -> Envelope {
        let scores = Some(Scores::Clicks { predicted: 1 << 40, bins });
        let result = Work::Evaluated { losses: vec![], scores };
        envelope("", Party::Supervisor, Message::Report { turn: Turn::default(), result, stored: vec![] })
    }

    fn whole(body: &[u8]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
        bytes.extend(xxh3_64(body).to_le_bytes());
        bytes.extend(body);
        bytes
    }

    #[test]
    fn a_message_is_the_bytes_that_the_table_says() {
        let bytes = encode(&envelope("run", Party::Worker(300), Message::Hello)).unwrap();
        // Protocol; length and text of the run; variant and number of the sender; incarnation. Then the message.
        let body = [u8::try_from(PROTOCOL).unwrap(), 3, b'r', b'u', b'n', 2, 0xac, 0x02, 3];
        assert!(bytes[HEADER..].starts_with(&body), "{bytes:?}");
        assert_eq!(bytes, whole(&bytes[HEADER..]));
        assert_eq!(bytes[..6], *b"GMST\x01\x00");
    }

    #[test]
    fn floats_keep_their_bits() {
        let odd = [f64::NAN, -f64::NAN, f64::from_bits(0x7ff0_dead_beef_0001), f64::INFINITY, -0.0, 5e-324, f64::MAX];
        let decoded = decode(&encode(&computed(&odd)).unwrap()).unwrap();
        let Message::Report { result: Work::Computed { losses, .. }, .. } = decoded.message else { panic!() };
        let bits = |sums: Vec<f64>| sums.into_iter().map(f64::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(losses.iter().map(|l| l.loss_sum).collect()), bits(odd.to_vec()));
    }

    #[test]
    fn each_problem_has_its_error() {
        let good = encode(&computed(&[0.5])).unwrap();
        let changed = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            decode(&bytes)
        };
        let length = good.len() - HEADER;
        let longer = [&good[..], &[0, 0]].concat();
        let huge = [&good[..6], &u32::MAX.to_le_bytes(), &good[10..]].concat();
        // A whole message followed by a byte within the body, and one whose sender has a variant that does not exist.
        let stuffed = whole(&[&good[HEADER..], &[0]].concat());
        let stranger = whole(&[1, 0, 9, 0, 0]);
        let cases = [
            (changed(0, b'g'), WireError::Foreign),
            (decode(b"{\"run\":1}"), WireError::Foreign),
            (decode(&[]), WireError::Truncated { found: 0, declared: HEADER }),
            (decode(&good[..HEADER - 1]), WireError::Truncated { found: HEADER - 1, declared: HEADER }),
            (decode(&good[..good.len() - 1]), WireError::Truncated { found: good.len() - 1, declared: good.len() }),
            (changed(4, 2), WireError::Version { found: 2 }),
            (decode(&longer), WireError::Trailing { bytes: 2 }),
            (decode(&huge), WireError::TooLarge { bytes: u32::MAX as usize }),
            (changed(HEADER, good[HEADER] ^ 1), WireError::Damaged),
            (decode(&stuffed), WireError::Trailing { bytes: 1 }),
        ];
        assert!(length < 100, "{length}");
        for (found, expected) in cases {
            assert_eq!(found, Err(expected));
        }
        assert!(matches!(decode(&stranger), Err(WireError::Unknown { .. })));
    }

    #[test]
    fn what_is_too_large_is_not_sent() {
        let bins = |n: u32| (0..n).map(|bin| (bin, u64::MAX, u64::MAX)).collect();
        assert_eq!(decode(&encode(&evaluated(bins(1000))).unwrap()).unwrap(), evaluated(bins(1000)));
        assert!(matches!(encode(&evaluated(bins(400_000))), Err(WireError::TooLarge { .. })));
    }

    #[test]
    fn a_declared_count_is_not_believed() {
        // A report of a step with 2^63 losses, of which none is there.
        let body = [1, 0, 1, 0, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert!(matches!(decode(&whole(&body)), Err(WireError::Unknown { .. })));
    }

    #[test]
    fn every_bit_and_every_cut_counts() {
        for good in [computed(&[0.25, f64::NAN]), evaluated(vec![(1, 2, 3)])].map(|e| encode(&e).unwrap()) {
            for bit in 0..8 * good.len() {
                let mut bytes = good.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(decode(&bytes).is_err(), "bit {bit}");
            }
            for cut in 0..good.len() {
                assert!(decode(&good[..cut]).is_err(), "{cut} bytes");
            }
        }
    }

    /// A message that was changed is refused, and one whose digest was made to fit is at least no panic.
    #[test]
    fn a_hundred_thousand_mutations_do_no_harm() {
        let seeds = [computed(&[1.0; 5]), computed(&[]), evaluated(vec![(9, 1, 0); 20])].map(|e| encode(&e).unwrap());
        let mut stream = Stream::new(6, "wire");
        let (mut refused, mut read) = (0, 0);
        for round in 0..100_000 {
            let good = &seeds[round % seeds.len()];
            let mut bytes = good.clone();
            for _ in 0..=stream.below(4) {
                let at = usize::try_from(stream.below(bytes.len() as u64)).unwrap();
                let byte = u8::try_from(stream.below(256)).unwrap();
                match stream.below(4) {
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    2 => bytes.truncate(at.max(1)),
                    _ => bytes.extend_from_within(at..),
                }
            }
            if bytes != *good {
                assert!(decode(&bytes).is_err(), "{bytes:?}");
                refused += 1;
            }
            if let Some(body) = bytes.get(HEADER..) {
                read += u32::from(decode(&whole(body)).is_ok());
            }
        }
        assert!(refused > 99_000, "{refused}");
        assert!(read > 0, "no mutation was ever a message");
    }

    proptest! {
        #[test]
        fn any_bytes_are_no_message_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(decode(&bytes).is_err());
            if let Ok(envelope) = decode(&whole(&bytes)) {
                prop_assert!(encode(&envelope).is_ok());
            }
        }

        #[test]
        fn messages_come_back(run in "\\PC{0,40}", worker: u32, step: u64, sums in proptest::collection::vec(any::<f64>(), 0..30)) {
            let mut sent = computed(&sums);
            sent.run = run;
            sent.sender = Party::Worker(worker).life(worker ^ 5);
            if let Message::Report { turn, .. } = &mut sent.message { turn.number = step; }
            prop_assert_eq!(decode(&encode(&sent).unwrap()).unwrap(), sent);
        }
    }
}
