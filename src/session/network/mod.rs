//! A network's plan bound to a device: upload, run, read back.
//!
//! It does whatever a [`crate::Session`] does (`tests/house.rs` holds it to that); two types, because one has x, y, h and c of one stack
//! with their shapes, and the other inputs, outputs, parameters and states by name. `RnnConfig` lowers to a network of one stack with the
//! same bits ([`Network::of_config`]).

mod dropout;
mod host;
mod ids;
mod io;
mod pooled;
#[cfg(not(target_family = "wasm"))]
mod profile;
mod streams;
mod trace;
mod train;

pub use io::{NetworkGradients, NetworkInitial, NetworkInput, NetworkOutput, NetworkUpstream};
#[cfg(not(target_family = "wasm"))]
pub use profile::OperationTime;

use super::dropout::Draws;
use crate::error::{Error, Result};
use crate::exec::network::Executor;
use crate::exec::stack::weights;
use crate::exec::{Device, Element};
use crate::model::network::{Network, Op, Param, Part, Rows};
use crate::model::stack::Shape;
use crate::model::weights::WeightFormat;
use crate::plan::network::{NetworkPlan, SlotId, StateSlots, Times};
use crate::plan::{Half, Precision};
use crate::session::check_device;
use crate::session::phase::Phase;
use crate::tensor::{Tensor, View};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Release},
};

/// A network bound to a device.
///
/// ```
/// use std::sync::Arc;
/// use wgpu_rnn::network::{Builder, NetworkInput, NetworkOptions, NetworkPlan, NetworkSession};
/// use wgpu_rnn::{Device, Shape, View, rules};
/// # fn main() -> wgpu_rnn::Result<()> {
/// // minGRU over 3 channels, its gates given.
/// let mut b = Builder::new();
/// let (z, h) = (b.input("z", 3)?, b.input("h", 3)?);
/// let y = b.scan("cell", &rules::MINGRU, [3, 1, 1], &[z.into(), h.into()], false)?;
/// b.output("y", y)?;
/// let (device, shape) = (Device::cpu(), Shape { time: 2, batch: 1 });
/// let plan = NetworkPlan::new(&Arc::new(b.finish()?), shape, &device.caps(), &NetworkOptions::default())?;
/// let mut session = NetworkSession::new(&device, plan, &[])?;
/// let (z, h) = ([0.0f32; 6], [1.0; 6]);
/// let out = session.forward(&NetworkInput::new(&[View::new(&z, &[2, 1, 3]), View::new(&h, &[2, 1, 3])]))?;
/// assert_eq!(out.values[0].data, [0.5, 0.5, 0.5, 0.75, 0.75, 0.75]);
/// # Ok(()) }
/// ```
pub struct NetworkSession<T: Element = f32> {
    device: Device,
    plan: NetworkPlan,
    times: Times,
    executor: Executor<T>,
    /// How far the input at hand has come; what it is compared with are the targets of the network's losses.
    phase: Phase,
    /// Whether there are states to carry.
    has_state: bool,
    /// Gradients of outputs that no backward pass has consumed yet: it adds to them in place.
    upstream: bool,
    /// Whether there are gradients to read.
    gradients: bool,
    /// Per loss of the network, what its rows' sum is divided by, of the input written last.
    divisors: Vec<f64>,
    /// The same of the last run, whose outputs and losses can be read until the next one.
    ran: Option<Vec<f64>>,
    /// Updates so far.
    updates: u64,
    /// Where the masks of the next run come from.
    draws: Draws,
    /// Whether it shares the parameters of the session that they were given to.
    is_sibling: bool,
    /// How often the parameters have changed, for all who share them, and as of the last run.
    changes: Arc<AtomicU64>,
    run_at: u64,
}

impl<T: Element> NetworkSession<T> {
    /// Binds a plan; `params`: all parameters, one after the other in the network's order, row-major.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a wrong number of parameters, a value that [`NetworkOptions::weights`] has no number for, a plan of another
    /// kind of device or precision; [`Error::Gpu`] or [`Error::DeviceLost`] from the device.
    ///
    /// [`NetworkOptions::weights`]: crate::network::NetworkOptions::weights
    #[cfg(not(target_family = "wasm"))]
    pub fn new(device: &Device, plan: NetworkPlan, params: &[T]) -> Result<Self> {
        device.block(Self::new_async(device, plan, params))
    }

