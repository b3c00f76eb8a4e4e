//! A stream's state as bytes.
//!
//! ```text
//! bytes  what
//! 8      "wrnn.str"
//! 4      version of the format: 1
//! 4      bytes of a value: 4 (f32) or 8 (f64)
//! 8      the model's fingerprint
//! 8      frames that the stream has had
//! 8      values of the state
//! …      the values, in the order of StreamPool::state
//! 8      check: the fingerprint function over everything before it
//! ```
//!
//! All numbers are little-endian.

use super::engine::Fingerprint;
use crate::error::{Error, Result, StreamError};
use crate::exec::Element;

const MAGIC: &[u8; 8] = b"wrnn.str";
const VERSION: u32 = 1;
/// Bytes before the values.
const HEAD: usize = 40;

fn check(bytes: &[u8]) -> u64 {
    let mut print = Fingerprint::new("");
    print.add_bytes(bytes);
    print.0
}

pub(super) fn write<T: Element>(fingerprint: u64, frames: u64, values: &[T]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD + size_of_val(values) + 8);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(size_of::<T>() as u32).to_le_bytes());
    for word in [fingerprint, frames, values.len() as u64] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    for value in values {
        let start = bytes.len();
        bytes.extend_from_slice(bytemuck::bytes_of(value));
        // As they lie in memory of a big-endian machine, the other way round.
        if cfg!(target_endian = "big") {
            bytes[start..].reverse();
        }
    }
    bytes.extend_from_slice(&check(&bytes).to_le_bytes());
    bytes
}

/// The frames that the stream had had, and its state.
pub(super) fn read<T: Element>(bytes: &[u8], fingerprint: u64, size: usize) -> Result<(u64, Vec<T>)> {
    let wrong = |expected: &str, got: String| Error::Stream(StreamError::Saved { expected: expected.into(), got });
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(word)
    };
    if bytes.len() < HEAD + 8 || bytes[..8] != *MAGIC {
        let got = format!("{} byte(s) that do not begin with it", bytes.len());
        return Err(wrong("the head of a saved stream (wrnn.str)", got));
    }
    let (version, element) = (word(8) as u32, (word(8) >> 32) as usize);
    if version != VERSION {
        return Err(wrong(&format!("version {VERSION} of the format"), format!("version {version}")));
    }
    let (body, end) = bytes.split_at(bytes.len() - 8);
    if check(body).to_le_bytes() != *end {
        return Err(wrong("bytes as they were written", "others: their check is not right".into()));
    }
    // The element is a part of the fingerprint, and the number of values follows from the model.
    if word(16) != fingerprint {
        return Err(Error::Stream(StreamError::Model { expected: fingerprint, got: word(16) }));
    }
    let expected = (size_of::<T>(), size as u64, HEAD + size * size_of::<T>() + 8);
    if (element, word(32), bytes.len()) != expected {
        let got = format!("{} values of {element} byte(s) in {} byte(s)", word(32), bytes.len());
        return Err(wrong(&format!("{size} values of {} byte(s)", size_of::<T>()), got));
    }
    let values = body[HEAD..].chunks_exact(size_of::<T>()).map(|chunk| {
        let mut value = T::default();
        let own = bytemuck::bytes_of_mut(&mut value);
        own.copy_from_slice(chunk);
        if cfg!(target_endian = "big") {
            own.reverse();
        }
        value
    });
    Ok((word(24), values.collect()))
}
