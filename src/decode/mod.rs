//! Networks that read what they chose: [`Decoder`], and [`Transducer`].
//!
//! ```text
//! prompt ──> model ──logits──> choose ──token──> result
//!              ^                  │
//!              └──────────────────┘   on a GPU many times in one submit, tokens staying there
//! ```
//!
//! A hypothesis is a row of a batch of one step, and its state a slot of a store, as in a [`crate::StreamPool`]: hypotheses that go on from
//! one share its slot, and each writes to one of its own.

mod choose;
mod on_device;
mod options;
mod steps;
mod transducer;

pub use options::{
    Beam, DecodeHook, DecodeRow, DecoderOptions, Decoding, Ended, Hypothesis, Prompt, Sampling, TokenRules,
};
pub use transducer::{Transcript, Transducer, TransducerOptions};

use crate::error::{Error, Result};
use crate::exec::gpu::Choose;
use crate::exec::{Device, Element, Kind};
use crate::face::{ModelOptions, RnnOptions};
use crate::kernels::{ChooseKernel, RowStatus};
use crate::model::network::Network;
use crate::model::stack::{RnnConfig, Shape};
use crate::model::weights::Weights;
use crate::pool::engine::Engine;
use crate::pool::slots::Slots;
use choose::{Chooser, Row};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// Rows that kernels are chosen for where nobody says anything else.
const NOMINAL: Shape = Shape { time: 1, batch: 16 };

/// A model with an embedding in front and logits behind that reads what was chosen from its logits: a stack with a vocabulary and a head, or
/// a network with an input of token ids. For inference.
///
/// [`Decoder::decode`] takes prompts, each with the states before it (an encoder's, for example), and gives the tokens that follow: the
/// likeliest, drawn ones, or those of the best hypotheses ([`Decoding`]).
///
/// - **On a GPU** the choice is made there, and up to [`DecoderOptions::steps_per_submit`] steps are one submit, between which only tokens come
///   back. On the CPU executor every step is a run.
/// - **Streams that have ended** leave the batch, on a GPU after the submit in which they do; those that wait take their places.
/// - **Bits.** What a stream gives depends on its prompt alone: not on other streams, nor on how many steps a submit has. A GPU chooses in
///   32 bits and the CPU executor in 64: they may differ where two tokens are as likely but for rounding.
///
/// ```
/// use wgpu_rnn::{Decoder, DecoderOptions, Device, Head, Prompt, RnnConfig, Weights};
/// # fn main() -> wgpu_rnn::Result<()> {
/// let head = Some(Head { size: 7, loss: None });
/// let config = RnnConfig { vocabulary: Some(7), head, ..RnnConfig::gru(4, 8) };
/// let weights = Weights::<f32>::random(&config, 1)?;
/// let options = DecoderOptions { ends: vec![0], max_tokens: 5, ..Default::default() };
/// let mut decoder = Decoder::of_rnn(&Device::cpu(), &config, &weights, &options)?;
/// let found = decoder.decode(&[Prompt::new(&[1]), Prompt::new(&[2, 3])])?;
/// assert_eq!(found.len(), 2); // per prompt its hypotheses, the best first
/// assert!(found[0][0].tokens.len() <= 5);
/// # Ok(()) }
/// ```
pub struct Decoder<T: Element = f32> {
    engine: Engine<T>,
    slots: Slots<T>,
    options: DecoderOptions,
    /// `[S, O]`; empty: every token may come.
    rules: Vec<u32>,
    /// The columns of logits in a result, and which output they are.
    logits: Range<usize>,
    output: usize,
    /// The column of token ids in a frame, which input it is, and how many ids there are.
    ids: IdColumn,
    /// Made when it is first used.
    on_gpu: Option<Choose>,
    submits: u64,
    steps: u64,
    scratch: steps::Scratch<T>,
}

/// Where a frame has its token id.
#[derive(Clone, Copy)]
struct IdColumn {
    column: usize,
    input: usize,
    count: usize,
}