    /// [`NetworkSession::new`] for those who may not wait. What takes time on this machine (packing weights, and outside of browsers
    /// compiling kernels) is done before the future first yields.
    ///
    /// # Errors
    /// As [`NetworkSession::new`].
    pub async fn new_async(device: &Device, plan: NetworkPlan, params: &[T]) -> Result<Self> {
        let expected = plan.network.parameter_count();
        if params.len() != expected {
            return Err(Error::mismatch("parameters", format!("{expected} values"), params.len()));
        }
        check_plan::<T>(device, &plan)?;
        check_formats(&plan, params)?;
        let executor = Executor::new(device, &plan, params)?;
        device.settle().await?;
        Ok(Self::with_executor(device, plan, executor))
    }

    /// A session over the same parameters on the device, for another plan of the same network: another shape, inference beside training,
    /// one step at a time. It shares the packed weights and the pipelines too, and sees other parameters from its next run on; it may
    /// read the parameters' gradients of its own runs if it trains, but only the session that the parameters were given to changes
    /// them. Its states are its own.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a plan of another network, for other [`Caps`](crate::Caps) or of another precision; if it is to train and
    /// this session does not (its weights are packed for inference only), for an optimiser, or for [`NetworkOptions::weights`] other than
    /// this one's; errors of the device.
    ///
    /// [`NetworkOptions::weights`]: crate::network::NetworkOptions::weights
    #[cfg(not(target_family = "wasm"))]
    pub fn sibling(&self, plan: NetworkPlan) -> Result<Self> {
        self.device.block(self.sibling_async(plan))
    }

    /// [`NetworkSession::sibling`] for those who may not wait.
    ///
    /// # Errors
    /// As [`NetworkSession::sibling`].
    pub async fn sibling_async(&self, plan: NetworkPlan) -> Result<Self> {
        let (own, of) = (&self.plan, &plan.options);
        if !Arc::ptr_eq(&plan.network, &own.network) && plan.network != own.network {
            return Err(Error::mismatch("network of a sibling", "that whose parameters it shares", "another"));
        }
        // Which matrices of a stack lie in one buffer follows from them.
        if plan.caps != own.caps {
            let expected = "one made for the caps of the plan whose weights it shares";
            return Err(Error::mismatch("plan of a sibling", expected, "one for others"));
        }
        if let Some(optimiser) = of.optimiser {
            let expected = "none: the parameters have one owner, and it has the optimiser";
            return Err(Error::mismatch("optimiser of a sibling", expected, optimiser));
        }
        if of.train && !own.options.train {
            let expected = "an inference plan, as that of the session whose weights it shares";
            return Err(Error::mismatch("options of a sibling", expected, "train: true"));
        }
        if of.weights != own.options.weights {
            let expected = format!("{}, as they lie on the device", own.options.weights);
            return Err(Error::mismatch("weights of a sibling", expected, of.weights));
        }
        check_plan::<T>(&self.device, &plan)?;
        let executor = self.executor.sibling(&self.device, &plan)?;
        self.device.settle().await?;
        let mut sibling = Self::with_executor(&self.device, plan, executor);
        sibling.draws = self.draws.restarted();
        (sibling.is_sibling, sibling.changes) = (true, Arc::clone(&self.changes));
        Ok(sibling)
    }

    fn with_executor(device: &Device, plan: NetworkPlan, executor: Executor<T>) -> Self {
        let Shape { time, batch } = plan.shape;
        let times = Times { time, batch, lengths: vec![time; batch], resets: Vec::new() };
        Self {
            device: device.clone(),
            plan,
            times,
            executor,
            phase: Phase::Empty,
            has_state: false,
            upstream: false,
            gradients: false,
            divisors: Vec::new(),
            ran: None,
            updates: 0,
            draws: Draws::default(),
            is_sibling: false,
            changes: Arc::default(),
            run_at: 0,
        }
    }

