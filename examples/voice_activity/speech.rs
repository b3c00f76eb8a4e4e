//! From probabilities to stretches of speech, and sound from files.

use super::silero::{FRAME, RATE};
use std::ops::Range;
use std::path::Path;
use wgpu_rnn::{Error, Result};

/// What counts as speech.
pub struct Rules {
    /// Speech begins at a frame of at least this probability, and ends below [`Rules::HYSTERESIS`] less.
    pub threshold: f32,
    /// Shorter stretches of speech are none, in frames.
    pub min_speech: usize,
    /// Shorter pauses do not end it, in frames.
    pub min_silence: usize,
}

impl Rules {
    /// As in Silero's own code.
    const HYSTERESIS: f32 = 0.15;
    /// Silero's: 0.5, 250 ms, 100 ms.
    pub const SILERO: Self = Self { threshold: 0.5, min_speech: 8, min_silence: 4 };

    /// The frames of each stretch of speech.
    pub fn stretches(&self, probability: &[f32]) -> Vec<Range<usize>> {
        let mut found: Vec<Range<usize>> = Vec::new();
        let mut speaking = false;
        for (frame, &p) in probability.iter().enumerate() {
            speaking = p >= if speaking { self.threshold - Self::HYSTERESIS } else { self.threshold };
            if !speaking {
                continue;
            }
            match found.last_mut() {
                Some(last) if frame - last.end < self.min_silence => last.end = frame + 1,
                _ => found.push(frame..frame + 1),
            }
        }
        found.retain(|stretch| stretch.len() >= self.min_speech);
        found
    }
}

/// When a frame begins.
pub fn seconds(frame: usize) -> f64 {
    (frame * FRAME) as f64 / f64::from(RATE)
}

/// The samples of a mono WAV file at 16 kHz, in ±1.
pub fn read_wav(path: impl AsRef<Path>) -> Result<Vec<f32>> {
    let path = path.as_ref();
    let error = |reason: String| Error::File { path: path.into(), reason };
    let mut wav = hound::WavReader::open(path).map_err(|e| error(e.to_string()))?;
    let spec = wav.spec();
    if (spec.channels, spec.sample_rate) != (1, RATE) {
        let got = format!("{} channel(s), {} Hz", spec.channels, spec.sample_rate);
        return Err(error(format!("expected 1 channel, {RATE} Hz, got {got}")));
    }
    let scale = 2f32.powi(1 - i32::from(spec.bits_per_sample));
    let samples: hound::Result<Vec<f32>> = match spec.sample_format {
        hound::SampleFormat::Float => wav.samples::<f32>().collect(),
        hound::SampleFormat::Int => wav.samples::<i32>().map(|s| s.map(|s| s as f32 * scale)).collect(),
    };
    samples.map_err(|e| error(e.to_string()))
}
