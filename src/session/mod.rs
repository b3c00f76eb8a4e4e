//! A plan bound to a device: upload, run, read back.

mod backward;
mod dropout;
mod ends;
mod network;
mod optimise;
mod phase;
mod pooled;
#[cfg(not(target_family = "wasm"))]
mod profile;
mod streams;
mod trace;

pub use backward::{Gradients, Upstream};
pub use ends::{TargetValues, Targets};
#[cfg(not(target_family = "wasm"))]
pub use network::OperationTime;
pub use network::{NetworkGradients, NetworkInitial, NetworkInput, NetworkOutput, NetworkSession, NetworkUpstream};
pub(crate) use pooled::Batch;
#[cfg(not(target_family = "wasm"))]
pub use profile::KernelTime;
pub use streams::State;
pub use trace::Snapshot;

use crate::error::{Error, Result};
use crate::exec::gpu::{IoBinding, IoBuffers};
use crate::exec::{Device, Element, Kind, Stack, Startup};
use crate::model::stack::{Layout, RnnConfig, Shape};
use crate::model::weights::Weights;
use crate::plan::{Caps, Empty, Half, Options, Plan, Precision, SlotId, cell_dim};
use crate::tensor::{Tensor, View};
use phase::Phase;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Acquire};

/// The state before the first step. A cell of S cell states ([`crate::Cell::cell_states`]) has them one after the other in c0 and
/// cn, H values each: S is 1 for the LSTMs, 3 for sLSTM (c, n, m).
#[derive(Clone, Copy, Debug, Default)]
pub enum Initial<'a, T> {
    /// Zeros.
    #[default]
    Zero,
    /// h0 `[L·D, B, P or H]` and, for cells with a cell state, c0 `[L·D, B, S·H]` (`None`: zeros).
    Given {
        /// h0
        h0: Option<View<'a, T>>,
        /// c0
        c0: Option<View<'a, T>>,
    },
    /// Where the last run of this session ended, or the state of [`Session::set_state`] (streaming); it never leaves the
    /// device. An error before the first of these and after [`Session::reset`]: there is nothing to carry then.
    Carry,
}

impl<'a, T> Initial<'a, T> {
    /// h0 `[L·D, B, P or H]`, of a cell without cell state (RNN, GRU); a cell state starts from zeros.
    pub fn hidden(h0: View<'a, T>) -> Self {
        Self::Given { h0: Some(h0), c0: None }
    }
}

/// What one run reads.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a, T> {
    /// x `[T, B, I]`, or `[B, T, I]` with [`Layout::BatchFirst`], or `[T, I]` where B = 1.
    pub x: View<'a, T>,
    /// Each sequence's own length, in the caller's order, unsorted, each in 0..=T; `None`: all T. A sequence of length 0 is not
    /// there: nothing of it is read but, with [`crate::Empty::Initial`], its state.
    pub lengths: Option<&'a [usize]>,
    /// The state before the first step.
    pub initial: Initial<'a, T>,
    /// Token ids `[T, B]` (in x's layout, or `[T]` where B = 1) instead of x, for a configuration with a vocabulary.
    pub ids: Option<View<'a, u32>>,
    /// `[T, B]` in x's layout: where a new episode begins, so that the state before that step is set anew and no gradient
    /// crosses; for plans with [`Options::resets`].
    pub resets: Option<&'a [bool]>,
}

impl<'a, T> Input<'a, T> {
    /// Full-length sequences from a zero state.
    pub fn new(x: View<'a, T>) -> Self {
        Self { x, lengths: None, initial: Initial::Zero, ids: None, resets: None }
    }

    /// Full-length sequences of token ids `[T, B]` from a zero state.
    pub fn of_ids(ids: View<'a, u32>) -> Self {
        Self { ids: Some(ids), ..Self::new(View::new(&[], &[0])) }
    }
}

