//! Sounds that clients send, and what the library alone says of them.

use crate::load::client::Failure;
use crate::protocol::Format;
use std::ops::Range;
use std::path::Path;
use wgpu_rnn::{Device, Options};
use wgpu_rnn_examples::voice_activity::silero::{self, FRAME, Model, RATE};
use wgpu_rnn_examples::voice_activity::speech::{Rules, read_wav};

/// A sound and its truth.
pub struct Voice {
    pub samples: Vec<f32>,
    /// Of the whole sound in one run, a frame's each.
    pub probability: Vec<f32>,
    pub stretches: Vec<Range<usize>>,
}

impl Voice {
    /// # Errors
    /// Where the library does not run it.
    pub fn new(model: &Model, device: &Device, samples: Vec<f32>) -> Result<Self, Failure> {
        let frames = silero::frames(&samples);
        let probability = match frames.len() {
            0 => Vec::new(),
            count => {
                let mut session = model.session(device, count, &Options::default())?;
                silero::detect(model, &mut session, &frames)?.probability
            }
        };
        let stretches = Rules::SILERO.stretches(&probability);
        Ok(Self { samples, probability, stretches })
    }

    /// `count` sounds of so many seconds: a recording again and again, each from another place on.
    ///
    /// # Errors
    /// Where the recording cannot be read.
    pub fn several(
        model: &Model,
        device: &Device,
        wav: &Path,
        seconds: f64,
        count: usize,
    ) -> Result<Vec<Self>, Failure> {
        let recording = read_wav(wav)?;
        if recording.is_empty() {
            return Err(format!("{}: no sound", wav.display()).into());
        }
        // Whole frames: the last of each is then like any other.
        let frames = ((seconds * f64::from(RATE)) as usize / FRAME).max(1);
        let voice = |n: usize| {
            let from = n * recording.len() / count;
            let samples = recording.iter().cycle().skip(from).take(frames * FRAME).copied().collect();
            Self::new(model, device, samples)
        };
        (0..count).map(voice).collect()
    }

    /// Samples as a message has them.
    pub fn bytes(&self, samples: Range<usize>, format: Format) -> Vec<u8> {
        let samples = &self.samples[samples];
        match format {
            // A recording of 16 bits comes out as it was.
            Format::S16 => {
                samples.iter().flat_map(|s| ((s * 32768.0).clamp(-32768.0, 32767.0) as i16).to_le_bytes()).collect()
            }
            Format::F32 => samples.iter().flat_map(|s| s.to_le_bytes()).collect(),
        }
    }
}
