//! The plan of a network: every size and every choice, as pure data.
//!
//! ```text
//! values      [T·B, width] each; in training a gradient of the same size beside each
//! states      what operations over time carry from run to run, before and after this one
//! scans       in training the state before every chunk of steps (the way back makes those between again, a window at a time);
//!             m of every step, sums before a division, what a step erased: only rules that have them
//! ```
//!
//! A stack of recurrent layers in a network keeps a plan of its own ([`Plan`]), whose steps run within the network's submits. Its kernels
//! read many small buffers, those of a network one arena: the same plan, alone or in a network, has the same kernels, the same bits and
//! the same proof, slot by slot. Values go between the two in copies on the device.
//!
//! Everything that grows, grows with T: [`NetworkPlan::bytes_per_step`] says by how much; [`NetworkPlan::fixed_bytes`] is the rest.

mod exchange;
mod fold;
mod kernel;
mod ops;
mod parallel;
mod pass;
mod program;
mod text;
mod times;
mod update;

pub(crate) use kernel::Job;
pub use parallel::Parallel;
pub(crate) use pass::{Entry, Work};
pub(crate) use program::Program;
pub(crate) use times::Times;
pub(crate) use update::{clip_text, squares_text, update_groups, update_text};

use super::tuning::Tuning;
use super::update::check_clip;
use super::{Caps, DeviceClass, Empty, Half, Memory, Options, Plan, Precision, Reset, Wavefront};
use crate::error::{Error, Result};
use crate::model::activation_format::ActivationFormat;
use crate::model::network::{LayersShape, Network, Op, Rows, ScanShape, ValueId};
use crate::model::optimiser::Optimiser;
use crate::model::stack::Shape;
use crate::model::weights::WeightFormat;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What the user may choose.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkOptions {
    /// How scans go over time; `None`: by the network, the device, and which scans have more than one chunk, never by B or lengths.
    pub parallel: Option<Parallel>,
    /// Steps of a chunk; `None`: 64 for elementwise rules, 32 for others.
    pub chunk: Option<usize>,
    /// Plans the backward pass too.
    pub train: bool,
    /// Plans updates of the parameters on the device ([`crate::network::NetworkSession::update`]); only for plans that train.
    pub optimiser: Option<Optimiser>,
    /// Gradients whose L2 norm, over all parameters of the network together, is larger are scaled down to this norm before each update,
    /// as [`Options::clip_norm`]; `None`: not.
    pub clip_norm: Option<f32>,
    /// Ways back add to the gradients of the parameters, from the first since the last update or
    /// [`crate::network::NetworkSession::clear_gradients`] on, as [`Options::accumulate`]; without it each begins at 0.
    pub accumulate: bool,
    /// Element type; f64 on the CPU executor only.
    pub precision: Precision,
    /// Bytes that the way back may take for states between those kept, and chunks as products for what they multiply, at most (one
    /// chunk's at least).
    pub window_bytes: u64,
    /// What recurrent layers keep in training; [`Memory::Auto`] is one budget for all stacks of a network.
    pub memory: Memory,
    /// How stacks of recurrent layers store the matrices of their parameters, as [`Options::weights`]. Those of the network's own
    /// operations stay as they are.
    pub weights: WeightFormat,
    /// How stacks of recurrent layers store x, the x parts of their gates and y, as [`Options::activations`]; the values before and
    /// behind them, and everything else, stay as they are. On the CPU executor only: on a GPU stacks take x, and give y, as f32.
    pub activations: ActivationFormat,
    /// Whether the layers of a stack run side by side, as [`Options::wavefront`]; what is forced is forced for every stack.
    pub wavefront: Wavefront,
    /// What was measured on the device that the plan is for, as [`Options::tuning`]: for stacks of recurrent layers.
    pub tuning: Option<Arc<Tuning>>,
    /// Whether episodes may begin inside a run ([`crate::network::NetworkInput::resets`]); without it recurrent layers are not ready for them.
    pub resets: bool,
    /// Chooses kernels, those of stacks too, as for a batch of this shape, whatever the plan's own: so that plans of many shapes have
    /// the same. The same bits. Default: the plan's own shape.
    pub nominal: Option<Shape>,
    /// Chooses kernels as for another class of device than the one that runs the plan, as [`crate::Options::kernels`]: the same bits.
    pub kernels: Option<DeviceClass>,
    /// Estimated time that one submit may take before a pass is split into several, as [`crate::Options::submit_budget`]: for the
    /// network's own operations and those of stacks together.
    pub submit_budget: Duration,
    /// Elements that a GPU's arena has between any two slots, which nothing may touch
    /// ([`crate::network::NetworkSession::check_guards`]). For tests.
    #[doc(hidden)]
    pub guard: usize,
}

