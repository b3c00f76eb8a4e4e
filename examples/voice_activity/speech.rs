//! From probabilities to stretches of speech, and sound from files.

use super::silero::{FRAME, RATE};
use std::ops::Range;
use std::path::Path;
use wgpu_rnn::{Error, Result};

/// What counts as speech.
#[derive(Clone, Copy)]
pub struct Rules {
    /// Speech begins at a frame of at least this probability, and ends below [`Rules::HYSTERESIS`] less.
    pub threshold: f32,
    /// Shorter stretches of speech are none, in frames.
    pub min_speech: usize,
    /// Shorter pauses do not end it, in frames; a pause has one at least.
    pub min_silence: usize,
}

impl Rules {
    /// As in Silero's own code.
    const HYSTERESIS: f32 = 0.15;
    /// Silero's: 0.5, 250 ms, 100 ms.
    pub const SILERO: Self = Self { threshold: 0.5, min_speech: 8, min_silence: 4 };

    /// The frames of each stretch of speech.
    pub fn stretches(&self, probability: &[f32]) -> Vec<Range<usize>> {
        let mut listener = Listener::new(*self);
        let ended = |&p: &f32| match listener.hear(p) {
            Some(Heard::Ended(stretch)) => Some(stretch),
            _ => None,
        };
        let mut found: Vec<Range<usize>> = probability.iter().filter_map(ended).collect();
        found.extend(listener.end());
        found
    }
}

/// Finds stretches of speech while their probabilities come in.
#[derive(Clone)]
pub struct Listener {
    pub rules: Rules,
    /// Frames so far.
    pub frame: usize,
    /// Whether the last of them was speech.
    pub speaking: bool,
    /// A stretch, maybe too short yet, that the next frame may belong to.
    pub stretch: Option<Range<usize>>,
}

/// What a frame decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// There is speech from this frame on: it has lasted long enough to be some.
    Began(usize),
    /// The pause behind this stretch is long enough to be one.
    Ended(Range<usize>),
}

impl Listener {
    pub fn new(rules: Rules) -> Self {
        Self { rules, frame: 0, speaking: false, stretch: None }
    }

    /// The next frame's probability.
    pub fn hear(&mut self, probability: f32) -> Option<Heard> {
        let Rules { threshold, min_speech, min_silence } = self.rules;
        self.speaking = probability >= if self.speaking { threshold - Rules::HYSTERESIS } else { threshold };
        let frame = self.frame;
        self.frame += 1;
        if self.speaking {
            let before = self.stretch.as_ref().map_or(0, Range::len);
            let stretch = self.stretch.get_or_insert(frame..frame);
            stretch.end = frame + 1;
            return (before < min_speech.max(1) && stretch.len() >= min_speech).then_some(Heard::Began(stretch.start));
        }
        let is_over = |stretch: &mut Range<usize>| frame + 1 - stretch.end >= min_silence;
        let over = self.stretch.take_if(is_over)?;
        (over.len() >= min_speech).then_some(Heard::Ended(over))
    }

    /// The stretch that the last frames belong to, where nothing comes behind them.
    pub fn end(&mut self) -> Option<Range<usize>> {
        self.stretch.take().filter(|stretch| stretch.len() >= self.rules.min_speech)
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
