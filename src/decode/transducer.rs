//! Transducers (RNN-T and TDT): a prediction network that goes on with every token, and a joint network that says at every step of an
//! encoder which token comes, or none.
//!
//! ```text
//! encoder[t] ──┐
//!              ├─> joint ──> blank: t + 1
//! prediction ──┘        └──> token: prediction reads it, t stays (RNN-T) or goes on by a duration (TDT)
//! ```
//!
//! Greedy decoding as in Graves 2012, "Sequence transduction with recurrent neural networks", and with durations as in Xu et al. 2023, "Efficient
//! sequence transduction by jointly predicting tokens and durations". Streams are batched: those of a batch are each at their own step of
//! their own encoder's output, and only those that had a token run through the prediction network.

use crate::error::{Error, Result};
use crate::exec::gpu::{Transduce, TransducePorts, TransduceRun};
use crate::exec::{Device, Element};
use crate::face::{ModelOptions, RnnOptions};
use crate::kernels::{NONE, TRANSDUCER_FIELDS, TransducerWords};
use crate::model::network::Network;
use crate::model::stack::{RnnConfig, Shape};
use crate::model::weights::Weights;
use crate::pool::engine::{Engine, Run, id_out};
use crate::pool::slots::{EMPTY, Slots};
use crate::tensor::View;
use std::sync::Arc;

/// How a [`Transducer`] decodes.
#[derive(Clone, Debug, PartialEq)]
pub struct TransducerOptions {
    /// The token that stands for none.
    pub blank: u32,
    /// What the prediction network reads before the first token. Default: the blank.
    pub start: Option<u32>,
    /// Of a TDT model, the steps that the joint network's second output chooses from: `[D]`. Default: empty, an RNN-T without one.
    pub durations: Vec<usize>,
    /// Tokens at one step of the encoder at most, at least 1; then the next step comes. Default: 10.
    pub max_symbols: usize,
    /// Streams that run at once at most, at least 1. Default: 256.
    pub max_batch: usize,
    /// On a GPU, rounds of one submit at most, at least 1: only then tokens come back, and streams that are done leave the batch. Nothing of a
    /// result depends on it. Default: 16.
    pub rounds_per_submit: usize,
}

impl TransducerOptions {
    /// An RNN-T with this blank.
    pub fn new(blank: u32) -> Self {
        Self { blank, start: None, durations: Vec::new(), max_symbols: 10, max_batch: 256, rounds_per_submit: 16 }
    }

    fn validate(&self) -> Result<()> {
        let sizes = [("max_symbols of a Transducer", self.max_symbols), ("max_batch of a Transducer", self.max_batch)];
        match sizes.into_iter().find(|(_, size)| *size == 0) {
            Some((what, size)) => Err(Error::mismatch(what, "at least 1", size)),
            None => Ok(()),
        }
    }
}

/// What a [`Transducer`] hears in a stream.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Transcript {
    /// The tokens, without blanks.
    pub tokens: Vec<u32>,
    /// Per token the step of the encoder at which it came.
    pub times: Vec<usize>,
    /// The sum of the log probabilities of all choices, blanks and durations too.
    pub score: f64,
    /// Whether a choice could not be made, as its logits were NaN or infinite; the tokens are those before it.
    pub poisoned: bool,
}

/// A transducer's prediction network and joint network, with the loop around them; for inference. The encoder is the caller's: any model
/// that gives its steps at once, or in pieces.
///
/// The prediction network is a stack with a vocabulary; it gives y, or the outputs of a head. The joint network has two inputs, a step of the
/// encoder and the prediction network's output, in that order, and one output of logits over all tokens and the blank; with
/// [`TransducerOptions::durations`] a second one of logits over these.
///
/// On a GPU a round, a run of the joint network, the choices and a run of the prediction network, follows the other without a look of the host:
/// up to [`TransducerOptions::rounds_per_submit`] of them are one submit.
///
/// ```
/// use std::sync::Arc;
/// use wgpu_rnn::network::Builder;
/// use wgpu_rnn::{Device, RnnConfig, Transducer, TransducerOptions, View, Weights};
/// # fn main() -> wgpu_rnn::Result<()> {
/// // Tokens 0 to 3, and 4 is the blank. The joint network adds its two inputs.
/// let config = RnnConfig { vocabulary: Some(5), ..RnnConfig::lstm(3, 5) };
/// let mut b = Builder::new();
/// let (encoder, prediction) = (b.input("encoder", 5)?, b.input("prediction", 5)?);
/// let both = b.concat("both", &[encoder, prediction])?;
/// let weight = b.param("joint.weight", &[5, 10])?;
/// let logits = b.linear("joint", both, weight, None)?;
/// b.output("logits", logits)?;
/// let (joint, params) = (Arc::new(b.finish()?), vec![0.1; 50]);
/// let (device, options) = (Device::cpu(), TransducerOptions::new(4));
/// let mut transducer =
///     Transducer::new(&device, (&config, &Weights::<f32>::random(&config, 1)?), (&joint, &params), &options)?;
/// let encoded = [0.5; 3 * 5]; // three steps of an encoder
/// let found = transducer.decode(&[View::new(&encoded, &[3, 5])])?;
/// assert_eq!(found[0].tokens.len(), found[0].times.len());
/// # Ok(()) }
/// ```
pub struct Transducer<T: Element = f32> {
    prediction: Engine<T>,
    joint: Engine<T>,
    slots: Slots<T>,
    /// Of the joint network, which keeps nothing.
    none: Slots<T>,
    options: TransducerOptions,
    rounds: u64,
    submits: u64,
    /// Made when it is first used.
    on_gpu: Option<Transduce>,
}