impl Default for NetworkOptions {
    fn default() -> Self {
        Self {
            parallel: None,
            chunk: None,
            train: false,
            optimiser: None,
            clip_norm: None,
            accumulate: false,
            precision: Precision::F32,
            window_bytes: 64 << 20,
            memory: Memory::Save,
            weights: WeightFormat::F32,
            activations: ActivationFormat::F32,
            wavefront: Wavefront::Auto,
            tuning: None,
            resets: true,
            nominal: None,
            kernels: None,
            submit_budget: Options::default().submit_budget,
            guard: 0,
        }
    }
}

/// A named piece of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSlot {
    /// Its name.
    pub name: String,
    /// Elements.
    pub len: usize,
    /// How many of them there are per step (T), where it grows with T.
    pub per_step: usize,
}

/// Index into [`NetworkPlanData::slots`].
pub(crate) type SlotId = usize;

/// Slots of an operation's state.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StateSlots {
    /// Which operation.
    pub node: usize,
    /// Values of a sequence.
    pub size: usize,
    /// Before the first step `[B, size]`.
    pub initial: SlotId,
    /// After every sequence's last step.
    pub last: SlotId,
    /// Their gradients, in training.
    pub d_initial: Option<SlotId>,
    pub d_last: Option<SlotId>,
}

/// Slots of a scan beside its state.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ScanSlots {
    /// States before every chunk `[chunks, B, heads, columns, K]`.
    pub checkpoints: Option<SlotId>,
    /// m after every step `[T·B, heads]`.
    pub maxima: Option<SlotId>,
    /// Sums before the division `[T·B, heads, columns]`.
    pub sums: Option<SlotId>,
    /// u of every step `[T·B, heads, columns]`.
    pub erased: Option<SlotId>,
}

/// How a network runs on a device for one shape. `Display` prints it for people. Everything in it can be read
/// ([`NetworkPlanData`]) and nothing changed: kernels without checks of their indices trust its sizes. Cheap to clone.
///
/// ```compile_fail,E0594
/// # use std::sync::Arc;
/// # use wgpu_rnn::network::{Builder, NetworkOptions, NetworkPlan};
/// # use wgpu_rnn::{Device, Shape};
/// let mut b = Builder::new();
/// let x = b.input("x", 3).unwrap();
/// b.output("y", x).unwrap();
/// let (network, shape) = (Arc::new(b.finish().unwrap()), Shape { time: 2, batch: 1 });
/// let mut plan = NetworkPlan::new(&network, shape, &Device::cpu().caps(), &NetworkOptions::default()).unwrap();
/// plan.slots[0].len = 1; // cannot assign to data in dereference of `NetworkPlan`
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkPlan(Arc<NetworkPlanData>);

impl std::ops::Deref for NetworkPlan {
    type Target = NetworkPlanData;
    fn deref(&self) -> &NetworkPlanData {
        &self.0
    }
}

