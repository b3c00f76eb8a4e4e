//! A stack that takes batches of any size and length, one call each, over sessions that it keeps.

use super::shape::{cut, place, rounded};
use crate::error::{Error, Result};
use crate::exec::{Device, Element, Startup};
use crate::model::stack::{Head, Layout, RnnConfig, Shape};
use crate::model::weights::Weights;
use crate::plan::{Empty, Options, Plan, Precision, cell_dim};
use crate::session::{Initial, Input, Output, Session};
use crate::tensor::{Tensor, View};

/// How an [`Rnn`] runs, and what it keeps.
#[derive(Clone, Debug, PartialEq)]
pub struct RnnOptions {
    /// Of every plan; [`Options::nominal`] and the precision are set by the [`Rnn`]. Those for training and [`Options::resets`] are
    /// refused.
    pub plan: Options,
    /// The batch that kernels are chosen for: those of all others are the same, so that no other compiles anything. Bits do not depend
    /// on it. Default: 32 steps of 4 sequences. Set it to what most batches are like.
    pub nominal: Shape,
    /// Sessions kept at most, at least 1. Default: 16.
    pub sessions: usize,
    /// Bytes of memory that kept sessions take at most together, without the weights, which they share. A single session may take more.
    /// Default: 256 MiB.
    pub bytes: u64,
}

impl Default for RnnOptions {
    fn default() -> Self {
        Self { plan: Options::default(), nominal: Shape { time: 32, batch: 4 }, sessions: 16, bytes: 256 << 20 }
    }
}

/// A stack of layers that takes a batch of any size and any length at every call, for inference.
///
/// A call runs in a session of the batch's shape, T and B rounded up: to powers of two up to 64, beyond that to quarters of one, so
/// that there are few of them. Rows past the caller's are sequences of length 0, which cost memory and no arithmetic; results are cut
/// to the caller's shape, and are bit for bit those of a [`Session`] of exactly that shape. Sessions share weights and kernels. They are
/// kept from call to call, within [`RnnOptions::sessions`] and [`RnnOptions::bytes`]; the one used longest ago goes first. Kernels are
/// compiled once, when the [`Rnn`] is made (of what a driver puts off until a kernel runs, [`Startup`] tells, in the first call).
///
/// ```
/// use wgpu_rnn::{Device, Initial, Rnn, RnnConfig, View, Weights};
/// # fn main() -> wgpu_rnn::Result<()> {
/// let config = RnnConfig::lstm(3, 5);
/// let mut rnn = Rnn::new(&Device::cpu(), &config, &Weights::<f32>::random(&config, 1)?)?;
/// for (time, batch) in [(4, 2), (7, 3), (1, 1)] {
///     let x = vec![0.5; time * batch * 3];
///     let out = rnn.forward(View::new(&x, &[time, batch, 3]), None, Initial::Zero)?;
///     assert_eq!(out.y.shape, [time, batch, 5]);
/// }
/// # Ok(()) }
/// ```
pub struct Rnn<T: Element = f32> {
    /// Of the nominal shape. It has the weights, and stays.
    first: Session<T>,
    kept: Vec<Kept<T>>,
    options: RnnOptions,
    /// Calls so far.
    calls: u64,
    /// What the last call made.
    made: Option<Startup>,
    scratch: Scratch<T>,
}

struct Kept<T: Element> {
    session: Session<T>,
    bytes: u64,
    /// The last call that used it.
    used: u64,
}

/// Where inputs of another shape than the session's are put together.
struct Scratch<T> {
    x: Vec<T>,
    h0: Vec<T>,
    c0: Vec<T>,
    ids: Vec<u32>,
    lengths: Vec<usize>,
}