    /// The plan it runs.
    pub fn plan(&self) -> &NetworkPlan {
        &self.plan
    }

    /// Where it runs.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Other parameters, as in [`NetworkSession::new`], for this session and its siblings; the states stay. Runs of theirs that were
    /// not gone back through yet cannot be any more: what they kept belongs to the parameters of before.
    ///
    /// # Errors
    /// [`Error::Mismatch`] as [`NetworkSession::new`] for the parameters, or from a sibling (the parameters are those of the session it was made of);
    /// errors of the device.
    pub fn set_params(&mut self, params: &[T]) -> Result<()> {
        if self.is_sibling {
            let expected = "the session that the parameters were given to";
            return Err(Error::mismatch("set_params", expected, "a sibling of it"));
        }
        let expected = self.plan.network.parameter_count();
        if params.len() != expected {
            return Err(Error::mismatch("parameters", format!("{expected} values"), params.len()));
        }
        check_formats(&self.plan, params)?;
        // What the last run kept belongs to the parameters it ran with.
        self.phase = self.phase.without_tape();
        let done = self.executor.set_params(params);
        self.changes.fetch_add(1, Release);
        done
    }

    /// Uploads, runs, and reads everything back.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for wrong shapes, lengths or resets (nothing has run then); errors of the device.
    #[cfg(not(target_family = "wasm"))]
    pub fn forward(&mut self, input: &NetworkInput<'_, T>) -> Result<NetworkOutput<T>> {
        self.device.clone().block(self.forward_async(input))
    }

    /// [`NetworkSession::forward`] for those who may not wait. Outside of browsers somebody must [poll the device](crate::Device::poll).
    ///
    /// # Errors
    /// As [`NetworkSession::forward`].
    pub async fn forward_async(&mut self, input: &NetworkInput<'_, T>) -> Result<NetworkOutput<T>> {
        self.write(input)?;
        self.run()?;
        self.output_async().await
    }

    /// Checks and uploads an input; [`NetworkSession::run`] then runs it.
    ///
    /// # Errors
    /// As [`NetworkSession::forward`].
    pub fn write(&mut self, input: &NetworkInput<'_, T>) -> Result<()> {
        let network = Arc::clone(&self.plan.network);
        if input.values.len() != network.inputs.len() {
            return Err(Error::mismatch("inputs of the network", network.inputs.len(), input.values.len()));
        }
        for (&value, view) in network.inputs.iter().zip(input.values) {
            let v = &network.values[value];
            let (names, sizes) = self.dims(Part { value, first: 0, width: v.width });
            view.check(&v.name, names, &sizes)?;
        }
        let times = self.checked_times(input.lengths, input.resets)?;
        let divisors = self.divisors(input, &times)?;
        self.check_ids(input, &times)?;
        match input.initial {
            NetworkInitial::Carry if !self.has_state => {
                return Err(Error::mismatch("initial states", "an earlier run to carry from", "none"));
            }
            NetworkInitial::Given(given) => self.check_states("initial states", given)?,
            _ => {}
        }
        (self.times, self.divisors) = (times, divisors);
        // If writing fails half-way there is no input.
        (self.phase, self.upstream) = (Phase::Empty, false);
        self.forget_gradients();
        self.executor.write_times(&self.times)?;
        for (&value, view) in network.inputs.iter().zip(input.values) {
            self.write_rows(self.plan.values[value], view.data, network.values[value].width)?;
        }
        let states = self.plan.states.clone();
        match input.initial {
            NetworkInitial::Carry => self.executor.carry()?,
            NetworkInitial::Given(given) => {
                for (s, view) in states.iter().zip(given) {
                    self.write_state(s.initial, s.node, view.data)?;
                }
            }
            NetworkInitial::Empty => {
                for s in &states {
                    self.executor.write(s.initial, &self.empty_state(s.node, s.size))?;
                }
            }
        }
        self.phase = Phase::Written { targets: !self.divisors.is_empty() };
        Ok(())
    }