/// What a [`NetworkPlan`] says.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkPlanData {
    /// What runs.
    pub network: Arc<Network>,
    /// T and B.
    pub shape: Shape,
    /// The device it was made for.
    pub caps: Caps,
    /// What was asked for.
    pub options: NetworkOptions,
    /// How scans go over time.
    pub parallel: Parallel,
    /// Why.
    pub reason: String,
    /// All memory but the parameters and their gradients, and that of `layers`.
    pub slots: Vec<NetworkSlot>,
    /// Plans of the stacks of recurrent layers in it, by operation.
    pub layers: Vec<(usize, Plan)>,
    /// Per value.
    pub(crate) values: Vec<SlotId>,
    /// Per value, in training.
    pub(crate) gradients: Vec<SlotId>,
    /// Per operation over time.
    pub(crate) states: Vec<StateSlots>,
    /// Per operation; empty where it is no scan.
    pub(crate) scans: Vec<ScanSlots>,
    /// What a GPU runs, and where everything is there; none for the CPU executor, which walks the operations.
    pub(crate) program: Option<Arc<Program>>,
}

impl NetworkPlan {
    /// Plans `network` for `shape` on a device with `caps`.
    ///
    /// # Errors
    /// [`Error::Limit`] for sizes beyond the device's; [`Error::Mismatch`] for options that do not fit; [`Error::Unsupported`] for
    /// f64 on a GPU, activations of stacks in f16 there or in training, and what else [`Plan::new`] has not for a stack.
    pub fn new(network: &Arc<Network>, shape: Shape, caps: &Caps, options: &NetworkOptions) -> Result<Self> {
        shape.validate()?;
        if options.chunk == Some(0) {
            return Err(Error::mismatch("chunk", "at least 1 step", 0));
        }
        if let (Some(optimiser), false) = (options.optimiser, options.train) {
            let expected = "a plan that trains (NetworkOptions { train: true, .. })";
            return Err(Error::mismatch(format!("optimiser {optimiser}"), expected, "an inference plan"));
        }
        options.optimiser.map_or(Ok(()), |optimiser| optimiser.validate())?;
        check_clip(options.clip_norm, options.optimiser)?;
        if options.precision == Precision::F64 && caps.class != DeviceClass::Cpu {
            let reason = "WGSL has no f64; use the CPU executor".into();
            return Err(Error::Unsupported { what: "f64 on a GPU".into(), reason });
        }
        let (parallel, reason) = parallel::choose(network, shape, caps, options);
        let mut plan = Self(Arc::new(NetworkPlanData {
            network: Arc::clone(network),
            shape,
            caps: caps.clone(),
            options: options.clone(),
            parallel,
            reason,
            slots: Vec::new(),
            layers: Vec::new(),
            values: Vec::new(),
            gradients: Vec::new(),
            states: Vec::new(),
            scans: Vec::new(),
            program: None,
        }));
        plan.check_sizes()?;
        let layers = plan_layers(network, shape, caps, options)?;
        let data = Arc::make_mut(&mut plan.0);
        data.layers = layers;
        data.add_slots();
        if caps.class != DeviceClass::Cpu {
            data.program = Some(Arc::new(Program::new(data)?));
        }
        plan.check_limits()?;
        Ok(plan)
    }
}

impl NetworkPlanData {
    /// The texts of all kernels that a GPU runs for it, by kernel; none for the CPU executor. For tests.
    #[doc(hidden)]
    pub fn shaders(&self) -> Vec<(&'static str, &str)> {
        let jobs = self.program.iter().flat_map(|p| &p.jobs);
        let mut texts: Vec<_> = jobs.map(|job| (job.name, &*job.text)).collect();
        texts.sort_unstable();
        texts.dedup();
        texts
    }

    /// What a GPU runs for it on the way there, or back, in order: kernel and workgroups of every dispatch. Recurrent
    /// layers are left out; they have plans of their own. For tests.
    #[doc(hidden)]
    pub fn jobs(&self, back: bool) -> Vec<(&'static str, [u32; 2])> {
        let jobs = self.program.iter().flat_map(|p| {
            p.passes[usize::from(back)].entries.iter().filter_map(|entry| match entry.work {
                Work::Job(n) => Some(&p.jobs[n]),
                _ => None,
            })
        });
        jobs.map(|job| (job.name, job.groups)).collect()
    }

    /// Elements that a GPU needs beyond the slots and the gradients of parameters.
    fn scratch(&self) -> usize {
        self.program.as_ref().map_or(0, |p| p.own)
    }