/// A stream that is being decoded.
struct Stream {
    /// The place of its prompt.
    index: usize,
    /// Hypotheses, the best first.
    rows: Vec<Row>,
    most: usize,
    number: u32,
}

impl Stream {
    fn is_live(&self) -> bool {
        self.rows.iter().any(|row| row.status == RowStatus::Live)
    }
}

impl<T: Element> Decoder<T> {
    /// A decoder over a stack with a vocabulary and a head, of which a loss is left out.
    ///
    /// # Errors
    /// As [`Decoder::of_rnn_with`].
    #[cfg(not(target_family = "wasm"))]
    pub fn of_rnn(device: &Device, config: &RnnConfig, weights: &Weights<T>, options: &DecoderOptions) -> Result<Self> {
        let sessions = RnnOptions { nominal: NOMINAL, ..RnnOptions::default() };
        Self::of_rnn_with(device, config, weights, &sessions, options)
    }

    /// [`Decoder::of_rnn`] for those who may not wait.
    ///
    /// # Errors
    /// As [`Decoder::of_rnn_with`].
    pub async fn of_rnn_async(
        device: &Device,
        config: &RnnConfig,
        weights: &Weights<T>,
        options: &DecoderOptions,
    ) -> Result<Self> {
        let sessions = RnnOptions { nominal: NOMINAL, ..RnnOptions::default() };
        Self::of_rnn_with_async(device, config, weights, &sessions, options).await
    }

    /// The same where sessions are as `sessions` says.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a stack without a vocabulary or a head, a head that is larger than the vocabulary, options of training, or values
    /// of `options` that make no sense; [`Error::Unsupported`] for a stack that reads time backwards; as [`crate::Plan::new`] and
    /// [`crate::Session::from_plan`].
    #[cfg(not(target_family = "wasm"))]
    pub fn of_rnn_with(
        device: &Device,
        config: &RnnConfig,
        weights: &Weights<T>,
        sessions: &RnnOptions,
        options: &DecoderOptions,
    ) -> Result<Self> {
        device.block(Self::of_rnn_with_async(device, config, weights, sessions, options))
    }

    /// [`Decoder::of_rnn_with`] for those who may not wait.
    ///
    /// # Errors
    /// As [`Decoder::of_rnn_with`].
    pub async fn of_rnn_with_async(
        device: &Device,
        config: &RnnConfig,
        weights: &Weights<T>,
        sessions: &RnnOptions,
        options: &DecoderOptions,
    ) -> Result<Self> {
        if config.vocabulary.is_none() || config.head.is_none() {
            let got = format!("vocabulary: {:?}, head: {:?}", config.vocabulary, config.head);
            return Err(Error::mismatch("configuration of a Decoder", "a vocabulary and a head", got));
        }
        Self::with(Engine::of_rnn(device, config, weights, sessions, "a Decoder").await?, options)
    }

    /// A decoder over a network and all of its parameters, one after the other in the network's order. One of its inputs has the token ids of
    /// an embedding; others are filled at every step by a [`DecodeHook`].
    ///
    /// # Errors
    /// As [`Decoder::of_model_with`].
    #[cfg(not(target_family = "wasm"))]
    pub fn of_model(device: &Device, network: &Arc<Network>, params: &[T], options: &DecoderOptions) -> Result<Self> {
        let sessions = ModelOptions { nominal: NOMINAL, ..ModelOptions::default() };
        Self::of_model_with(device, network, params, &sessions, options)
    }

    /// [`Decoder::of_model`] for those who may not wait.
    ///
    /// # Errors
    /// As [`Decoder::of_model_with`].
    pub async fn of_model_async(
        device: &Device,
        network: &Arc<Network>,
        params: &[T],
        options: &DecoderOptions,
    ) -> Result<Self> {
        let sessions = ModelOptions { nominal: NOMINAL, ..ModelOptions::default() };
        Self::of_model_with_async(device, network, params, &sessions, options).await
    }