    /// Runs what was written last.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if nothing was; errors of the device.
    pub fn run(&mut self) -> Result<()> {
        self.begin()?;
        self.executor.run(&self.times, Half::Forward)?;
        self.ended();
        Ok(())
    }

    /// What an earlier run gave is not there any more, and what is written may be run again.
    fn unsettled(&mut self) {
        let targets = self.phase.has_loss() || self.phase == Phase::Written { targets: true };
        self.phase = self.phase.to_run_again(targets);
        (self.has_state, self.upstream, self.ran) = (false, false, None);
        self.forget_gradients();
    }

    /// Those of the last way back are not there any more, unless they add up.
    fn forget_gradients(&mut self) {
        self.gradients &= self.plan.options.accumulate;
    }

    /// Before a run.
    fn begin(&mut self) -> Result<()> {
        if !self.phase.is_written() {
            return Err(Error::mismatch("run", "an input written before it", "none"));
        }
        self.phase = self.phase.without_tape();
        // Before the run, so that one beside a change on another thread belongs to the parameters of before.
        self.run_at = self.changes.load(Acquire);
        self.draw()
    }

    /// What is true after it.
    fn ended(&mut self) {
        (self.phase, self.has_state) = (self.phase.ran(self.plan.options.train), true);
        self.forget_gradients();
        self.ran = Some(self.divisors.clone());
    }

    /// What the last run gave.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if nothing has run; errors of the device.
    #[cfg(not(target_family = "wasm"))]
    pub fn output(&mut self) -> Result<NetworkOutput<T>> {
        self.device.clone().block(self.output_async())
    }

    /// [`NetworkSession::output`] for those who may not wait. Outside of browsers somebody must [poll the device](crate::Device::poll).
    ///
    /// # Errors
    /// As [`NetworkSession::output`].
    pub async fn output_async(&mut self) -> Result<NetworkOutput<T>> {
        if self.ran.is_none() {
            return Err(Error::mismatch("output", "a run before it", "none"));
        }
        // Outputs may show parts of one value.
        let shown: Vec<usize> = self.plan.network.shown().into_iter().collect();
        let slots = shown.iter().map(|&value| self.plan.values[value]);
        let slots: Vec<SlotId> = slots.chain(self.plan.states.iter().map(|s| s.last)).collect();
        let mut read = self.executor.read(&slots, false).await?;
        let last = read.split_off(shown.len());
        let whole: BTreeMap<usize, Vec<T>> = shown.into_iter().zip(read).collect();
        let outputs = self.plan.network.outputs.iter();
        let values = outputs.map(|(_, part)| self.part_of(&whole[&part.value], *part)).collect();
        let states = self.plan.states.iter().zip(last).map(|(s, data)| self.state_of(s, data)).collect();
        Ok(NetworkOutput { values, states })
    }

    /// The gradients of inputs, parameters and initial states, from those of outputs (and last states), for the last forward run.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for wrong shapes, or without a forward run of a plan that trains before it; errors of the device.
    #[cfg(not(target_family = "wasm"))]
    pub fn backward(&mut self, upstream: &NetworkUpstream<'_, T>) -> Result<NetworkGradients<T>> {
        self.device.clone().block(self.backward_async(upstream))
    }

    /// [`NetworkSession::backward`] for those who may not wait. Outside of browsers somebody must [poll the device](crate::Device::poll).
    ///
    /// # Errors
    /// As [`NetworkSession::backward`].
    pub async fn backward_async(&mut self, upstream: &NetworkUpstream<'_, T>) -> Result<NetworkGradients<T>> {
        self.write_upstream(upstream)?;
        self.run_back()?;
        self.gradients_async().await
    }