    /// The operations in the order in which a pass runs them, on every executor.
    pub(crate) fn order(&self, half: Half) -> impl Iterator<Item = usize> + use<> {
        let count = self.network.nodes.len();
        (0..count).map(move |n| if half == Half::Backward { count - 1 - n } else { n })
    }

    /// Submits of a pass on a GPU ([`NetworkOptions::submit_budget`]); 0 on the CPU executor.
    pub fn submit_count(&self, back: bool) -> usize {
        self.program.as_ref().map_or(0, |p| p.passes[usize::from(back)].submits.len())
    }

    /// Which of [`NetworkPlanData::layers`] is an operation's.
    pub(crate) fn layers_at(&self, node: usize) -> usize {
        self.layers.iter().position(|(n, _)| *n == node).unwrap_or_default()
    }

    /// Rows of all steps: T·B.
    pub fn rows(&self) -> usize {
        self.shape.time * self.shape.batch
    }

    /// Rows of a value.
    pub fn rows_of(&self, value: ValueId) -> usize {
        match self.network.values[value].rows {
            Rows::Steps => self.rows(),
            Rows::Sequences => self.shape.batch,
        }
    }

    /// Steps of a scan's chunk.
    pub fn chunk(&self, scan: &ScanShape) -> usize {
        // One that is longer is the whole.
        parallel::chunk_of(scan, &self.options).min(self.shape.time)
    }

    /// Chunks of a scan.
    pub fn chunks(&self, scan: &ScanShape) -> usize {
        self.shape.time.div_ceil(self.chunk(scan))
    }

    /// Whether a scan's chunks are matrix products: by the operation and [`NetworkOptions::chunk`] alone.
    pub fn products(&self, scan: &ScanShape) -> bool {
        self.parallel == Parallel::Products && parallel::fits_products(scan, parallel::chunk_of(scan, &self.options))
    }

    /// Bytes of everything, parameters (and in training their gradients) included.
    pub fn bytes(&self) -> u64 {
        let moments = self.options.optimiser.map_or(0, |o| o.moments());
        let copies = if self.options.train { 2 + moments as u64 } else { 1 };
        let parameters = copies * self.held_parameters() as u64;
        let own = self.slots.iter().map(|s| s.len as u64).sum::<u64>() + self.scratch() as u64 + parameters;
        own * self.options.precision.bytes() as u64 + self.layers.iter().map(|(_, plan)| plan.bytes()).sum::<u64>()
    }

    /// Bytes that a sibling takes: all but the parameters, and on a GPU the buffers through which results are read.
    pub(crate) fn session_bytes(&self) -> u64 {
        let stacks = self.layers.iter().map(|(_, plan)| plan.session_bytes()).sum::<u64>();
        let own = self.slots.iter().map(|s| s.len).sum::<usize>() + self.scratch();
        let gradients = if self.options.train { self.held_parameters() } else { 0 };
        let read = if self.caps.class == DeviceClass::Cpu { 0 } else { self.readback_len() };
        stacks + (own + gradients + read) as u64 * self.options.precision.bytes() as u64
    }

    /// Parameters that the network holds beside its stacks.
    fn held_parameters(&self) -> usize {
        match self.caps.class {
            DeviceClass::Cpu => self.network.parameter_count(),
            // A GPU has those of layers in their plans alone.
            _ => self.network.own_params().1,
        }
    }

    /// Elements that reading outputs, or gradients, takes at once from a GPU's arena.
    pub(crate) fn readback_len(&self) -> usize {
        let network = &self.network;
        let len = |slot: SlotId| self.slots[slot].len;
        let outputs: usize = network.shown().into_iter().map(|value| len(self.values[value])).sum();
        let gradients = |v: &usize| self.gradients.get(*v).map_or(0, |&slot| len(slot));
        let inputs: usize = network.inputs.iter().map(gradients).sum();
        let states: usize = self.states.iter().map(|s| len(s.last)).sum();
        let losses: usize = network.losses().map(|(value, _)| len(self.values[value])).sum();
        states + outputs.max(inputs + network.own_params().1).max(losses)
    }

