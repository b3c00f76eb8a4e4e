//! What clients and the server say to each other.

use serde::{Deserialize, Serialize};
use std::ops::Range;
use wgpu_rnn_examples::voice_activity::silero::{FRAME, RATE};
use wgpu_rnn_examples::voice_activity::speech::seconds;

/// How the samples of binary messages lie; mono, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Whole numbers of 16 bits; full scale is 32768.
    S16,
    /// Floating-point numbers of 32 bits; full scale is 1.
    F32,
}

impl Format {
    /// Bytes of a sample.
    pub fn size(self) -> usize {
        match self {
            Self::S16 => 2,
            Self::F32 => 4,
        }
    }
}

/// Text from a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// The first message of a connection.
    Start {
        format: Format,
        /// Samples per second: 16000.
        rate: u32,
        /// A session to go on with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<String>,
    },
    /// Nothing comes any more: what is left of the sound is run as a last frame, with zeros behind it.
    End {},
}

/// Text to a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Response {
    /// Sound may come now.
    Ready {
        /// What the session is resumed by.
        session: String,
        rate: u32,
        /// Samples of a frame.
        frame: usize,
        /// Samples that the session has had: the client goes on with the one behind them.
        samples: u64,
        /// Frames that results were given of.
        frames: u64,
    },
    /// A probability per frame, from frame `first` on.
    Frames { first: u64, probability: Vec<f32> },
    /// Speech has begun, or has ended before frame `to`.
    Speech {
        from: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        to: Option<usize>,
        /// In seconds.
        start: f64,
        #[serde(skip_serializing_if = "Option::is_none")]
        end: Option<f64>,
    },
    /// All results of a sound that the client has ended were given.
    End { frames: u64 },
    /// The server keeps the session: as [`Response::Ready`] would tell.
    Saved { session: String, samples: u64, frames: u64 },
    /// Why the server closes the connection.
    Error { reason: Reason, message: String },
}

impl Response {
    pub fn began(from: usize) -> Self {
        Self::Speech { from, to: None, start: seconds(from), end: None }
    }

    pub fn ended(stretch: &Range<usize>) -> Self {
        let Range { start, end } = *stretch;
        Self::Speech { from: start, to: Some(end), start: seconds(start), end: Some(seconds(end)) }
    }

    pub fn ready(session: &str, samples: u64, frames: u64) -> Self {
        Self::Ready { session: session.into(), rate: RATE, frame: FRAME, samples, frames }
    }
}

/// Why a connection ends. The name is the reason of the WebSocket's close frame, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The client has said `end`, and has all results.
    End,
    /// The client went away, or closed the connection itself.
    Gone,
    /// The server stops; the session is saved.
    Shutdown,
    /// A message beyond the limit.
    TooLarge,
    /// What is no message of the protocol, or not at its time.
    BadMessage,
    /// Sound at another rate than 16 kHz.
    WrongRate,
    /// Bytes that are no whole samples.
    OddBytes,
    /// A sample that is not a number, infinite, or far beyond full scale.
    Poisoned,
    /// A session that the server does not know (any more).
    UnknownSession,
    /// Another connection has taken the session over.
    Replaced,
    /// No sound for too long.
    Idle,
    /// The client does not read its results.
    SlowReader,
    /// The pool has no room for another stream.
    NoRoom,
    /// The engine has failed.
    Engine,
}

impl Reason {
    pub const ALL: [Self; 14] = [
        Self::End,
        Self::Gone,
        Self::Shutdown,
        Self::TooLarge,
        Self::BadMessage,
        Self::WrongRate,
        Self::OddBytes,
        Self::Poisoned,
        Self::UnknownSession,
        Self::Replaced,
        Self::Idle,
        Self::SlowReader,
        Self::NoRoom,
        Self::Engine,
    ];

    /// The code of the WebSocket's close frame.
    pub fn code(self) -> u16 {
        match self {
            Self::End | Self::Gone => 1000,
            Self::TooLarge => 1009,
            Self::Engine => 1011,
            Self::Shutdown => 1012,
            Self::NoRoom => 1013,
            Self::BadMessage => 4000,
            Self::WrongRate => 4001,
            Self::OddBytes => 4002,
            Self::Poisoned => 4003,
            Self::UnknownSession => 4004,
            Self::Replaced => 4005,
            Self::Idle => 4006,
            Self::SlowReader => 4007,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::End => "end",
            Self::Gone => "gone",
            Self::Shutdown => "shutdown",
            Self::TooLarge => "too_large",
            Self::BadMessage => "bad_message",
            Self::WrongRate => "wrong_rate",
            Self::OddBytes => "odd_bytes",
            Self::Poisoned => "poisoned",
            Self::UnknownSession => "unknown_session",
            Self::Replaced => "replaced",
            Self::Idle => "idle",
            Self::SlowReader => "slow_reader",
            Self::NoRoom => "no_room",
            Self::Engine => "engine",
        }
    }

    /// Whether the session is kept, so that the client can go on with it later: where its sound was all right.
    pub fn keeps(self) -> bool {
        matches!(self, Self::Gone | Self::Shutdown | Self::Replaced | Self::Idle | Self::SlowReader | Self::NoRoom)
    }
}

/// A reason, and what the client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub reason: Reason,
    pub message: String,
}

impl Ended {
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::{Reason, Request, Response};

    #[test]
    fn names_are_those_of_the_messages() {
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.name());
        }
    }

    #[test]
    fn requests_are_read_strictly() {
        let read = |text: &str| serde_json::from_str::<Request>(text);
        assert!(read(r#"{"type":"start","format":"s16","rate":16000}"#).is_ok());
        assert!(read(r#"{"type":"end"}"#).is_ok());
        for wrong in [
            "",
            "hello",
            r#"{"type":"start"}"#,
            r#"{"type":"start","format":"mp3","rate":16000}"#,
            r#"{"type":"start","format":"s16","rate":16000,"gain":2}"#,
            r#"{"type":"stop"}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    /// A probability keeps its bits as text.
    #[test]
    fn probabilities_keep_their_bits() {
        let mut bits = 0x3f80_0000u32;
        let mut probability = vec![0.0, 1.0, f32::MIN_POSITIVE, 1e-30];
        while bits > 0x0d00_0000 {
            probability.push(f32::from_bits(bits));
            bits -= 12_345;
        }
        let text = serde_json::to_string(&Response::Frames { first: 0, probability: probability.clone() }).unwrap();
        let Response::Frames { probability: read, .. } = serde_json::from_str(&text).unwrap() else { panic!("{text}") };
        assert!(read.iter().zip(&probability).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
}
