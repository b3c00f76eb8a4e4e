//! A character model: text in parallel streams, state carried from window to window, bits per character, samples.

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use std::f64::consts::{LN_2, PI};
use wgpu_rnn::{
    Device, Error, Head, Initial, Input, Loss, Optimiser, Options, Plan, Result, RnnConfig, Session, Shape, Targets,
    View, Weights, cells,
};

/// Steps of the whole run.
pub const STEPS: usize = 6000;
/// Parallel streams and characters of a window: backpropagation goes no further back, the state does.
const BATCH: usize = 16;
const WINDOW: usize = 32;
const SYMBOL_SIZE: usize = 32;
/// Units of the whole run.
pub const HIDDEN: usize = 192;
const RATE: f64 = 6e-3;
/// Of the text, from its end.
const HELD_OUT: f64 = 0.1;

/// A text as numbers of its characters.
pub struct Text {
    /// Every character that occurs.
    symbols: Vec<char>,
    ids: Vec<u32>,
}

impl Text {
    /// Numbers the characters of a text.
    pub fn new(text: &str) -> Self {
        let mut symbols: Vec<char> = text.chars().collect();
        symbols.sort_unstable();
        symbols.dedup();
        let ids = text.chars().filter_map(|c| symbols.binary_search(&c).ok()).map(|id| id as u32).collect();
        Self { symbols, ids }
    }

    /// V.
    pub fn vocabulary(&self) -> usize {
        self.symbols.len()
    }

    /// The numbers of a text's characters.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for none, or one that does not occur.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>> {
        let id = |c: char| self.symbols.binary_search(&c).map(|id| id as u32);
        let unknown = || Error::Mismatch {
            what: "prompt".into(),
            expected: "one or more characters of the training text".into(),
            got: format!("{text:?}"),
        };
        let ids: Vec<u32> = text.chars().map(|c| id(c).map_err(|_| unknown())).collect::<Result<_>>()?;
        if ids.is_empty() { Err(unknown()) } else { Ok(ids) }
    }

    /// What is trained on, and the end, which is not.
    pub fn split(&self) -> (&[u32], &[u32]) {
        let held_out = (self.ids.len() as f64 * HELD_OUT) as usize;
        self.ids.split_at(self.ids.len() - held_out)
    }

    /// Bits per held-out character if each were guessed by how often it occurs in the training text alone.
    pub fn bits_of_frequencies(&self) -> f64 {
        let (training, held_out) = self.split();
        let mut counts = vec![1.0; self.vocabulary()];
        training.iter().for_each(|&id| counts[id as usize] += 1.0);
        let total: f64 = counts.iter().sum();
        held_out.iter().map(|&id| -(counts[id as usize] / total).log2()).sum::<f64>() / held_out.len() as f64
    }
}

/// A model in training.
pub struct Model<'a> {
    text: &'a Text,
    /// The session that trains.
    pub session: Session,
}

impl<'a> Model<'a> {
    /// Untrained, of so many units.
    pub fn new(device: &Device, text: &'a Text, hidden: usize) -> Result<Self> {
        let vocabulary = text.vocabulary();
        let config = RnnConfig {
            cell: &cells::LSTM,
            input_size: SYMBOL_SIZE,
            hidden_size: hidden,
            vocabulary: Some(vocabulary),
            head: Some(Head { size: vocabulary, loss: Some(Loss::CrossEntropy) }),
            ..Default::default()
        };
        let options =
            Options { train: true, optimiser: Some(Optimiser::adam()), clip_norm: Some(1.0), ..Default::default() };
        let plan = Plan::new(&config, Shape { time: WINDOW, batch: BATCH }, &device.caps(), &options)?;
        let mut weights = Weights::random(&config, 1)?;
        // Forget gates that start open: see the vanishing_gradient example.
        weights.layers[0].b_w[hidden..2 * hidden].fill(1.0);
        Ok(Self { text, session: Session::from_plan(device, plan, &weights)? })
    }

    /// Trains on the text in parallel streams, each window from the state that the one before it ended in. `report` gets the
    /// number of each step and its loss, in bits per character.
    pub fn train(&mut self, steps: usize, mut report: impl FnMut(usize, f64)) -> Result<()> {
        let training = self.text.split().0;
        let stream = (training.len() - 1) / BATCH;
        let windows = stream / WINDOW;
        for step in 0..steps {
            let first = step % windows * WINDOW;
            let initial = if first == 0 { Initial::Zero } else { Initial::Carry };
            // [T, B]: stream b is a stretch of the text of its own.
            let ids = |skip: usize| {
                let row = move |t: usize| (0..BATCH).map(move |b| training[b * stream + first + t + skip]);
                (0..WINDOW).flat_map(row).collect::<Vec<u32>>()
            };
            let (these, next, shape) = (ids(0), ids(1), [WINDOW, BATCH]);
            self.session.write(&Input { initial, ..Input::of_ids(View::new(&these, &shape)) })?;
            self.session.write_targets(&Targets::classes(View::new(&next, &shape)))?;
            let done = step as f64 / steps as f64;
            self.session.train_step(RATE * (0.05 + 0.475 * (1.0 + (PI * done).cos())))?;
            report(step, f64::from(self.session.loss()?) / LN_2);
        }
        Ok(())
    }

    /// Bits per character of the held-out text, each character from all before it.
    pub fn held_out_bits(&mut self) -> Result<f64> {
        let held_out = self.text.split().1;
        let time = held_out.len() - 1;
        let mut session = self.session.sibling(Shape { time, batch: 1 }, &Options::default())?;
        let shape = [time, 1];
        session.write(&Input::of_ids(View::new(&held_out[..time], &shape)))?;
        session.write_targets(&Targets::classes(View::new(&held_out[1..], &shape)))?;
        session.run()?;
        Ok(f64::from(session.loss()?) / LN_2)
    }

    /// `length` characters after the prompt, drawn from the model's probabilities, made sharper by a `temperature` below 1.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a prompt that is empty or has characters that the training text has not, or a temperature of 0 or
    /// less.
    pub fn sample(&mut self, prompt: &str, length: usize, temperature: f32, seed: u64) -> Result<String> {
        let mut ids = self.text.ids(prompt)?;
        if !temperature.is_finite() || temperature <= 0.0 {
            let expected = "a positive number".into();
            return Err(Error::Mismatch { what: "temperature".into(), expected, got: temperature.to_string() });
        }
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut session = self.session.sibling(Shape { time: 1, batch: 1 }, &Options::default())?;
        for t in 0..(ids.len() + length).saturating_sub(1) {
            let initial = if t == 0 { Initial::Zero } else { Initial::Carry };
            session.write(&Input { initial, ..Input::of_ids(View::new(&ids[t..=t], &[1, 1])) })?;
            session.run()?;
            if t + 1 == ids.len() {
                ids.push(draw(&session.predictions()?.data, temperature, rng.random()) as u32);
            }
        }
        Ok(ids.into_iter().map(|id| self.text.symbols[id as usize]).collect())
    }
}

/// Draws from softmax(scores / temperature) by a number in 0..1.
fn draw(scores: &[f32], temperature: f32, number: f32) -> usize {
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f32> = scores.iter().map(|s| ((s - highest) / temperature).exp()).collect();
    let mut left = number * weights.iter().sum::<f32>();
    weights
        .iter()
        .position(|w| {
            left -= w;
            left < 0.0
        })
        .unwrap_or(scores.len() - 1)
}