    /// Bytes that every step (of all B sequences) adds, at most: scratch that windows bound counts as if it grew on.
    pub fn bytes_per_step(&self) -> u64 {
        let scratch = (self.scratch() / self.shape.time) as u64;
        let own = self.slots.iter().map(|s| s.per_step as u64).sum::<u64>() + scratch;
        let layers = self.layers.iter().map(|(_, plan)| plan.bytes_per_step()).sum::<u64>();
        own * self.options.precision.bytes() as u64 + layers
    }

    /// Bytes that do not depend on T.
    pub fn fixed_bytes(&self) -> u64 {
        self.bytes().saturating_sub(self.bytes_per_step() * self.shape.time as u64)
    }

    /// Multiply-adds of the forward pass, times two: products, convolutions, and per head and step of a scan 2·K·V (decay, write,
    /// read: 3·K·V; with a correction 5·K·V).
    pub fn flops(&self) -> u64 {
        self.order(Half::Forward).map(|n| self.flops_of(Half::Forward, n)).sum()
    }

    /// Those of an operation: the way back has two products for each of the way there.
    pub(crate) fn flops_of(&self, half: Half, node: usize) -> u64 {
        let of = &self.network.nodes[node];
        let there = match of.op {
            Op::Layers(_) => self.layers[self.layers_at(node)].1.forward_flops(),
            _ => self.rows_of(of.value) as u64 * of.op.flops_of_row(&self.network) as u64,
        };
        if half == Half::Backward { 2 * there } else { there }
    }