/// What a batch is made of.
#[derive(Clone, Copy)]
enum Source<'a, T> {
    X(View<'a, T>),
    Ids(View<'a, u32>),
}

/// A batch's own shape.
#[derive(Clone, Copy)]
struct Batch {
    shape: Shape,
    /// It came without a dimension B.
    unbatched: bool,
}

impl<T: Element> Rnn<T> {
    /// With default options.
    ///
    /// # Errors
    /// As [`Rnn::with_options`].
    #[cfg(not(target_family = "wasm"))]
    pub fn new(device: &Device, config: &RnnConfig, weights: &Weights<T>) -> Result<Self> {
        Self::with_options(device, config, weights, &RnnOptions::default())
    }

    /// [`Rnn::new`] for those who may not wait.
    ///
    /// # Errors
    /// As [`Rnn::with_options`].
    pub async fn new_async(device: &Device, config: &RnnConfig, weights: &Weights<T>) -> Result<Self> {
        Self::with_options_async(device, config, weights, &RnnOptions::default()).await
    }

    /// Uploads the weights and compiles the kernels. Of a head the loss is left out: nothing is compared here.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for options of training, resets, or no sessions to keep; as [`Plan::new`] and [`Session::from_plan`].
    #[cfg(not(target_family = "wasm"))]
    pub fn with_options(
        device: &Device,
        config: &RnnConfig,
        weights: &Weights<T>,
        options: &RnnOptions,
    ) -> Result<Self> {
        device.block(Self::with_options_async(device, config, weights, options))
    }

    /// [`Rnn::with_options`] for those who may not wait.
    ///
    /// # Errors
    /// As [`Rnn::with_options`].
    pub async fn with_options_async(
        device: &Device,
        config: &RnnConfig,
        weights: &Weights<T>,
        options: &RnnOptions,
    ) -> Result<Self> {
        let of = &options.plan;
        if of.train || of.optimiser.is_some() {
            return Err(Error::mismatch("options of an Rnn", "those of inference (a Session trains)", "train: true"));
        }
        if let Some(resets) = of.resets {
            let expected = "none (a Session takes resets)";
            return Err(Error::mismatch("resets of an Rnn", expected, format!("{resets:?}")));
        }
        if options.sessions == 0 {
            return Err(Error::mismatch("sessions of an Rnn", "at least 1 to keep", 0));
        }
        let head = config.head.map(|head| Head { loss: None, ..head });
        let config = RnnConfig { head, ..config.clone() };
        let precision = Precision::of::<T>();
        let plan = Options { nominal: Some(options.nominal), precision, ..of.clone() };
        let first = Plan::new(&config, options.nominal, &device.caps(), &plan)?;
        let first = Session::from_plan_async(device, first, weights).await?;
        let made = Some(first.startup());
        let scratch = Scratch { x: Vec::new(), h0: Vec::new(), c0: Vec::new(), ids: Vec::new(), lengths: Vec::new() };
        Ok(Self { first, kept: Vec::new(), options: options.clone(), calls: 0, made, scratch })
    }

    /// Runs a batch: x `[T, B, I]` (`[B, T, I]` with [`Layout::BatchFirst`], or `[T, I]`: one sequence, and results without the dimension
    /// B), each sequence's length in 0..=T (`None`: all T), and the state before the first step, zeros or h0 `[L·D, B, P or H]` and c0
    /// `[L·D, B, S·H]`. It gives y, hn, cn and predictions of that batch. Where T or B is 0 they are empty, and where only T is, hn and
    /// cn are those of sequences of length 0 ([`Options::empty`]).
    ///
    /// # Errors
    /// [`Error::Mismatch`] naming the argument, the expected and the given shape; for a configuration with a vocabulary, which takes
    /// [`Rnn::forward_ids`]; for [`Initial::Carry`], as no state is kept here. [`Error::Limit`] for a batch beyond the device;
    /// [`Error::DeviceLost`] and [`Error::Gpu`] from it.
    #[cfg(not(target_family = "wasm"))]
    pub fn forward(&mut self, x: View<'_, T>, lengths: Option<&[usize]>, initial: Initial<'_, T>) -> Result<Output<T>> {
        self.first.device().clone().block(self.forward_async(x, lengths, initial))
    }

    /// [`Rnn::forward`] for those who may not wait. Outside of browsers somebody must [poll the device](Device::poll).
    ///
    /// # Errors
    /// As [`Rnn::forward`].
    pub async fn forward_async(
        &mut self,
        x: View<'_, T>,
        lengths: Option<&[usize]>,
        initial: Initial<'_, T>,
    ) -> Result<Output<T>> {
        self.run(Source::X(x), lengths, initial).await
    }

    /// The same of token ids `[T, B]` (in x's layout, or `[T]`), for a configuration with a vocabulary.
    ///
    /// # Errors
    /// As [`Rnn::forward`], and [`Error::Mismatch`] for an id outside the vocabulary or a configuration without one.
    #[cfg(not(target_family = "wasm"))]
    pub fn forward_ids(
        &mut self,
        ids: View<'_, u32>,
        lengths: Option<&[usize]>,
        initial: Initial<'_, T>,
    ) -> Result<Output<T>> {
        self.first.device().clone().block(self.forward_ids_async(ids, lengths, initial))
    }

    /// [`Rnn::forward_ids`] for those who may not wait. Outside of browsers somebody must [poll the device](Device::poll).
    ///
    /// # Errors
    /// As [`Rnn::forward_ids`].
    pub async fn forward_ids_async(
        &mut self,
        ids: View<'_, u32>,
        lengths: Option<&[usize]>,
        initial: Initial<'_, T>,
    ) -> Result<Output<T>> {
        self.run(Source::Ids(ids), lengths, initial).await
    }

    /// Other weights for all batches to come.
    ///
    /// # Errors
    /// As [`Session::set_weights`].
    pub fn set_weights(&mut self, weights: &Weights<T>) -> Result<()> {
        self.first.set_weights(weights)
    }

    /// What it runs; of a head without its loss.
    pub fn config(&self) -> &RnnConfig {
        &self.first.plan().config
    }

    /// How many sessions are kept, besides the first, which stays.
    pub fn sessions(&self) -> usize {
        self.kept.len()
    }

    /// Bytes that they take, without the weights.
    pub fn bytes(&self) -> u64 {
        self.kept.iter().map(|kept| kept.bytes).sum()
    }

    /// What the last call (at first, making this) had to make for its shape; `None` where there was a session for it, or nothing to run.
    pub fn made(&self) -> Option<Startup> {
        self.made
    }

    async fn run(
        &mut self,
        source: Source<'_, T>,
        lengths: Option<&[usize]>,
        initial: Initial<'_, T>,
    ) -> Result<Output<T>> {
        let batch = self.batch_of(source)?;
        let own = batch.shape;
        lengths.map_or(Ok(()), |lengths| own.validate_lengths(lengths))?;
        let (h0, c0) = self.states_of(batch, initial)?;
        self.made = None;
        if own.time == 0 || own.batch == 0 {
            return Ok(self.nothing(batch, h0, c0));
        }
        let n = match self.session_for(rounded(own)).await {
            // What is too large rounded up may fit as it is.
            Err(Error::Limit { .. }) => self.session_for(own).await?,
            n => n?,
        };
        let Self { first, kept, scratch, .. } = self;
        let session = n.map_or(first, |n| &mut kept[n].session);
        let (config, shape) = (&session.plan().config, session.plan().shape);
        let (from, to) = (outer(config, own), outer(config, shape));
        let stacked = config.num_layers * config.directions();
        let state = |view: Option<View<'_, T>>, to: &mut Vec<T>, width: usize| {
            view.map(|view| place(view.data, to, [stacked, own.batch], [stacked, shape.batch], width)).is_some()
        };
        let (has_h0, has_c0) =
            (state(h0, &mut scratch.h0, config.state_size()), state(c0, &mut scratch.c0, config.cell_size()));
        let all = |b: usize| lengths.map_or(own.time, |lengths| lengths[b]);
        scratch.lengths.clear();
        scratch.lengths.extend((0..shape.batch).map(|b| if b < own.batch { all(b) } else { 0 }));
        let ragged = scratch.lengths.iter().any(|&length| length < shape.time);
        let (h, c) = ([stacked, shape.batch, config.state_size()], [stacked, shape.batch, config.cell_size()]);
        let (x_shape, ids_shape) = ([to[0], to[1], config.input_size], to);
        let input = match source {
            Source::X(x) if from == to => Input::new(View::new(x.data, &x_shape)),
            Source::X(x) => {
                place(x.data, &mut scratch.x, from, to, config.input_size);
                Input::new(View::new(&scratch.x, &x_shape))
            }
            Source::Ids(ids) if from == to => Input::of_ids(View::new(ids.data, &ids_shape)),
            Source::Ids(ids) => {
                place(ids.data, &mut scratch.ids, from, to, 1);
                Input::of_ids(View::new(&scratch.ids, &ids_shape))
            }
        };
        let input = Input {
            lengths: ragged.then_some(&scratch.lengths[..]),
            initial: match has_h0 || has_c0 {
                true => Initial::Given {
                    h0: has_h0.then(|| View::new(&scratch.h0, &h)),
                    c0: has_c0.then(|| View::new(&scratch.c0, &c)),
                },
                false => Initial::Zero,
            },
            ..input
        };
        let out = session.forward_async(&input).await?;
        let states = |t: Tensor<T>| cut(t, [stacked, own.batch], batch.unbatched.then_some(1));
        let time_at = if session.plan().config.layout == Layout::TimeMajor { 1 } else { 0 };
        let sequence = |t: Tensor<T>| match t.shape.len() {
            3 => cut(t, from, batch.unbatched.then_some(time_at)),
            // Of a plan that keeps no y.
            _ => t,
        };
        Ok(Output {
            y: sequence(out.y),
            hn: states(out.hn),
            cn: out.cn.map(states),
            predictions: out.predictions.map(sequence),
        })
    }

    /// The shape of a batch, checked but for its ids and lengths.
    fn batch_of(&self, source: Source<'_, T>) -> Result<Batch> {
        let config = self.config();
        let (what, given, width): (_, &[usize], _) = match (source, config.vocabulary) {
            (Source::X(x), None) => ("x", x.shape, Some(config.input_size)),
            (Source::Ids(ids), Some(_)) => ("ids", ids.shape, None),
            (Source::X(x), Some(_)) => {
                let expected = "none (the configuration has a vocabulary: give ids to forward_ids)";
                return Err(Error::mismatch("x", expected, format!("{:?}", x.shape)));
            }
            (Source::Ids(ids), None) => {
                let expected = "none (the configuration has no vocabulary: give x to forward)";
                return Err(Error::mismatch("ids", expected, format!("{:?}", ids.shape)));
            }
        };
        let time_first = config.layout == Layout::TimeMajor;
        let (rank, outer) = (given.len(), given.len() - usize::from(width.is_some()).min(given.len()));
        let (a, b) = (given.first().copied().unwrap_or(0), given.get(1).copied().unwrap_or(0));
        let batch = match outer {
            1 => Batch { shape: Shape { time: a, batch: 1 }, unbatched: true },
            2 if time_first => Batch { shape: Shape { time: a, batch: b }, unbatched: false },
            2 => Batch { shape: Shape { time: b, batch: a }, unbatched: false },
            _ => {
                let (time, batch) = if time_first { ("T", "B") } else { ("B", "T") };
                let last = if width.is_some() { ", I" } else { "" };
                let expected = format!("[{time}, {batch}{last}], or [T{last}] for one sequence");
                return Err(Error::mismatch(what, expected, format!("{rank} dimensions, {given:?}")));
            }
        };
        let names: Vec<&str> = match (batch.unbatched, time_first) {
            (true, _) => vec!["T", "I"],
            (false, true) => vec!["T", "B", "I"],
            (false, false) => vec!["B", "T", "I"],
        };
        let mut sizes = given[..outer].to_vec();
        sizes.extend(width);
        match source {
            Source::X(x) => x.check(what, &names[..rank], &sizes)?,
            Source::Ids(ids) => ids.check(what, &names[..rank], &sizes)?,
        }
        Ok(batch)
    }

    /// h0 and c0 of a batch, checked.
    #[expect(clippy::type_complexity, reason = "two views")]
    fn states_of<'a>(
        &self,
        batch: Batch,
        initial: Initial<'a, T>,
    ) -> Result<(Option<View<'a, T>>, Option<View<'a, T>>)> {
        let (h0, c0) = match initial {
            Initial::Zero => (None, None),
            Initial::Given { h0, c0 } => (h0, c0),
            Initial::Carry => {
                let expected = "zeros or given states (keep Output::hn and cn, and give them to the next call)";
                return Err(Error::mismatch("initial state", expected, "Carry"));
            }
        };
        let config = self.config();
        let stacked = config.num_layers * config.directions();
        let check = |what: &str, (width, size): (&str, usize), view: Option<View<'_, T>>| match view {
            Some(view) if batch.unbatched && view.shape.len() == 2 => {
                view.check(what, &["L·D", width], &[stacked, size])
            }
            Some(view) => view.check(what, &["L·D", "B", width], &[stacked, batch.shape.batch, size]),
            None => Ok(()),
        };
        check("h0", ("P", config.state_size()), h0)?;
        match c0 {
            Some(c0) if !config.cell.has_cell_state() => {
                let expected = format!("none ({} has no cell state)", config.cell.name);
                return Err(Error::mismatch("c0", expected, format!("{:?}", c0.shape)));
            }
            c0 => check("c0", cell_dim(config), c0)?,
        }
        Ok((h0, c0))
    }

    /// What a batch without steps or sequences gives.
    fn nothing(&self, batch: Batch, h0: Option<View<'_, T>>, c0: Option<View<'_, T>>) -> Output<T> {
        let (config, plan) = (self.config(), self.first.plan());
        let (outer, stacked) = (outer(config, batch.shape), config.num_layers * config.directions());
        let sequence = |width: usize| Tensor {
            data: Vec::new(),
            shape: if batch.unbatched { vec![batch.shape.time, width] } else { vec![outer[0], outer[1], width] },
        };
        let state = |view: Option<View<'_, T>>, width: usize| {
            let count = stacked * batch.shape.batch * width;
            let kept = view.filter(|_| plan.options.empty == Empty::Initial);
            let data = kept.map_or_else(|| vec![T::default(); count], |view| view.data.to_vec());
            let shape = if batch.unbatched { vec![stacked, width] } else { vec![stacked, batch.shape.batch, width] };
            Tensor { data, shape }
        };
        Output {
            y: if plan.keep_y { sequence(config.output_size()) } else { Tensor { data: Vec::new(), shape: vec![0] } },
            hn: state(h0, config.state_size()),
            cn: config.cell.has_cell_state().then(|| state(c0, config.cell_size())),
            predictions: config.head.map(|head| sequence(head.size)),
        }
    }

    /// Which session runs a shape (`None`: the first); made where there is none.
    async fn session_for(&mut self, shape: Shape) -> Result<Option<usize>> {
        self.calls += 1;
        if shape == self.first.plan().shape {
            return Ok(None);
        }
        if let Some(n) = self.kept.iter().position(|kept| kept.session.plan().shape == shape) {
            self.kept[n].used = self.calls;
            return Ok(Some(n));
        }
        let plan = self.first.plan();
        let bytes = Plan::new(&plan.config, shape, &plan.caps, &plan.options)?.session_bytes();
        while !self.kept.is_empty()
            && (self.kept.len() >= self.options.sessions || self.bytes().saturating_add(bytes) > self.options.bytes)
        {
            let oldest = self.kept.iter().enumerate().min_by_key(|(_, kept)| kept.used);
            self.kept.remove(oldest.map_or(0, |(n, _)| n));
        }
        let session = self.first.for_shape_async(shape).await?;
        self.made = Some(session.startup());
        self.kept.push(Kept { session, bytes, used: self.calls });
        Ok(Some(self.kept.len() - 1))
    }
}

/// T and B in the order of the layout.
fn outer(config: &RnnConfig, Shape { time, batch }: Shape) -> [usize; 2] {
    if config.layout == Layout::TimeMajor { [time, batch] } else { [batch, time] }
}