    /// The same where sessions are as `sessions` says; scans go step after step, whatever it says.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a network without one input of token ids, of several outputs where `options` names none, with more logits than
    /// ids, or a wrong number of parameters; [`Error::Unsupported`] for a network of which an operation needs later steps, or a whole sequence;
    /// as [`crate::network::NetworkPlan::new`] and [`crate::network::NetworkSession::new`].
    #[cfg(not(target_family = "wasm"))]
    pub fn of_model_with(
        device: &Device,
        network: &Arc<Network>,
        params: &[T],
        sessions: &ModelOptions,
        options: &DecoderOptions,
    ) -> Result<Self> {
        device.block(Self::of_model_with_async(device, network, params, sessions, options))
    }

    /// [`Decoder::of_model_with`] for those who may not wait.
    ///
    /// # Errors
    /// As [`Decoder::of_model_with`].
    pub async fn of_model_with_async(
        device: &Device,
        network: &Arc<Network>,
        params: &[T],
        sessions: &ModelOptions,
        options: &DecoderOptions,
    ) -> Result<Self> {
        Self::with(Engine::of_model(device, network, params, sessions, "a Decoder").await?, options)
    }

    fn with(engine: Engine<T>, options: &DecoderOptions) -> Result<Self> {
        options.validate()?;
        let columns = &engine.columns;
        let names = |all: &[(String, Range<usize>)]| all.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let output = match &options.logits {
            Some(name) => columns.outputs.iter().position(|(other, _)| other == name),
            None => (columns.outputs.len() == 1).then_some(0),
        };
        let Some(output) = output else {
            let expected = match &options.logits {
                Some(name) => format!("an output {name}"),
                None => "one output, or the name of that with the logits (DecoderOptions::logits)".into(),
            };
            return Err(Error::mismatch("logits of a Decoder", expected, names(&columns.outputs).join(", ")));
        };
        let logits = columns.outputs[output].1.clone();
        // Several embeddings may read the same ids.
        let mut ids = columns.ids.clone();
        ids.sort_unstable();
        ids.dedup_by_key(|(column, _)| *column);
        let &[(column, count)] = &ids[..] else {
            let expected = "one input of token ids (an embedding)";
            return Err(Error::mismatch("inputs of a Decoder", expected, format!("{} of them", ids.len())));
        };
        let input = columns.inputs.iter().position(|(_, columns)| columns.contains(&column)).unwrap_or(0);
        let size = logits.len();
        if size > count {
            let expected = format!("at most {count} logits, as there are token ids to read");
            return Err(Error::mismatch("logits of a Decoder", expected, size));
        }
        if let Some(end) = options.ends.iter().find(|&&end| end as usize >= size) {
            return Err(Error::mismatch("ends of a Decoder", format!("tokens below {size}"), end));
        }
        let rules = match &options.rules {
            Some(rules) => rules.table(size)?.into_owned(),
            None => Vec::new(),
        };
        let slots = Slots::new(engine.device(), &engine.empty())?;
        Ok(Self {
            slots,
            options: options.clone(),
            rules,
            logits,
            output,
            ids: IdColumn { column, input, count },
            on_gpu: None,
            submits: 0,
            steps: 0,
            scratch: steps::Scratch::default(),
            engine,
        })
    }