    /// Dispatches of an operation on a GPU; 1 on the CPU executor.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn dispatches_of(&self, half: Half, node: usize) -> usize {
        let Some(program) = &self.program else { return 1 };
        let pass = &program.passes[half as usize];
        let jobs = pass.entries[pass.of(node)].iter().filter(|e| matches!(e.work, Work::Job(_))).count();
        let of_stack = match (&self.network.nodes[node].op, half) {
            (Op::Layers(_), Half::Forward) => self.layers[self.layers_at(node)].1.forward_dispatches(),
            (Op::Layers(_), _) => self.layers[self.layers_at(node)].1.backward_dispatches(),
            _ => 0,
        };
        jobs + of_stack
    }

    fn slot(&mut self, name: String, len: usize, per_step: usize) -> SlotId {
        self.slots.push(NetworkSlot { name, len, per_step });
        self.slots.len() - 1
    }

    fn add_slots(&mut self) {
        let (network, batch, rows, train) =
            (Arc::clone(&self.network), self.shape.batch, self.rows(), self.options.train);
        for value in &network.values {
            let (len, step) = match value.rows {
                Rows::Steps => (rows * value.width, batch * value.width),
                Rows::Sequences => (batch * value.width, 0),
            };
            let slot = self.slot(value.name.clone(), len, step);
            self.values.push(slot);
            if train {
                let slot = self.slot(format!("d.{}", value.name), len, step);
                self.gradients.push(slot);
            }
        }
        for (n, node) in network.nodes.iter().enumerate() {
            if let Some(size) = node.op.state_size() {
                let mut slot = |what: &str| self.slot(format!("{}.{what}", node.name), batch * size, 0);
                let (initial, last) = (slot("state.initial"), slot("state.last"));
                let mut gradient = |what: &str| train.then(|| slot(what));
                let (d_initial, d_last) = (gradient("d.state.initial"), gradient("d.state.last"));
                self.states.push(StateSlots { node: n, size, initial, last, d_initial, d_last });
            }
            let scan = match &node.op {
                Op::Scan(shape) => self.scan_slots(&node.name, shape),
                _ => ScanSlots::default(),
            };
            self.scans.push(scan);
        }
    }

    fn scan_slots(&mut self, name: &str, shape: &ScanShape) -> ScanSlots {
        let (batch, rows, train) = (self.shape.batch, self.rows(), self.options.train);
        let (form, columns) = (shape.form(), shape.heads * shape.columns());
        let state = columns * shape.key_size;
        let mut slots = ScanSlots::default();
        if train || self.parallel != Parallel::Recurrent {
            let (chunk, chunks) = (self.chunk(shape), self.chunks(shape));
            let slot =
                self.slot(format!("{name}.checkpoints"), chunks * batch * state, (batch * state).div_ceil(chunk));
            slots.checkpoints = Some(slot);
        }
        let again = self.caps.class == DeviceClass::Cpu;
        let mut per_row =
            |what: &str, width: usize| Some(self.slot(format!("{name}.{what}"), rows * width, batch * width));
        if form.stabiliser.is_some() {
            slots.maxima = per_row("maxima", shape.heads);
            slots.sums = per_row("sums", columns);
        }
        // The CPU executor makes it again, with the states.
        if train && form.erase.is_some() && !again {
            slots.erased = per_row("erased", columns);
        }
        slots
    }

    /// Before anything is multiplied: no product of sizes may overflow, and what kernels index must be within their reach.
    fn check_sizes(&self) -> Result<()> {
        let count = |sizes: &[usize]| sizes.iter().fold(1u64, |n, &size| n.saturating_mul(size as u64));
        let Shape { time, batch } = self.shape;
        let values = self.network.values.iter().map(|v| count(&[time, batch, v.width]));
        let params = self.network.params.iter().fold(0, |n: u64, p| n.saturating_add(p.len() as u64));
        let needs = values.chain([params]).max().unwrap_or(1);
        // States are per sequence, and per chunk at most.
        let states = self.network.nodes.iter().filter_map(|n| n.op.state_size()).map(|s| count(&[time, batch, s]));
        let needs = if states.max().unwrap_or(0) > 1 << 60 { u64::MAX } else { needs };
        let (limit, limit_name) = match self.caps.class {
            DeviceClass::Cpu => (1 << 60, "what can be counted"),
            _ => (u64::from(u32::MAX), "the kernels' index range"),
        };
        if needs > limit {
            let what = format!("network of T={time} B={batch}");
            let hint = "; shorten or split the sequences".into();
            return Err(Error::Limit { what, needs, limit, unit: "elements", limit_name, hint });
        }
        Ok(())
    }

    /// What a GPU has in all, no API tells; its buffers are checked one by one ([`Program::new`], [`Plan::new`]).
    fn check_limits(&self) -> Result<()> {
        let (needs, limit) = (parallel::carried_bytes(&self.network), self.caps.max_workgroup_memory as u64);
        let chunks = self.caps.class != DeviceClass::Cpu && self.parallel != Parallel::Recurrent;
        if chunks && needs > limit {
            let what = format!("{} rows of a state in chunks", needs / 16);
            let (limit_name, hint) = ("the device's workgroup memory", "; use Parallel::Recurrent".into());
            return Err(Error::Limit { what, needs, limit, unit: "bytes", limit_name, hint });
        }
        let (needs, limit) = (self.bytes(), self.caps.max_buffer);
        if self.caps.class == DeviceClass::Cpu && needs > limit {
            let what = format!("network of T={} B={}", self.shape.time, self.shape.batch);
            let limit_name = "this machine's memory";
            let hint = "; shorten or split the sequences".into();
            return Err(Error::Limit { what, needs, limit, unit: "bytes", limit_name, hint });
        }
        Ok(())
    }
}

/// Plans of the stacks of recurrent layers. [`Memory::Auto`] is one budget for all of them: of what is left every stack has the
/// share that keeping everything would take it, so that all keep everything if that fits.
fn plan_layers(network: &Network, shape: Shape, caps: &Caps, options: &NetworkOptions) -> Result<Vec<(usize, Plan)>> {
    let stacks = network.nodes.iter().enumerate().filter_map(|(n, node)| match &node.op {
        Op::Layers(layers) => Some((n, node.name.as_str(), layers)),
        _ => None,
    });
    let stacks: Vec<_> = stacks.collect();
    let plan = |(_, name, layers): &(usize, &str, &LayersShape), memory: Memory| {
        stack_plan(name, layers, shape, caps, &NetworkOptions { memory, ..options.clone() })
    };
    let (Memory::Auto(budget), true) = (options.memory, options.train) else {
        return stacks.iter().map(|stack| Ok((stack.0, plan(stack, options.memory)?))).collect();
    };
    let full = stacks.iter().map(|stack| Ok(plan(stack, Memory::Save)?.bytes())).collect::<Result<Vec<u64>>>()?;
    let (mut left, mut wanted) = (budget, full.iter().sum::<u64>());
    let mut plans = Vec::new();
    for (stack, full) in stacks.iter().zip(full) {
        let share = u128::from(left) * u128::from(full) / u128::from(wanted.max(1));
        let plan = plan(stack, Memory::Auto(share as u64))?;
        (left, wanted) = (left.saturating_sub(plan.bytes()), wanted.saturating_sub(full));
        plans.push((stack.0, plan));
    }
    Ok(plans)
}