    /// Checks and uploads the gradients of outputs and last states.
    ///
    /// # Errors
    /// As [`NetworkSession::backward`].
    pub fn write_upstream(&mut self, upstream: &NetworkUpstream<'_, T>) -> Result<()> {
        let network = Arc::clone(&self.plan.network);
        self.check_tape()?;
        if upstream.values.len() != network.outputs.len() {
            return Err(Error::mismatch("gradients of outputs", network.outputs.len(), upstream.values.len()));
        }
        for ((name, part), view) in network.outputs.iter().zip(upstream.values) {
            let (names, sizes) = self.dims(*part);
            view.check(&format!("gradient of {name}"), names, &sizes)?;
        }
        if let Some(given) = upstream.states {
            self.check_states("gradients of states", given)?;
        }
        // Everything else begins at 0, without a byte from here.
        self.executor.clear_gradients()?;
        for value in network.shown() {
            self.write_gradient(value, upstream)?;
        }
        if let Some(given) = upstream.states {
            let states = self.plan.states.clone();
            for (s, view) in states.iter().zip(given) {
                if let Some(slot) = s.d_last {
                    self.write_state(slot, s.node, view.data)?;
                }
            }
        }
        self.upstream = true;
        Ok(())
    }

    /// Whether there is a run to go back through.
    fn check_tape(&self) -> Result<()> {
        let expected = "a forward run of a training plan before it";
        if !self.phase.has_tape() {
            return Err(Error::mismatch("backward", expected, "none"));
        }
        if self.run_at != self.changes.load(Acquire) {
            return Err(Error::mismatch("backward", expected, "none since the parameters changed"));
        }
        Ok(())
    }

    /// The gradient of a value that outputs show, whose gradient is 0 yet. Two outputs may show the same columns: theirs add up.
    fn write_gradient(&mut self, value: usize, upstream: &NetworkUpstream<'_, T>) -> Result<()> {
        let Self { plan, times, executor, .. } = self;
        let (width, slot) = (plan.network.values[value].width, plan.gradients[value]);
        let outputs = plan.network.outputs.iter().zip(upstream.values);
        executor.write_with(slot, |gradient| {
            for ((_, part), view) in outputs.filter(|((_, part), _)| part.value == value) {
                let rows = gradient.chunks_exact_mut(width).zip(view.data.chunks_exact(part.width));
                for (_, (to, from)) in rows.enumerate().filter(|(row, _)| !times.is_padding(*row)) {
                    to[part.first..][..part.width].iter_mut().zip(from).for_each(|(t, f)| *t = *t + *f);
                }
            }
        })
    }

    /// Bytes that the host has written to the GPU for the network's own operations, in all; 0 on the CPU. For tests.
    #[doc(hidden)]
    pub fn bytes_written(&self) -> u64 {
        self.executor.traffic().0
    }

    /// Submits of the network's own operations to the GPU, in all; 0 on the CPU. For tests.
    #[doc(hidden)]
    pub fn submits(&self) -> u64 {
        self.executor.traffic().1
    }

    /// Runs the way back from the gradients of outputs written last; where none were, from the network's losses.
    ///
    /// # Errors
    /// [`Error::Mismatch`] without a forward run before it; errors of the device.
    pub fn run_back(&mut self) -> Result<()> {
        self.begin_back()?;
        self.executor.run(&self.times, Half::Backward)
    }

    /// Before a way back: there are gradients to begin from, and the run is used up.
    fn begin_back(&mut self) -> Result<()> {
        self.check_tape()?;
        if !self.upstream && self.phase.has_loss() {
            self.write_losses()?;
        }
        if !self.upstream {
            return Err(Error::mismatch("backward", "gradients of outputs written since the last way back", "none"));
        }
        if self.plan.options.accumulate && !self.gradients {
            self.executor.clear_param_gradients()?;
        }
        (self.phase, self.upstream, self.gradients) = (self.phase.without_tape(), false, true);
        Ok(())
    }

    /// What the last way back gave; of the parameters, with [`NetworkOptions::accumulate`], the sum over those since the last update.
    ///
    /// [`NetworkOptions::accumulate`]: crate::network::NetworkOptions::accumulate
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a plan that does not train; errors of the device.
    #[cfg(not(target_family = "wasm"))]
    pub fn gradients(&mut self) -> Result<NetworkGradients<T>> {
        self.device.clone().block(self.gradients_async())
    }