/// What one run gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Output<T> {
    /// y `[T, B, D·(P or H)]` in x's layout; 0 past a sequence's end. Empty if the plan keeps none ([`Options::keep_y`]).
    pub y: Tensor<T>,
    /// hn `[L·D, B, P or H]`: the state at each sequence's own end. Of a sequence of length 0 it is what [`Options::empty`] says.
    pub hn: Tensor<T>,
    /// cn `[L·D, B, S·H]`, for cells with a cell state.
    pub cn: Option<Tensor<T>>,
    /// The head's outputs `[T, B, O]` in x's layout, for a configuration with a head; 0 past a sequence's end. For cross entropy
    /// they are the logits: their softmax is the distribution.
    pub predictions: Option<Tensor<T>>,
}

/// A plan bound to a device. Buffers, pipelines and bind groups are made here, never while it runs.
///
/// ```
/// use wgpu_rnn::{Device, Input, RnnConfig, Session, Shape, View, Weights, cells};
/// # fn main() -> wgpu_rnn::Result<()> {
/// let config = RnnConfig { cell: &cells::LSTM, input_size: 3, hidden_size: 5, ..Default::default() };
/// let weights = Weights::<f32>::random(&config, 1)?;
/// let device = Device::cpu(); // or Device::auto(): a real GPU if there is one
/// let mut session = Session::new(&device, &config, Shape { time: 4, batch: 2 }, &weights)?;
/// let x = vec![0.5; 4 * 2 * 3];
/// let out = session.forward(&Input::new(View::new(&x, &[4, 2, 3])))?;
/// assert_eq!(out.y.shape, [4, 2, 5]);
/// # Ok(()) }
/// ```
pub struct Session<T: Element = f32> {
    device: Device,
    plan: Plan,
    stack: Stack<T>,
    /// How far the input at hand has come.
    phase: Phase,
    /// Whether hn and cn hold a state to carry.
    has_state: bool,
    /// Whether there are parameter gradients that no update has used.
    gradients: bool,
    /// Updates so far.
    updates: u64,
    /// The last input came without a batch dimension.
    unbatched: bool,
    /// Where the masks of the next run come from.
    draws: dropout::Draws,
    /// Whether it shares the weights of the session that they were given to.
    is_sibling: bool,
    /// How often the weights have changed, for all who share them, and as of the last run.
    changes: Arc<AtomicU64>,
    run_at: u64,
}

impl<T: Element> Session<T> {
    /// Plans `config` for `shape` with default options and binds it.
    ///
    /// # Errors
    /// See [`Plan::new`] and [`Session::from_plan`].
    #[cfg(not(target_family = "wasm"))]
    pub fn new(device: &Device, config: &RnnConfig, shape: Shape, weights: &Weights<T>) -> Result<Self> {
        device.block(Self::new_async(device, config, shape, weights))
    }