/// A stream that is being heard.
pub(super) struct Heard<T> {
    index: usize,
    found: Transcript,
    /// The step of the encoder, and tokens at it.
    at: usize,
    symbols: usize,
    slot: u32,
    /// What the prediction network gave for the last token.
    predicted: Vec<T>,
    /// What it reads next, where it has to.
    next: Option<u32>,
}

impl<T: Element> Transducer<T> {
    /// Over a stack and its weights, and a network and all of its parameters, one after the other in the network's order.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a stack without a vocabulary, a joint network of other inputs or outputs, a blank or a start that there is not,
    /// or values of `options` that make no sense; [`Error::Unsupported`] for networks that need later steps; as [`crate::Plan::new`] and
    /// [`crate::network::NetworkPlan::new`].
    #[cfg(not(target_family = "wasm"))]
    pub fn new(
        device: &Device,
        prediction: (&RnnConfig, &Weights<T>),
        joint: (&Arc<Network>, &[T]),
        options: &TransducerOptions,
    ) -> Result<Self> {
        device.block(Self::new_async(device, prediction, joint, options))
    }

    /// [`Transducer::new`] for those who may not wait.
    ///
    /// # Errors
    /// As [`Transducer::new`].
    pub async fn new_async(
        device: &Device,
        (config, weights): (&RnnConfig, &Weights<T>),
        (network, params): (&Arc<Network>, &[T]),
        options: &TransducerOptions,
    ) -> Result<Self> {
        options.validate()?;
        let Some(vocabulary) = config.vocabulary else {
            return Err(Error::mismatch("prediction network of a Transducer", "a vocabulary", "none"));
        };
        let nominal = super::NOMINAL;
        let sessions = RnnOptions { nominal, ..RnnOptions::default() };
        let prediction = Engine::of_rnn(device, config, weights, &sessions, "a Transducer").await?;
        let sessions = ModelOptions { nominal, ..ModelOptions::default() };
        let joint = Engine::of_model(device, network, params, &sessions, "a Transducer").await?;
        let (given, outputs) = (prediction.columns.output(), &joint.columns.outputs);
        let wrong = |what: &str, expected: String, got: String| {
            Err(Error::mismatch(format!("{what} of a Transducer's joint network"), expected, got))
        };
        let widths: Vec<usize> = joint.columns.inputs.iter().map(|(_, columns)| columns.len()).collect();
        if widths.len() != 2 || widths[1] != given {
            let expected = format!("two, a step of the encoder and {given} values of the prediction network");
            return wrong("inputs", expected, format!("widths {widths:?}"));
        }
        let durations = options.durations.len();
        let sizes: Vec<usize> = outputs.iter().map(|(_, columns)| columns.len()).collect();
        let fits = match durations {
            0 => sizes.len() == 1,
            _ => sizes.len() == 2 && sizes[1] == durations,
        };
        if !fits {
            let expected = match durations {
                0 => "one, of logits".to_string(),
                _ => format!("two, of logits and of {durations} durations"),
            };
            return wrong("outputs", expected, format!("widths {sizes:?}"));
        }
        if options.blank as usize >= sizes[0] {
            return Err(Error::mismatch("blank of a Transducer", format!("a token below {}", sizes[0]), options.blank));
        }
        let start = options.start.unwrap_or(options.blank);
        if start as usize >= vocabulary {
            let expected = format!("an id below {vocabulary}, which the prediction network reads first");
            return Err(Error::mismatch("start of a Transducer", expected, start));
        }
        // All tokens but the blank are read.
        let read = if options.blank as usize + 1 == sizes[0] { sizes[0] - 1 } else { sizes[0] };
        if read > vocabulary {
            let expected = format!("at most {vocabulary} tokens, as there are ids to read");
            return wrong("logits", expected, read.to_string());
        }
        let slots = Slots::new(device, &prediction.empty())?;
        let none = Slots::new(device, &joint.empty())?;
        if !joint.empty().is_empty() {
            return wrong("states", "none: it reads one step alone".into(), format!("{} values", joint.empty().len()));
        }
        Ok(Self { prediction, joint, slots, none, options: options.clone(), rounds: 0, submits: 0, on_gpu: None })
    }

