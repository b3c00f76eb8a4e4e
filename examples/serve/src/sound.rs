//! From a client's bytes to what the LSTM reads.

use crate::protocol::{Ended, Format, Reason};
use wgpu_rnn_examples::voice_activity::silero::{Encoder, FRAME, Framer};

/// Samples of floating point beyond so many times full scale are refused: they are none, or whole numbers that nobody has scaled.
const LOUDEST: f32 = 16.0;

/// The sound of a stream that has not been run yet.
#[derive(Clone)]
pub struct Sound {
    /// Where frames go on.
    pub framer: Framer,
    /// Behind the last frame that has run.
    pub samples: Vec<f32>,
    /// Samples so far, those that have run included.
    pub received: u64,
}

impl Default for Sound {
    fn default() -> Self {
        Self { framer: Framer::START, samples: Vec::new(), received: 0 }
    }
}

impl Sound {
    /// Takes a message, all of it or (with an error) nothing.
    pub fn take(&mut self, bytes: &[u8], format: Format) -> Result<(), Ended> {
        let size = format.size();
        if !bytes.len().is_multiple_of(size) {
            let message = format!("expected whole samples of {size} bytes, got {} bytes", bytes.len());
            return Err(Ended::new(Reason::OddBytes, message));
        }
        let before = self.samples.len();
        match format {
            Format::S16 => {
                let samples = bytes.as_chunks().0.iter().map(|&bytes| f32::from(i16::from_le_bytes(bytes)) / 32768.0);
                self.samples.extend(samples);
            }
            Format::F32 => self.samples.extend(bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes))),
        }
        // What is not a number is not at most anything.
        let is_sample = |sample: &f32| sample.abs() <= LOUDEST;
        if let Some(n) = self.samples[before..].iter().position(|sample| !is_sample(sample)) {
            let message = format!(
                "expected samples of at most ±{LOUDEST} (full scale is ±1), got {} as sample {}",
                self.samples[before + n],
                self.received + n as u64
            );
            self.samples.truncate(before);
            return Err(Ended::new(Reason::Poisoned, message));
        }
        self.received += (self.samples.len() - before) as u64;
        Ok(())
    }

    /// Whole frames that have not run.
    pub fn frames(&self) -> usize {
        self.samples.len() / FRAME
    }

    /// What the LSTM reads of the next frames; they stay until [`Sound::advance`].
    pub fn encode(&self, encoder: &Encoder<f32>, frames: usize) -> Vec<f32> {
        let mut framer = self.framer.clone();
        let chunks = self.samples.chunks_exact(FRAME).take(frames);
        chunks.flat_map(|chunk| encoder.encode(&framer.frame(chunk))).collect()
    }

    /// So many frames are run.
    pub fn advance(&mut self, frames: usize) {
        for chunk in self.samples.chunks_exact(FRAME).take(frames) {
            self.framer.frame(chunk);
        }
        self.samples.drain(..frames * FRAME);
    }

    /// Zeros behind what is left, up to a whole frame.
    pub fn pad(&mut self) {
        self.samples.resize(self.samples.len().next_multiple_of(FRAME), 0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::{Format, Reason, Sound};

    #[test]
    fn samples_are_whole_and_finite() {
        let mut sound = Sound::default();
        sound.take(&[0, 0x80, 0xff, 0x7f, 0, 0x40], Format::S16).unwrap();
        assert_eq!(sound.samples, [-1.0, 32767.0 / 32768.0, 0.5]);
        let f32s = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        sound.take(&f32s(&[1.5, -0.0]), Format::F32).unwrap();
        for wrong in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -17.0] {
            let error = sound.take(&f32s(&[0.5, wrong]), Format::F32).unwrap_err();
            assert_eq!(error.reason, Reason::Poisoned);
            assert!(error.message.contains("sample 6"), "{}", error.message);
        }
        for (bytes, format) in [(1, Format::S16), (5, Format::F32), (6, Format::F32)] {
            assert_eq!(sound.take(&vec![0; bytes], format).unwrap_err().reason, Reason::OddBytes);
        }
        assert_eq!((sound.received, sound.samples.len()), (5, 5));
    }
}