    /// [`Session::new`] for those who may not wait.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub async fn new_async(device: &Device, config: &RnnConfig, shape: Shape, weights: &Weights<T>) -> Result<Self> {
        let precision = Precision::of::<T>();
        let plan = Plan::new(config, shape, &device.caps(), &Options { precision, ..Default::default() })?;
        Self::from_plan_async(device, plan, weights).await
    }

    /// Binds a plan: makes its buffers, packs and uploads the weights, compiles the kernels.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the weights do not fit (in shape, or a value in [`Options::weights`]), the plan was made for another
    /// kind of device, or its precision is not `T`; [`Error::Gpu`] or [`Error::DeviceLost`] from the device.
    #[cfg(not(target_family = "wasm"))]
    pub fn from_plan(device: &Device, plan: Plan, weights: &Weights<T>) -> Result<Self> {
        device.block(Self::from_plan_async(device, plan, weights))
    }

    /// [`Session::from_plan`] for those who may not wait. What takes time on this machine (packing weights, and outside of browsers
    /// compiling kernels) is done before the future first yields.
    ///
    /// # Errors
    /// As [`Session::from_plan`].
    pub async fn from_plan_async(device: &Device, plan: Plan, weights: &Weights<T>) -> Result<Self> {
        weights.validate(&plan.config)?;
        check_precision::<T>(&plan)?;
        plan.options.weights.check(&plan.config, weights)?;
        check_device(device, &plan)?;
        let session = Self::with_stack(device, Stack::new(device, &plan, weights)?);
        device.settle().await?;
        Ok(session)
    }

    /// A session for another shape, with the options of this one, that shares its weights and pipelines: a
    /// [`Session::sibling`]. The optimiser stays here.
    ///
    /// # Errors
    /// See [`Plan::new`].
    #[cfg(not(target_family = "wasm"))]
    pub fn for_shape(&self, shape: Shape) -> Result<Self> {
        self.device.block(self.for_shape_async(shape))
    }

    /// [`Session::for_shape`] for those who may not wait.
    ///
    /// # Errors
    /// As [`Session::for_shape`].
    pub async fn for_shape_async(&self, shape: Shape) -> Result<Self> {
        let options = Options {
            strategy: Some(self.plan.strategy),
            optimiser: None,
            clip_norm: None,
            ..self.plan.options.clone()
        };
        let sibling = self.sibling_where(shape, &options, |plan| {
            plan.with(|plan| {
                plan.reason = self.plan.reason.clone();
                plan.choices.strategy = self.plan.choices.strategy;
            })
        })?;
        self.device.settle().await?;
        Ok(sibling)
    }

    /// A session over the same weights on the device, for another shape and other options: inference beside training, one step at
    /// a time, in another strategy. It shares the pipelines too, and sees updates from its next run on; it may read the parameters'
    /// gradients of its own runs if it trains, but only the session that has the optimiser changes the parameters. It starts with
    /// this one's seed and [`Session::set_dropout`], and counts its own runs.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if it is to train and this session does not (its weights are packed for inference only), for an
    /// optimiser, for a precision other than `T`, or for [`Options::weights`] other than this one's; see also [`Plan::new`].
    #[cfg(not(target_family = "wasm"))]
    pub fn sibling(&self, shape: Shape, options: &Options) -> Result<Self> {
        self.device.block(self.sibling_async(shape, options))
    }

    /// [`Session::sibling`] for those who may not wait.
    ///
    /// # Errors
    /// As [`Session::sibling`].
    pub async fn sibling_async(&self, shape: Shape, options: &Options) -> Result<Self> {
        let sibling = self.sibling_where(shape, options, |plan| plan)?;
        self.device.settle().await?;
        Ok(sibling)
    }

    fn sibling_where(&self, shape: Shape, options: &Options, change: impl FnOnce(Plan) -> Plan) -> Result<Self> {
        if let Some(optimiser) = options.optimiser {
            let expected = "none: the parameters have one owner, and it has the optimiser";
            return Err(Error::mismatch("optimiser of a sibling", expected, optimiser));
        }
        if options.train && !self.plan.train {
            let expected = "an inference plan, as that of the session whose weights it shares";
            return Err(Error::mismatch("options of a sibling", expected, "train: true"));
        }
        if options.weights != self.plan.options.weights {
            let expected = format!("{}, as they lie on the device", self.plan.options.weights);
            return Err(Error::mismatch("weights of a sibling", expected, options.weights));
        }
        let plan = change(Plan::new(&self.plan.config, shape, &self.plan.caps, options)?);
        check_precision::<T>(&plan)?;
        let mut sibling = Self::with_stack(&self.device, self.stack.sibling(&plan)?);
        sibling.draws = self.draws.restarted();
        (sibling.is_sibling, sibling.changes) = (true, Arc::clone(&self.changes));
        Ok(sibling)
    }

    fn with_stack(device: &Device, stack: Stack<T>) -> Self {
        Self {
            device: device.clone(),
            plan: stack.executor.plan().clone(),
            stack,
            phase: Phase::Empty,
            has_state: false,
            gradients: false,
            updates: 0,
            unbatched: false,
            draws: dropout::Draws::default(),
            is_sibling: false,
            changes: Arc::default(),
            run_at: 0,
        }
    }

    /// What making it took.
    pub fn startup(&self) -> Startup {
        self.stack.executor.startup()
    }

    /// The plan it runs.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Where it runs.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Uploads `input`, runs, and reads everything back at once: y, hn, cn and predictions, as far as there are any. A loop that
    /// needs less of it, as training does, asks for less: [`Session::write`], [`Session::run`], and then [`Session::loss`],
    /// [`Session::predictions`] or nothing at all ([`Session::train_step`]).
    ///
    /// # Errors
    /// [`Error::Mismatch`] for wrong shapes or lengths (nothing has run then); [`Error::DeviceLost`] and [`Error::Gpu`] from
    /// the device.
    #[cfg(not(target_family = "wasm"))]
    pub fn forward(&mut self, input: &Input<'_, T>) -> Result<Output<T>> {
        self.device.clone().block(self.forward_async(input))
    }

    /// [`Session::forward`] for those who may not wait. Outside of browsers somebody must [poll the device](Device::poll).
    ///
    /// # Errors
    /// As [`Session::forward`].
    pub async fn forward_async(&mut self, input: &Input<'_, T>) -> Result<Output<T>> {
        self.write(input)?;
        let values = self.run_and_read(&self.output_slots()).await?;
        Ok(self.as_output(values))
    }

    /// What the last run gave, read back now: after [`Session::write`] and [`Session::run`], and before anything else is written.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if what was written last has not run; [`Error::DeviceLost`] and [`Error::Gpu`] from the device.
    #[cfg(not(target_family = "wasm"))]
    pub fn output(&mut self) -> Result<Output<T>> {
        self.device.clone().block(self.output_async())
    }

    /// [`Session::output`] for those who may not wait. Outside of browsers somebody must [poll the device](Device::poll).
    ///
    /// # Errors
    /// As [`Session::output`].
    pub async fn output_async(&mut self) -> Result<Output<T>> {
        if !self.phase.has_run() {
            return Err(self.out_of_order("output", "a run before it", "none since an input was written"));
        }
        let values = self.stack.executor.fetch(&self.output_slots()).await?;
        Ok(self.as_output(values))
    }

    /// y where it is kept, hn, cn where there is one, and the head's outputs where there is one.
    fn output_slots(&self) -> Vec<SlotId> {
        let ids = &self.plan.ids;
        let cell = self.plan.config.cell.has_cell_state();
        let last = cell.then_some(ids.cn).into_iter().chain(ids.head.as_ref().map(|head| head.outputs));
        self.plan.keep_y.then_some(ids.y).into_iter().chain([ids.hn]).chain(last).collect()
    }

    fn as_output(&self, values: Vec<Vec<T>>) -> Output<T> {
        let (ids, mut values) = (&self.plan.ids, values.into_iter());
        let mut tensor = |slot: SlotId| {
            let shape: Vec<usize> = self.plan.slots[slot].dims.iter().map(|d| d.1).collect();
            let data = values.next().unwrap_or_default();
            // An unbatched caller gets no batch dimension: [T, 1, F] -> [T, F], [L·D, 1, H] -> [L·D, H].
            let batch_at = if slot == ids.y && self.plan.config.layout == Layout::BatchFirst { 0 } else { 1 };
            let keep = |(n, d): (usize, usize)| (!(self.unbatched && n == batch_at)).then_some(d);
            Tensor { data, shape: shape.into_iter().enumerate().filter_map(keep).collect() }
        };
        let y = if self.plan.keep_y { tensor(ids.y) } else { Tensor { data: Vec::new(), shape: vec![0] } };
        let (hn, cn) = (tensor(ids.hn), self.plan.config.cell.has_cell_state().then(|| tensor(ids.cn)));
        let predictions = ids.head.as_ref().and_then(|_| values.next()).map(|packed| self.as_predictions(&packed));
        Output { y, hn, cn, predictions }
    }

    /// Checks and uploads an input; [`Session::run`] then runs it as often as wanted.
    ///
    /// # Errors
    /// [`Error::Mismatch`] naming the argument, the expected and the given shape.
    pub fn write(&mut self, input: &Input<'_, T>) -> Result<()> {
        self.write_where(input, self.plan.options.empty)
    }

    /// The same where sequences of length 0 end as `empty` says.
    fn write_where(&mut self, input: &Input<'_, T>, empty: Empty) -> Result<()> {
        let (config, Shape { time, batch }) = (&self.plan.config, self.plan.shape);
        let i = config.input_size;
        let unbatched = match input.ids {
            Some(ids) => ids.shape.len() == 1,
            None => input.x.shape.len() == 2,
        } && batch == 1;
        if let (None, Some(ids)) = (config.vocabulary, input.ids) {
            let expected = "none (the configuration has no vocabulary)";
            return Err(Error::mismatch("ids", expected, format!("{:?}", ids.shape)));
        }
        if config.vocabulary.is_some() {
            // x is made of the ids, which are checked below.
        } else if unbatched {
            input.x.check("x", &["T", "I"], &[time, i])?;
        } else {
            match config.layout {
                Layout::TimeMajor => input.x.check("x", &["T", "B", "I"], &[time, batch, i])?,
                Layout::BatchFirst => input.x.check("x", &["B", "T", "I"], &[batch, time, i])?,
            }
        }
        let (h0, c0) = match &input.initial {
            Initial::Given { h0, c0 } => (*h0, *c0),
            _ => (None, None),
        };
        self.check_state(h0, c0)?;
        self.check_resets(input.resets)?;
        if matches!(input.initial, Initial::Carry) && !self.has_state {
            return Err(Error::mismatch("initial state", "an earlier run to carry from", "none"));
        }
        self.set_schedule(input.lengths, input.resets, empty)?;
        // If writing fails half-way there is no input.
        self.phase = Phase::Empty;
        self.write_ids(input)?;
        self.unbatched = unbatched;
        let ids = self.plan.ids.clone();
        if ids.embedding.is_none() {
            self.stack.executor.write_rounded(ids.x, input.x.data)?;
        }
        match input.initial {
            Initial::Carry => self.carry()?,
            _ => {
                self.write_state(ids.h0, h0)?;
                ids.c0.map_or(Ok(()), |slot| self.write_state(slot, c0))?;
            }
        }
        self.phase = Phase::Written { targets: false };
        Ok(())
    }

    fn check_state(&self, h0: Option<View<'_, T>>, c0: Option<View<'_, T>>) -> Result<()> {
        let (config, batch) = (&self.plan.config, self.plan.shape.batch);
        let layers = config.num_layers * config.directions();
        let check = |what: &str, width: &str, size: usize, view: Option<View<'_, T>>| match view {
            Some(v) if v.shape.len() == 2 && batch == 1 => v.check(what, &["L·D", width], &[layers, size]),
            Some(v) => v.check(what, &["L·D", "B", width], &[layers, batch, size]),
            None => Ok(()),
        };
        check("h0", "P", config.state_size(), h0)?;
        match c0 {
            Some(c0) if !config.cell.has_cell_state() => {
                let expected = format!("none ({} has no cell state)", config.cell.name);
                Err(Error::mismatch("c0", expected, format!("{:?}", c0.shape)))
            }
            c0 => {
                let (width, size) = cell_dim(config);
                check("c0", width, size, c0)
            }
        }
    }

    /// Sets each sequence's length for the next runs; `None`: all T. [`Session::write`] does this too. Resets stay those of the
    /// last input.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a wrong count or a length outside 0..=T.
    pub fn set_lengths(&mut self, lengths: Option<&[usize]>) -> Result<()> {
        let resets = self.stack.resets.clone();
        self.set_schedule(lengths, resets.as_deref(), self.plan.options.empty)
    }

    fn check_resets(&self, resets: Option<&[bool]>) -> Result<()> {
        let Some(resets) = resets else { return Ok(()) };
        if self.plan.options.resets.is_none() {
            let expected = "none (the plan was made without Options::resets)";
            return Err(Error::mismatch("resets", expected, format!("{} flags", resets.len())));
        }
        let Shape { time, batch } = self.plan.shape;
        if resets.len() != time * batch {
            let expected = format!("T·B = {} flags", time * batch);
            return Err(Error::mismatch("resets", expected, format!("{} flags", resets.len())));
        }
        Ok(())
    }

    fn set_schedule(&mut self, lengths: Option<&[usize]>, resets: Option<&[bool]>, empty: Empty) -> Result<()> {
        // If the upload fails they are neither these nor those.
        let before = self.phase;
        self.phase = before.to_run_again(false);
        if !self.stack.set_schedule_where(lengths, resets, empty)? {
            self.phase = before;
        }
        Ok(())
    }

    /// Runs what was written. On a GPU it returns once the work is submitted.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if nothing was written; [`Error::DeviceLost`] and [`Error::Gpu`] from the device.
    pub fn run(&mut self) -> Result<()> {
        self.check_written()?;
        self.start(&[])
    }

    fn check_written(&self) -> Result<()> {
        match self.phase.is_written() {
            true => Ok(()),
            false => Err(self.out_of_order("run", "an input written before it (Session::write)", "none")),
        }
    }

    /// A call too early; or, where what it waits for failed because of that, a lost device.
    fn out_of_order(&self, what: &str, expected: &str, got: &str) -> Error {
        let lost = match &self.device.0 {
            Kind::Gpu(gpu) => gpu.check_alive().err(),
            Kind::Cpu(_) => None,
        };
        lost.unwrap_or_else(|| Error::mismatch(what, expected, got))
    }

    /// Runs what was written and waits for the last state: hn and, for cells that have one, cn.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] and [`Error::Gpu`] from the device.
    #[cfg(not(target_family = "wasm"))]
    pub fn run_for_state(&mut self) -> Result<Vec<Vec<T>>> {
        self.device.clone().block(self.run_for_state_async())
    }

    /// [`Session::run_for_state`] for those who may not wait. Outside of browsers somebody must [poll the device](Device::poll).
    ///
    /// # Errors
    /// As [`Session::run_for_state`].
    pub async fn run_for_state_async(&mut self) -> Result<Vec<Vec<T>>> {
        let ids = &self.plan.ids;
        let cell = self.plan.config.cell.has_cell_state();
        let read: Vec<SlotId> = [ids.hn].into_iter().chain(cell.then_some(ids.cn)).collect();
        self.check_written()?;
        self.run_and_read(&read).await
    }

    /// Bind groups that use the caller's own buffers, for [`Session::encode`]. GPU only.
    ///
    /// # Errors
    /// [`Error::Unsupported`] on the CPU executor, [`Error::Mismatch`] for a buffer that is too small, [`Error::Gpu`] for one
    /// with the wrong usage or device.
    #[cfg(not(target_family = "wasm"))]
    pub fn bind(&self, io: &IoBuffers<'_>) -> Result<IoBinding> {
        self.device.block(self.bind_async(io))
    }

    /// [`Session::bind`] for those who may not wait.
    ///
    /// # Errors
    /// As [`Session::bind`].
    pub async fn bind_async(&self, io: &IoBuffers<'_>) -> Result<IoBinding> {
        self.device.require_gpu("bind")?;
        let Some(e) = self.stack.executor.gpu() else { unreachable!("a GPU device has a GPU executor") };
        let binding = e.bind_io(&self.plan, io)?;
        self.device.settle().await?;
        Ok(binding)
    }

    /// Encodes the whole run into the caller's encoder: one compute pass, no submit, nothing read back. The session's own outputs and
    /// state are not those of an earlier run any more: read and carry the host's buffers. Lengths are those of
    /// [`Session::set_lengths`]; they are uploaded at once, so encode again after changing them, into another submit.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the plan needs several submits (then use [`Session::encode_part`]); [`Error::Unsupported`] on
    /// the CPU executor.
    pub fn encode(&mut self, encoder: &mut wgpu::CommandEncoder, io: &IoBinding) -> Result<()> {
        let submits = self.plan.submits.len();
        if submits > 1 {
            return Err(Error::mismatch(
                "encode",
                "a plan of one submit (or encode_part)",
                format!("{submits} submits"),
            ));
        }
        self.encode_part(0, encoder, io)
    }

    /// Encodes part `index` of `plan().submits`; the parts must be submitted in order.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a part that does not exist; [`Error::Unsupported`] on the CPU executor.
    pub fn encode_part(&mut self, index: usize, encoder: &mut wgpu::CommandEncoder, io: &IoBinding) -> Result<()> {
        let gpu = Arc::clone(self.device.require_gpu("encode")?);
        let Some(part) = self.plan.submits.get(index).cloned() else {
            return Err(Error::mismatch("part", format!("0..{}", self.plan.submits.len()), index));
        };
        // The session's own y, hn and cn are overwritten where the host's buffers do not replace them.
        let targets = matches!(self.phase, Phase::Written { targets: true } | Phase::Ran { loss: true, .. });
        (self.phase, self.has_state) = (self.phase.to_run_again(targets), false);
        if index == 0 {
            self.draw()?;
        }
        let Some(e) = self.stack.executor.gpu() else { unreachable!("a GPU device has a GPU executor") };
        gpu.submit("encoding", || e.encode(encoder, &self.plan, &self.stack.schedule, Half::Forward, part, Some(io)))
    }

    /// Pipelines and bind groups made since the session was bound, itself included: a test's proof that runs make none.
    pub fn objects_created(&self) -> usize {
        self.stack.executor.created()
    }

    fn start(&mut self, read: &[SlotId]) -> Result<()> {
        let changes = self.changes();
        self.draw()?;
        self.stack.run(Half::Forward, read)?;
        self.has_ended(changes);
        Ok(())
    }

    /// How often the weights have changed. Read before a run and counted after a change, so that a run beside one on another thread
    /// belongs to the weights of before.
    fn changes(&self) -> u64 {
        self.changes.load(Acquire)
    }

    /// What is true after a run; `changes`: of the weights, before it.
    fn has_ended(&mut self, changes: u64) {
        (self.phase, self.has_state, self.run_at) = (self.phase.ran(self.plan.train), true, changes);
    }

    async fn run_and_read(&mut self, read: &[SlotId]) -> Result<Vec<Vec<T>>> {
        self.start(read)?;
        self.stack.executor.read(read).await
    }

    fn write_state(&mut self, slot: SlotId, view: Option<View<'_, T>>) -> Result<()> {
        match view {
            Some(v) => self.stack.executor.write(slot, v.data),
            None => self.stack.executor.fill(slot, 0.0),
        }
    }

    /// hn, cn → h0, c0.
    fn carry(&mut self) -> Result<()> {
        let ids = &self.plan.ids;
        let pairs: Vec<_> = [(ids.hn, ids.h0)].into_iter().chain(ids.c0.map(|c0| (ids.cn, c0))).collect();
        self.stack.executor.copy(&pairs)
    }
}

/// Whether a plan was made for a device of this kind.
fn check_device(device: &Device, plan: &Plan) -> Result<()> {
    let caps = device.caps();
    if caps.class != plan.caps.class {
        return Err(Error::mismatch(
            "device of the plan",
            format!("{:?}", caps.class),
            format!("{:?}", plan.caps.class),
        ));
    }
    plan.options.check_activations(&caps)?;
    if plan.tiles.lanes && caps.subgroup != plan.caps.subgroup {
        let lanes = |caps: &Caps| format!("subgroups of {}", caps.subgroup);
        return Err(Error::mismatch("device of the plan", lanes(&plan.caps), lanes(&caps)));
    }
    Ok(())
}

fn check_precision<T: Element>(plan: &Plan) -> Result<()> {
    if plan.precision.bytes() != size_of::<T>() {
        return Err(Error::mismatch("precision of the plan", T::NAME, format!("{:?}", plan.precision)));
    }
    Ok(())
}