/// How it runs within a network.
fn stack_plan(name: &str, layers: &LayersShape, shape: Shape, caps: &Caps, options: &NetworkOptions) -> Result<Plan> {
    if options.activations != ActivationFormat::F32 && caps.class != DeviceClass::Cpu {
        let what = format!("{} activations of {name} on a GPU", options.activations);
        let reason =
            "there networks hand x and y of a stack over as they lie in their own memory, in f32; use f32 activations";
        return Err(Error::Unsupported { what, reason: reason.into() });
    }
    let options = Options {
        train: options.train,
        weights: options.weights,
        activations: options.activations,
        wavefront: options.wavefront,
        tuning: options.tuning.clone(),
        // The CPU executor of a network updates all parameters itself.
        optimiser: options.optimiser.filter(|_| caps.class != DeviceClass::Cpu),
        // For the sums of squares; the norm is one over the whole network.
        clip_norm: options.clip_norm.filter(|_| caps.class != DeviceClass::Cpu),
        accumulate: options.accumulate,
        precision: options.precision,
        kernels: options.kernels,
        nominal: options.nominal,
        // As every operation over time: a stream that has no step stays where it is.
        empty: Empty::Initial,
        memory: options.memory,
        resets: options.resets.then_some(Reset::Zero),
        submit_budget: options.submit_budget,
        ..Default::default()
    };
    let named = |error| match error {
        Error::Limit { what, needs, limit, unit, limit_name, hint } => {
            Error::Limit { what: format!("{what} of {name}"), needs, limit, unit, limit_name, hint }
        }
        other => other,
    };
    Plan::new(&layers.config, shape, caps, &options).map_err(named)
}

impl fmt::Display for NetworkPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let network = &self.network;
        writeln!(f, "network   {} operations, {} parameters", network.nodes.len(), network.parameter_count())?;
        writeln!(
            f,
            "shape     T={} B={}, {}",
            self.shape.time,
            self.shape.batch,
            if self.options.train { "training" } else { "inference" }
        )?;
        writeln!(f, "scans     {:?}: {}", self.parallel, self.reason)?;
        for node in &network.nodes {
            if let Op::Scan(s) = &node.op {
                let (rule, chunk) = (s.rule.name, self.chunk(s));
                let way = match self.parallel {
                    Parallel::Recurrent if self.options.train => format!(", states kept every {chunk} steps"),
                    Parallel::Recurrent => String::new(),
                    _ if self.products(s) => format!(", chunks of {chunk} as products"),
                    _ => format!(", chunks of {chunk} scanned twice"),
                };
                let (heads, keys, columns) = (s.heads, s.key_size, s.columns());
                writeln!(f, "          {}: {rule}, {heads} heads, state {keys} x {columns}{way}", node.name)?;
            }
        }
        for (n, plan) in &self.layers {
            let (c, name) = (&plan.config, &network.nodes[*n].name);
            let sizes = format!("{} x {}", c.num_layers * c.directions(), c.hidden_size);
            writeln!(f, "layers    {name}: {}, {sizes} units, {} ({})", c.cell.name, plan.strategy, plan.reason)?;
        }
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        writeln!(
            f,
            "memory    {:.1} MiB: {:.1} MiB + T x {} bytes",
            mib(self.bytes()),
            mib(self.fixed_bytes()),
            self.bytes_per_step()
        )?;
        write!(f, "work      {:.3} GFLOP forward", self.flops() as f64 / 1e9)
    }
}