    /// Decodes, and gives per prompt its hypotheses, the best first; one, unless [`Decoding::Beam`] asks for more.
    ///
    /// # Errors
    /// [`Error::Mismatch`] naming the prompt, for no tokens, ids outside the vocabulary, states of other shapes, or a state that the rules
    /// have not; for a network with inputs beside the token ids, which [`Decoder::decode_with`] fills. [`Error::Limit`] where not even one
    /// stream fits; errors of the device. A stream whose logits are NaN is no error: it ends as [`Ended::Poisoned`].
    #[cfg(not(target_family = "wasm"))]
    pub fn decode(&mut self, prompts: &[Prompt<'_, T>]) -> Result<Vec<Vec<Hypothesis>>> {
        self.engine.device().clone().block(self.decode_async(prompts))
    }

    /// [`Decoder::decode`] for those who may not wait. Outside of browsers somebody must [poll the device](Device::poll).
    ///
    /// # Errors
    /// As [`Decoder::decode`].
    pub async fn decode_async(&mut self, prompts: &[Prompt<'_, T>]) -> Result<Vec<Vec<Hypothesis>>> {
        let columns = &self.engine.columns;
        if columns.inputs.len() > 1 || columns.input() > 1 {
            let expected = "token ids alone, or a DecodeHook that fills the others (decode_with)";
            let got: Vec<&str> = columns.inputs.iter().map(|(name, _)| &name[..]).collect();
            return Err(Error::mismatch("inputs of a Decoder", expected, got.join(", ")));
        }
        self.run(prompts, None).await
    }

    /// [`Decoder::decode`] with a part of every step outside: inputs beside the token ids, or a look at the logits. Each step's logits
    /// come back for that, on a GPU too, and tokens are chosen on the host, in 64 bits.
    ///
    /// # Errors
    /// As [`Decoder::decode`], and those of the hook.
    #[cfg(not(target_family = "wasm"))]
    pub fn decode_with(
        &mut self,
        prompts: &[Prompt<'_, T>],
        hook: &mut dyn DecodeHook<T>,
    ) -> Result<Vec<Vec<Hypothesis>>> {
        self.engine.device().clone().block(self.decode_with_async(prompts, hook))
    }

    /// [`Decoder::decode_with`] for those who may not wait.
    ///
    /// # Errors
    /// As [`Decoder::decode_with`].
    pub async fn decode_with_async(
        &mut self,
        prompts: &[Prompt<'_, T>],
        hook: &mut dyn DecodeHook<T>,
    ) -> Result<Vec<Vec<Hypothesis>>> {
        self.run(prompts, Some(hook)).await
    }

    /// What a frame is made of: every input with its columns.
    pub fn inputs(&self) -> &[(String, Range<usize>)] {
        &self.engine.columns.inputs
    }

    /// Where it runs.
    pub fn device(&self) -> &Device {
        self.engine.device()
    }

    /// How it decodes.
    pub fn options(&self) -> &DecoderOptions {
        &self.options
    }

    /// Submits to a GPU so far, or runs on the CPU executor: of prompts, and of steps.
    pub fn submits(&self) -> u64 {
        self.submits
    }

    /// Steps of a hypothesis so far, of all streams; on a GPU also those that a stream's rows went on unheard, until its submit ended.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    fn chooser(&self) -> Chooser<'_> {
        Chooser { options: &self.options, rules: Cow::Borrowed(&self.rules), size: self.logits.len() }
    }

    /// Checks all prompts, then decodes so many at once as there is room for.
    async fn run(
        &mut self,
        prompts: &[Prompt<'_, T>],
        mut hook: Option<&mut (dyn DecodeHook<T> + '_)>,
    ) -> Result<Vec<Vec<Hypothesis>>> {
        for (index, prompt) in prompts.iter().enumerate() {
            self.check(index, prompt)?;
        }
        let room = self.room()?;
        // What an earlier call left behind that nobody waited for.
        self.slots.clear();
        let mut found: Vec<Vec<Hypothesis>> = prompts.iter().map(|_| Vec::new()).collect();
        let mut waiting = 0..prompts.len();
        let mut active: Vec<Stream> = Vec::new();
        loop {
            let new = active.len();
            while active.len() < room
                && let Some(index) = waiting.next()
            {
                active.push(self.begin(index, &prompts[index])?);
            }
            self.read_prompts(&active[new..], prompts, hook.as_deref_mut()).await?;
            if active.is_empty() {
                return Ok(found);
            }
            match hook.as_deref_mut() {
                None if matches!(self.engine.device().0, Kind::Gpu(_)) => self.go_on_device(&mut active).await?,
                hook => self.go_one_step(&mut active, prompts, hook).await?,
            }
            let slots = &mut self.slots;
            active.retain_mut(|stream| {
                if stream.is_live() {
                    return true;
                }
                found[stream.index] = std::mem::take(&mut stream.rows)
                    .into_iter()
                    .filter_map(|row| {
                        slots.leave(row.slot);
                        let ended = Ended::of(row.status)?;
                        Some(Hypothesis { tokens: row.tokens, score: row.score, ended })
                    })
                    .collect();
                false
            });
        }
    }

    fn check(&self, index: usize, prompt: &Prompt<'_, T>) -> Result<()> {
        let wrong = |what: &str, expected: String, got: String| {
            Err(Error::mismatch(format!("{what} of prompt {index}"), expected, got))
        };
        if prompt.tokens.is_empty() {
            return wrong("tokens", "at least one, which the model reads first".into(), "none".into());
        }
        if let Some(id) = prompt.tokens.iter().find(|&&id| id as usize >= self.ids.count) {
            return wrong("tokens", format!("ids below {}", self.ids.count), id.to_string());
        }
        if prompt.max_tokens == Some(0) {
            return wrong("max_tokens", "at least 1".into(), "0".into());
        }
        let states = self.rules.len() / self.logits.len().max(1);
        match &self.options.rules {
            Some(TokenRules::Table(_)) if prompt.rule as usize >= states => {
                return wrong("rule", format!("a state below {states}"), prompt.rule.to_string());
            }
            Some(TokenRules::After(_)) if prompt.tokens.last().is_some_and(|&id| id as usize >= states) => {
                let last = prompt.tokens[prompt.tokens.len() - 1];
                return wrong("last token", format!("one below {states}, which the rules know"), last.to_string());
            }
            Some(TokenRules::Table(_)) => {}
            _ if prompt.rule != 0 => {
                return wrong("rule", "0 (there is no TokenRules::Table)".into(), prompt.rule.to_string());
            }
            _ => {}
        }
        let Some(states) = prompt.states else { return Ok(()) };
        let expected = &self.engine.columns.states;
        if states.len() != expected.len() {
            return wrong("states", expected.len().to_string(), states.len().to_string());
        }
        for ((name, shape), view) in expected.iter().zip(states) {
            let names: &[&str] = if shape.len() == 1 { &["size"] } else { &["L", "size"] };
            view.check(&format!("state {name} of prompt {index}"), names, shape)?;
        }
        Ok(())
    }

    /// Streams that there is room for at once.
    fn room(&self) -> Result<usize> {
        // On a GPU a hypothesis has two slots to write in turn, beside the one it is read from.
        let each = self.options.width() * 3;
        let slot = (self.slots.states.size() * size_of::<T>()).max(1) as u64;
        let (limit, one) = (self.options.bytes, slot * (each + 1 + self.slots.states.step()) as u64);
        if one > limit {
            return Err(Error::Limit {
                what: "states of one stream of a Decoder".into(),
                needs: one,
                limit,
                unit: "bytes",
                limit_name: "the decoder's bytes (DecoderOptions::bytes)",
                hint: "; fewer hypotheses need less".into(),
            });
        }
        let fit = (limit - one) / (slot * each as u64) + 1;
        Ok(self.options.max_batch.min(usize::try_from(fit).unwrap_or(usize::MAX)))
    }

    /// A stream at its states.
    fn begin(&mut self, index: usize, prompt: &Prompt<'_, T>) -> Result<Stream> {
        let slot = self.slots.take()?;
        let values: Vec<T> = match prompt.states {
            Some(states) => states.iter().flat_map(|view| view.data).copied().collect(),
            None => self.engine.empty(),
        };
        self.slots.states.write(slot, &values)?;
        let last = prompt.tokens[prompt.tokens.len() - 1];
        let rule = if let Some(TokenRules::After(_)) = self.options.rules { last } else { prompt.rule };
        let row = Row { tokens: Vec::new(), last, score: 0.0, rule, status: RowStatus::Live, slot };
        let number = prompt.number.unwrap_or(index as u32);
        Ok(Stream { index, rows: vec![row], most: prompt.max_tokens.unwrap_or(self.options.max_tokens), number })
    }
}

/// Which kernel chooses.
fn kernel_of(decoding: Decoding) -> ChooseKernel {
    match decoding {
        Decoding::Beam(_) => ChooseKernel::Beam,
        Decoding::Greedy | Decoding::Sample(_) => ChooseKernel::Choose,
    }
}