    /// Decodes, and gives per stream what is heard in it. `encoded`: of every stream all steps of the encoder `[T, E]`, each with its own T,
    /// which may be 0.
    ///
    /// # Errors
    /// [`Error::Mismatch`] naming the stream, for other shapes; errors of the device. A stream whose logits are NaN is no error
    /// ([`Transcript::poisoned`]).
    #[cfg(not(target_family = "wasm"))]
    pub fn decode(&mut self, encoded: &[View<'_, T>]) -> Result<Vec<Transcript>> {
        self.prediction.device().clone().block(self.decode_async(encoded))
    }

    /// [`Transducer::decode`] for those who may not wait. Outside of browsers somebody must [poll the device](Device::poll).
    ///
    /// # Errors
    /// As [`Transducer::decode`].
    pub async fn decode_async(&mut self, encoded: &[View<'_, T>]) -> Result<Vec<Transcript>> {
        let width = self.joint.columns.inputs[0].1.len();
        for (index, view) in encoded.iter().enumerate() {
            let time = view.shape.first().copied().unwrap_or(0);
            view.check(&format!("encoder's output of stream {index}"), &["T", "E"], &[time, width])?;
        }
        // What an earlier call left behind that nobody waited for.
        self.slots.clear();
        let mut found: Vec<Transcript> = encoded.iter().map(|_| Transcript::default()).collect();
        let mut waiting = (0..encoded.len()).filter(|&index| encoded[index].shape[0] > 0);
        let mut active: Vec<Heard<T>> = Vec::new();
        loop {
            while active.len() < self.options.max_batch
                && let Some(index) = waiting.next()
            {
                let slot = self.slots.take()?;
                self.slots.states.write(slot, &self.prediction.empty())?;
                let (found, predicted) = (Transcript::default(), Vec::new());
                let next = Some(self.options.start.unwrap_or(self.options.blank));
                active.push(Heard { index, found, at: 0, symbols: 0, slot, predicted, next });
            }
            if active.is_empty() {
                return Ok(found);
            }
            // On a GPU those that are new; the others' tokens are read there.
            self.predict(&mut active).await?;
            match self.joint.device().kind() {
                "gpu" => self.go_on_device(&mut active, encoded, width).await?,
                _ => {
                    self.join(&mut active, encoded, width).await?;
                    (self.rounds, self.submits) = (self.rounds + 1, self.submits + 1);
                }
            }
            let slots = &mut self.slots;
            active.retain_mut(|stream| {
                let goes_on = stream.at < encoded[stream.index].shape[0] && !stream.found.poisoned;
                if !goes_on {
                    slots.leave(stream.slot);
                    found[stream.index] = std::mem::take(&mut stream.found);
                }
                goes_on
            });
        }
    }

    /// Where it runs.
    pub fn device(&self) -> &Device {
        self.prediction.device()
    }

    /// Rounds so far: runs of the joint network, each for all streams at once.
    pub fn rounds(&self) -> u64 {
        self.rounds
    }

    /// Submits to a GPU so far, of rounds; on the CPU executor as many as rounds.
    pub fn submits(&self) -> u64 {
        self.submits
    }

    /// Many rounds of the first streams that fit, which are then the last ones.
    async fn go_on_device(&mut self, active: &mut [Heard<T>], encoded: &[View<'_, T>], width: usize) -> Result<()> {
        let shape = Shape { time: 1, batch: active.len() };
        let (of_joint, fit) = self.joint.fit(shape).await?;
        let (of_prediction, other) = self.prediction.fit(fit).await?;
        let count = fit.batch.min(other.batch).min(active.len());
        let (now, rounds) = (&mut active[..count], self.options.rounds_per_submit);
        let farthest = self.options.durations.iter().copied().max().unwrap_or(1).max(1);
        let left = |stream: &Heard<T>| encoded[stream.index].shape[0] - stream.at;
        let window = now.iter().map(left).max().unwrap_or(1).min(rounds.saturating_mul(farthest) + 1);
        let mut steps = vec![0.0f32; count * window * width];
        let (mut state, mut spare) = (Vec::new(), Vec::new());
        for (stream, steps) in now.iter().zip(steps.chunks_exact_mut(window * width)) {
            let values = &encoded[stream.index].data[stream.at * width..];
            steps.iter_mut().zip(values).for_each(|(to, v)| *to = v.to_f64() as f32);
            let score = (stream.found.score as f32).to_bits();
            let time = u32::try_from(left(stream)).unwrap_or(u32::MAX);
            state.extend([score, 0, 0, time, stream.symbols as u32, 0, 0, stream.slot]);
            spare.push(self.slots.take()?);
        }
        let (joint, prediction) = (&mut self.joint, &mut self.prediction);
        let given = prediction.columns.output();
        let ports = || {
            Some(TransducePorts {
                ids: prediction.input_port(of_prediction, 0)?.0,
                given: prediction.output_port(of_prediction, 0)?,
                encoded: joint.input_port(of_joint, 0)?.0,
                predicted: joint.input_port(of_joint, 1)?.0,
                logits: joint.output_port(of_joint, 0)?,
                durations: joint.output_port(of_joint, 1),
            })
        };
        let Some(ports) = ports() else { unreachable!("a GPU has both networks") };
        let size = joint.columns.outputs[0].1.len();
        let words = TransducerWords {
            rows: count,
            size,
            durations: &self.options.durations,
            blank: self.options.blank,
            max_symbols: self.options.max_symbols,
            rounds,
            encoded: width,
            predicted: given,
            window,
        };
        if self.on_gpu.is_none() {
            self.on_gpu = Some(Transduce::new(joint.device().require_gpu("transducing")?)?);
        }
        let Some(transduce) = &self.on_gpu else { return Ok(()) };
        let run = TransduceRun { words, state: &state, spare: &spare, encoded: &steps };
        let (slots, none) = (now.iter().map(|s| s.slot).collect::<Vec<u32>>(), vec![EMPTY; count]);
        let both: Vec<Vec<T>> = now.iter().map(|s| [&vec![T::default(); width][..], &s.predicted].concat()).collect();
        let id = [id_out::<T>(0)];
        let (of_ids, of_both) = (|_: usize, _: usize| &id[..], |b: usize, _: usize| &both[b][..]);
        let (mut one, mut other) = (slots.iter().map(|_| 1), slots.iter().map(|_| 1));
        let mut predicting =
            Run { states: &mut self.slots.states, from: &slots, to: &spare, steps: &mut one, frames: &of_ids };
        let mut joining =
            Run { states: &mut self.none.states, from: &none, to: &none, steps: &mut other, frames: &of_both };
        let left = prediction.with_encoder(of_prediction, &mut predicting, |prediction| {
            joint.with_encoder(of_joint, &mut joining, |joint| transduce.run((joint, prediction), &ports, &run))
        })?;
        let words = left.read().await?;
        (self.rounds, self.submits) = (self.rounds + rounds as u64, self.submits + 1);
        spare.iter().for_each(|&slot| self.slots.leave(slot));
        let (given_state, rest) = words.split_at(count * TRANSDUCER_FIELDS);
        let (tokens, rest) = rest.split_at(rounds * count);
        let (times, predicted) = rest.split_at(rounds * count);
        for (n, (stream, given)) in now.iter_mut().zip(predicted.chunks_exact(given)).enumerate() {
            let state = &given_state[n * TRANSDUCER_FIELDS..][..TRANSDUCER_FIELDS];
            for round in 0..rounds {
                let token = tokens[round * count + n];
                if token != NONE {
                    stream.found.tokens.push(token);
                    stream.found.times.push(stream.at + times[round * count + n] as usize);
                }
            }
            stream.found.score = f64::from(f32::from_bits(state[0]));
            stream.found.poisoned = state[1] == 2;
            (stream.at, stream.symbols) = (stream.at + state[2] as usize, state[4] as usize);
            stream.predicted.clear();
            stream.predicted.extend(given.iter().map(|&bits| T::from_f64(f64::from(f32::from_bits(bits)))));
        }
        active.rotate_left(count);
        Ok(())
    }

    /// The prediction network, for the streams that had a token.
    async fn predict(&mut self, active: &mut [Heard<T>]) -> Result<()> {
        let mut those: Vec<&mut Heard<T>> = active.iter_mut().filter(|stream| stream.next.is_some()).collect();
        let mut rest = &mut those[..];
        while !rest.is_empty() {
            let (n, fit) = self.prediction.fit(Shape { time: 1, batch: rest.len() }).await?;
            let (now, later) = rest.split_at_mut(fit.batch.min(rest.len()));
            let slots: Vec<u32> = now.iter().map(|stream| stream.slot).collect();
            let ids: Vec<[T; 1]> = now.iter().map(|stream| [id_out(stream.next.unwrap_or(0))]).collect();
            let frames = |b: usize, _| &ids[b][..];
            let (states, mut steps) = (&mut self.slots.states, slots.iter().map(|_| 1));
            self.prediction
                .run(n, &mut Run { states, from: &slots, to: &slots, steps: &mut steps, frames: &frames })?;
            let given = self.prediction.rows(n).await?;
            for (b, stream) in now.iter_mut().enumerate() {
                stream.predicted.resize(self.prediction.columns.output(), T::default());
                given.copy(given.row_of(0) + b, &mut stream.predicted);
                stream.next = None;
            }
            rest = later;
        }
        Ok(())
    }

    /// The joint network, and what is chosen of it.
    async fn join(&mut self, active: &mut [Heard<T>], encoded: &[View<'_, T>], width: usize) -> Result<()> {
        let mut rest = active;
        let mut outputs: Vec<T> = vec![T::default(); self.joint.columns.output()];
        while !rest.is_empty() {
            let (n, fit) = self.joint.fit(Shape { time: 1, batch: rest.len() }).await?;
            let (now, later) = rest.split_at_mut(fit.batch.min(rest.len()));
            let slots = vec![EMPTY; now.len()];
            let both = now.iter().map(|stream| {
                let step = &encoded[stream.index].data[stream.at * width..][..width];
                [step, &stream.predicted].concat()
            });
            let both: Vec<Vec<T>> = both.collect();
            let frames = |b: usize, _| &both[b][..];
            let (states, mut steps) = (&mut self.none.states, slots.iter().map(|_| 1));
            self.joint.run(n, &mut Run { states, from: &slots, to: &slots, steps: &mut steps, frames: &frames })?;
            let given = self.joint.rows(n).await?;
            let columns = &self.joint.columns.outputs;
            for (b, stream) in now.iter_mut().enumerate() {
                given.copy(given.row_of(0) + b, &mut outputs);
                let duration = columns.get(1).map(|(_, columns)| &outputs[columns.clone()]);
                stream.take(&outputs[columns[0].1.clone()], duration, &self.options);
            }
            rest = later;
        }
        Ok(())
    }
}

impl<T: Element> Heard<T> {
    /// What a choice means.
    fn take(&mut self, logits: &[T], durations: Option<&[T]>, options: &TransducerOptions) {
        let Some((token, score)) = likeliest(logits) else {
            self.found.poisoned = true;
            return;
        };
        let is_blank = token as u32 == options.blank;
        let (steps, score) = match durations.map(likeliest) {
            None => (usize::from(is_blank), score),
            Some(None) => {
                self.found.poisoned = true;
                return;
            }
            // A blank that takes no time would come again for ever.
            Some(Some((n, of_duration))) => (options.durations[n].max(usize::from(is_blank)), score + of_duration),
        };
        self.found.score += score;
        if !is_blank {
            self.found.tokens.push(token as u32);
            self.found.times.push(self.at);
            self.next = Some(token as u32);
            self.symbols += 1;
        }
        let steps = if steps == 0 && self.symbols >= options.max_symbols { 1 } else { steps };
        if steps > 0 {
            self.symbols = 0;
        }
        self.at += steps;
    }
}

/// The first of the largest, with its log probability; `None` where one is NaN or infinite.
fn likeliest<T: Element>(logits: &[T]) -> Option<(usize, f64)> {
    let values = || logits.iter().map(|x| x.to_f64());
    if values().any(|x| x.is_nan() || x == f64::INFINITY) {
        return None;
    }
    let most = values().fold(f64::NEG_INFINITY, f64::max);
    let at = values().position(|x| x == most).filter(|_| most > f64::NEG_INFINITY)?;
    Some((at, -values().map(|x| (x - most).exp()).sum::<f64>().ln()))
}