    /// [`NetworkSession::gradients`] for those who may not wait. Outside of browsers somebody must [poll the device](crate::Device::poll).
    ///
    /// # Errors
    /// As [`NetworkSession::gradients`].
    pub async fn gradients_async(&mut self) -> Result<NetworkGradients<T>> {
        if !self.plan.options.train {
            return Err(Error::mismatch("gradients", "a plan that trains", "one that does not"));
        }
        if !self.gradients {
            return Err(Error::mismatch("gradients", "a way back before it", "none"));
        }
        let network = Arc::clone(&self.plan.network);
        let whole = |value: usize| Part { value, first: 0, width: network.values[value].width };
        let slots = network.inputs.iter().map(|&v| self.plan.gradients[v]);
        let slots: Vec<SlotId> = slots.chain(self.plan.states.iter().filter_map(|s| s.d_initial)).collect();
        let mut read = self.executor.read(&slots, true).await?.into_iter();
        let inputs = network.inputs.iter().zip(&mut read).map(|(&v, all)| self.part_of(&all, whole(v))).collect();
        let states = self.plan.states.iter().zip(&mut read).map(|(s, data)| self.state_of(s, data)).collect();
        let flat = read.next().unwrap_or_default();
        Ok(NetworkGradients { inputs, params: by_param(&network, &flat), states })
    }

    /// Whether all is as [`NetworkSession::poison`] left it between the slots of a GPU that [`NetworkOptions::guard`] keeps apart. For
    /// tests.
    ///
    /// [`NetworkOptions::guard`]: crate::network::NetworkOptions::guard
    ///
    /// # Errors
    /// [`Error::Mismatch`] where something was written between them; errors of the device.
    #[doc(hidden)]
    #[cfg(not(target_family = "wasm"))]
    pub fn check_guards(&self) -> Result<()> {
        match self.executor.guards_hold()? {
            true => Ok(()),
            false => Err(Error::mismatch("what lies between slots", "untouched", "written")),
        }
    }

    fn checked_times(&self, lengths: Option<&[usize]>, given: Option<&[bool]>) -> Result<Times> {
        let Shape { time, batch } = self.plan.shape;
        let lengths = lengths.map_or_else(|| vec![time; batch], <[usize]>::to_vec);
        if lengths.len() != batch || lengths.iter().any(|&l| l > time) {
            return Err(Error::mismatch("lengths", format!("{batch} in 0..={time}"), format!("{lengths:?}")));
        }
        let resets = given.unwrap_or_default().to_vec();
        if given.is_some() && !self.plan.options.resets {
            let expected = "none (the plan was made with NetworkOptions { resets: false, .. })";
            return Err(Error::mismatch("resets", expected, format!("{} flags", resets.len())));
        }
        if given.is_some() && resets.len() != time * batch {
            return Err(Error::mismatch(
                "resets",
                format!("[T, B] = [{time}, {batch}]"),
                format!("{} flags", resets.len()),
            ));
        }
        Ok(Times { time, batch, lengths, resets })
    }

    fn check_states(&self, what: &str, given: &[View<'_, T>]) -> Result<()> {
        if given.len() != self.plan.states.len() {
            return Err(Error::mismatch(what, self.plan.states.len(), given.len()));
        }
        for (s, view) in self.plan.states.iter().zip(given) {
            let name = format!("{what}: {}", self.plan.network.nodes[s.node].name);
            view.check(&name, &["B", "size"], &[self.plan.shape.batch, s.size])?;
        }
        Ok(())
    }

    /// Zeros past every sequence's end: padding may hold anything, and nothing of it is read.
    fn mask(times: &Times, values: &mut [T], width: usize) {
        for (row, v) in values.chunks_exact_mut(width).enumerate() {
            if times.is_padding(row) {
                v.fill(T::default());
            }
        }
    }

    /// The empty state of one sequence.
    fn empty_state_of(&self, node: usize, size: usize) -> Vec<T> {
        let mut one = vec![T::default(); size];
        match &self.plan.network.nodes[node].op {
            Op::Scan(shape) if shape.divisor().is_some() => {
                one[size - shape.heads..].fill(T::from_f64(crate::model::rule::EMPTY_MAXIMUM));
            }
            _ => {}
        }
        one
    }

    /// That of all.
    fn empty_state(&self, node: usize, size: usize) -> Vec<T> {
        self.empty_state_of(node, size).repeat(self.plan.shape.batch)
    }

    /// Dimensions of a part of a value: their names, and how many.
    fn dims(&self, part: Part) -> (&'static [&'static str], Vec<usize>) {
        let Shape { time, batch } = self.plan.shape;
        match self.plan.network.values[part.value].rows {
            Rows::Steps => (&["T", "B", "width"], vec![time, batch, part.width]),
            Rows::Sequences => (&["B", "width"], vec![batch, part.width]),
        }
    }

    fn part_of(&self, all: &[T], part: Part) -> Tensor<T> {
        let width = self.plan.network.values[part.value].width;
        let rows = all.chunks_exact(width).map(|row| &row[part.first..][..part.width]);
        let mut data = rows.flatten().copied().collect::<Vec<_>>();
        Self::mask(&self.times, &mut data, part.width);
        Tensor { data, shape: self.dims(part).1 }
    }

    fn state_of(&self, state: &StateSlots, data: Vec<T>) -> Tensor<T> {
        let batch = self.plan.shape.batch;
        let data = match &self.plan.network.nodes[state.node].op {
            Op::Layers(shape) => shape.state_order(batch).into_iter().map(|at| data[at]).collect(),
            _ => data,
        };
        Tensor { data, shape: vec![batch, state.size] }
    }

    /// A state `[B, size]` into its slot, in the slot's order.
    fn write_state(&mut self, slot: SlotId, node: usize, data: &[T]) -> Result<()> {
        let Op::Layers(shape) = &self.plan.network.nodes[node].op else { return self.executor.write(slot, data) };
        let mut within = data.to_vec();
        shape.state_order(self.plan.shape.batch).into_iter().zip(data).for_each(|(at, v)| within[at] = *v);
        self.executor.write(slot, &within)
    }

    /// Rows `[T, B, width]` into their slot.
    fn write_rows(&mut self, slot: SlotId, data: &[T], width: usize) -> Result<()> {
        // What has no padding goes as it is.
        if self.times.lengths.iter().all(|&l| l == self.times.time) {
            return self.executor.write(slot, data);
        }
        let Self { executor, times, .. } = self;
        executor.write_with(slot, |to| {
            to.copy_from_slice(data);
            Self::mask(times, to, width);
        })
    }
}

/// Whether a plan was made for values of this type and a device of this kind.
fn check_plan<T: Element>(device: &Device, plan: &NetworkPlan) -> Result<()> {
    let precision = if plan.options.precision == Precision::F64 { "f64" } else { "f32" };
    if precision != T::NAME {
        return Err(Error::mismatch("precision of the plan", T::NAME, precision));
    }
    let class = device.caps().class;
    if class != plan.caps.class {
        return Err(Error::mismatch("device of the plan", format!("{class:?}"), format!("{:?}", plan.caps.class)));
    }
    plan.layers.iter().try_for_each(|(_, stack)| check_device(device, stack))
}

/// Refuses parameters that the format of a stack's matrices has no number for.
fn check_formats<T: Element>(plan: &NetworkPlan, params: &[T]) -> Result<()> {
    let named = |node: usize, error| match error {
        Error::Mismatch { what, expected, got } => {
            Error::Mismatch { what: format!("{}.{what}", plan.network.nodes[node].name), expected, got }
        }
        other => other,
    };
    // In f32 there is one for each.
    for (node, stack) in plan.layers.iter().filter(|(_, stack)| stack.options.weights != WeightFormat::F32) {
        let weights = weights(plan, *node, params);
        stack.options.weights.check(&stack.config, &weights).map_err(|error| named(*node, error))?;
    }
    Ok(())
}

fn by_param<T: Element>(network: &Network, flat: &[T]) -> Vec<Tensor<T>> {
    let mut at = 0;
    let tensor = |p: &Param| {
        let data = flat[at..][..p.len()].to_vec();
        at += p.len();
        Tensor { data, shape: p.shape.clone() }
    };
    network.params.iter().map(tensor).collect()
}
