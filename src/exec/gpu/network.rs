//! A program's arena, parameters and pipelines on a device: made once, then only encoded.

mod host;
mod pass;
mod update;

pub use host::{NetworkBinding, NetworkBuffers};

use super::device::Gpu;
use super::pipeline::{Pipeline, pipeline_of};
use super::read::{Mapping, download};
use super::states::Target;
use crate::error::Result;
use crate::exec::states::Piece;
use crate::exec::{Device, Stack};
use crate::model::network::{Network, Op};
use crate::num::random::Masks;
use crate::plan::Plan;
use crate::plan::network::{Job, NetworkPlan, Program, SlotId, Times};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use update::Update;

#[cfg(not(target_family = "wasm"))]
use rayon::prelude::*;

/// What sessions of one network share. (Pipelines are the device's, by their texts; stacks share theirs themselves.)
struct Shared {
    /// The parameters of the network's own operations.
    params: wgpu::Buffer,
    /// Per stack, where an optimiser has its parameters in canonical order; none where there is no optimiser.
    of_stacks: Vec<wgpu::Buffer>,
    /// Whether an optimiser changes them.
    is_updated: bool,
    /// Held while a run, or a change of the parameters, is submitted: a run on another thread has those of before or after.
    turn: Arc<Mutex<()>>,
}

/// A plan bound to a device.
pub(crate) struct Executor {
    gpu: Arc<Gpu>,
    program: Arc<Program>,
    shared: Arc<Shared>,
    arena: wgpu::Buffer,
    times: wgpu::Buffer,
    readback: wgpu::Buffer,
    /// Between two places of the arena: a buffer is not copied onto itself.
    carry: wgpu::Buffer,
    bindings: wgpu::BindGroup,
    /// Distance between two uniform blocks.
    stride: u32,
    /// Per job of the program's.
    pipelines: Vec<Arc<Pipeline>>,
    /// Where the parameters are updated.
    update: Option<Update>,
    batch: usize,
    /// Elements of a gap between two slots.
    #[cfg_attr(target_family = "wasm", expect(dead_code, reason = "what looks at gaps waits for them"))]
    guard: usize,
    /// One per entry of [`NetworkPlan::layers`].
    layers: Vec<Stack<f32>>,
    /// Of the network's own buffers, since it was made; for tests.
    pub(crate) bytes_written: u64,
    pub(crate) submits: u64,
}

/// One layout for all kernels: a block of words, the arena, parameters, lengths and resets.
fn layout() -> [wgpu::BindGroupLayoutEntry; 4] {
    let entry = |binding, ty, has_dynamic_offset| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset, min_binding_size: None },
        count: None,
    };
    let storage = |read_only| wgpu::BufferBindingType::Storage { read_only };
    [
        entry(0, wgpu::BufferBindingType::Uniform, true),
        entry(1, storage(false), false),
        entry(2, storage(true), false),
        entry(3, storage(true), false),
    ]
}

impl Executor {
    /// `params`: all parameters, one after the other.
    pub(crate) fn new(gpu: &Arc<Gpu>, plan: &NetworkPlan, device: &Device, params: &[f32]) -> Result<Self> {
        let stack = |(n, _): &(usize, _)| Stack::of_node(plan, *n, device, params);
        let layers: Vec<Stack<f32>> = plan.layers.iter().map(stack).collect::<Result<_>>()?;
        let own = own_params(&plan.network, params);
        let buffer = gpu.scoped("uploading parameters", || {
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
            let buffer = buffer(gpu, "network.params", own.len(), usage);
            gpu.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&own));
            buffer
        })?;
        let of_stacks = layers.iter().filter_map(Stack::parameters_buffer).cloned().collect();
        let is_updated = plan.options.optimiser.is_some();
        let shared = Shared { params: buffer, of_stacks, is_updated, turn: Arc::default() };
        Self::with_shared(gpu, plan, Arc::new(shared), layers)
    }

    /// Another plan of the network over the same parameters.
    pub(crate) fn sibling(&self, plan: &NetworkPlan) -> Result<Self> {
        let stack = |(n, of): &(usize, Plan)| self.layers[plan.layers_at(*n)].sibling(of);
        let layers = plan.layers.iter().map(stack).collect::<Result<_>>()?;
        Self::with_shared(&self.gpu, plan, Arc::clone(&self.shared), layers)
    }

    fn with_shared(gpu: &Arc<Gpu>, plan: &NetworkPlan, shared: Arc<Shared>, layers: Vec<Stack<f32>>) -> Result<Self> {
        let Some(program) = plan.program.clone() else { unreachable!("the plan of a GPU has a program") };
        let jobs: Vec<&Job> = program.jobs.iter().collect();
        // Several at a time; equal texts wait for one another.
        let compile = |job: &&Job| pipeline_of(gpu, job.name, &job.text, &layout(), gpu.checked);
        #[cfg(not(target_family = "wasm"))]
        let pipelines: Vec<Arc<Pipeline>> = jobs.par_iter().map(compile).collect::<Result<_>>()?;
        #[cfg(target_family = "wasm")]
        let pipelines: Vec<Arc<Pipeline>> = jobs.iter().map(compile).collect::<Result<_>>()?;
        let alignment = gpu.info().limits.min_uniform_buffer_offset_alignment;
        let block = jobs.iter().map(|j| 4 * j.words.len() as u32).max().unwrap_or(16);
        let stride = block.next_multiple_of(alignment);
        let mut blocks: Vec<u8> = Vec::new();
        for (n, job) in jobs.iter().enumerate() {
            blocks.extend_from_slice(bytemuck::cast_slice(&job.words));
            blocks.resize((n + 1) * stride as usize, 0);
        }
        let mut executor = gpu.scoped("creating a network's buffers", || {
            use wgpu::BufferUsages as Usage;
            let buffer = |label, len: usize, usage| buffer(gpu, label, len, usage);
            let storage = Usage::STORAGE | Usage::COPY_DST;
            let arena = buffer("network.arena", program.len, storage | Usage::COPY_SRC);
            let times = buffer("network.times", 1 + plan.shape.batch + plan.rows(), storage);
            let words = buffer("network.words", blocks.len() / 4, Usage::UNIFORM | Usage::COPY_DST);
            let readback = buffer("network.readback", plan.readback_len(), Usage::MAP_READ | Usage::COPY_DST);
            let states = plan.states.iter().map(|s| plan.slots[s.last].len).sum();
            let carry = buffer("network.carry", states, Usage::COPY_SRC | Usage::COPY_DST);
            gpu.queue.write_buffer(&words, 0, &blocks);
            let layout = gpu.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: Some("network"),
                entries: &layout(),
            });
            let size = std::num::NonZero::new(u64::from(block));
            let words = wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer: &words, offset: 0, size });
            let all = [words, arena.as_entire_binding(), shared.params.as_entire_binding(), times.as_entire_binding()];
            let entry = |(n, resource)| wgpu::BindGroupEntry { binding: n as u32, resource };
            let entries: Vec<_> = all.into_iter().enumerate().map(entry).collect();
            let bindings = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some("network"),
                layout: &layout,
                entries: &entries,
            });
            let (gpu, batch) = (Arc::clone(gpu), plan.shape.batch);
            Self {
                gpu,
                program,
                shared,
                arena,
                times,
                readback,
                carry,
                bindings,
                stride,
                pipelines,
                update: None,
                batch,
                guard: plan.options.guard,
                layers,
                bytes_written: 0,
                submits: 0,
            }
        })?;
        let Self { gpu, program, arena, shared, .. } = &executor;
        executor.update = Update::new(gpu, plan, program, [arena, &shared.params])?;
        Ok(executor)
    }

    /// Held while parameters, or what reads them, are submitted.
    pub(crate) fn turn(&self) -> Arc<Mutex<()>> {
        Arc::clone(&self.shared.turn)
    }

    /// Whether an optimiser changes the parameters: its own, or that of the session that they were given to.
    pub(crate) fn is_updated(&self) -> bool {
        self.shared.is_updated
    }

    /// All parameters as they are now.
    pub(crate) async fn params(&self, plan: &NetworkPlan) -> Result<Vec<f32>> {
        let Shared { params, of_stacks: buffers, .. } = &*self.shared;
        let own = download(&self.gpu, params, 0, self.program.params.1).await?;
        let mut of_stacks = Vec::new();
        for ((_, stack), buffer) in plan.layers.iter().zip(buffers) {
            of_stacks.push(download(&self.gpu, buffer, 0, stack.config.parameter_count() as usize).await?);
        }
        Ok(self.joined(plan, &own, &of_stacks))
    }

    /// One number per parameter of the network, of those of its own operations and those of every stack.
    fn joined(&self, plan: &NetworkPlan, own: &[f32], of_stacks: &[Vec<f32>]) -> Vec<f32> {
        let network = &plan.network;
        let mut all = vec![0.0; network.parameter_count()];
        for (n, place) in self.program.params.0.iter().enumerate() {
            if let Some(at) = *place {
                let len = network.params[n].len();
                all[network.param_offset(n)..][..len].copy_from_slice(&own[at..][..len]);
            }
        }
        for ((n, _), values) in plan.layers.iter().zip(of_stacks) {
            if let Op::Layers(shape) = &network.nodes[*n].op {
                all[shape.params(network)].copy_from_slice(values);
            }
        }
        all
    }

    /// Other parameters.
    pub(crate) fn set_params(&mut self, plan: &NetworkPlan, params: &[f32]) -> Result<()> {
        let turn = self.turn();
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let own = own_params(&plan.network, params);
        self.bytes_written += 4 * own.len() as u64;
        self.gpu.submit("writing parameters", || {
            self.gpu.queue.write_buffer(&self.shared.params, 0, bytemuck::cast_slice(&own));
        })?;
        let mut stacks = self.layers.iter_mut().zip(&plan.layers);
        stacks.try_for_each(|(stack, (n, _))| stack.set_params(plan, *n, params))
    }

    /// Lengths and resets of the runs to come.
    pub(crate) fn write_times(&mut self, times: &Times) -> Result<()> {
        for stack in &mut self.layers {
            stack.set_times(&times.lengths, &times.resets)?;
        }
        let flags = times.resets.iter().map(|&r| u32::from(r));
        let words = [u32::from(!times.resets.is_empty())]
            .into_iter()
            .chain(times.lengths.iter().map(|&l| l as u32))
            .chain(flags);
        let words: Vec<u32> = words.collect();
        debug_assert!(words.len() > self.batch, "a length per sequence");
        self.bytes_written += 4 * words.len() as u64;
        self.gpu.submit("writing lengths", || self.gpu.queue.write_buffer(&self.times, 0, bytemuck::cast_slice(&words)))
    }

    /// Sets the masks of the runs to come, of every stack of layers.
    pub(crate) fn set_masks(&mut self, masks: &[Masks]) -> Result<()> {
        self.layers.iter_mut().zip(masks).try_for_each(|(stack, masks)| stack.set_masks(*masks))
    }

    /// The values of slots, and behind them, if asked for, the gradients of all parameters.
    pub(crate) async fn read_slots(&self, plan: &NetworkPlan, slots: &[SlotId], params: bool) -> Result<Vec<Vec<f32>>> {
        let slots = slots.iter().map(|&s| (self.program.slots[s], plan.slots[s].len));
        let own = params.then_some((self.program.param_gradients, self.program.params.1));
        let mut read = self.read(&slots.chain(own).collect::<Vec<_>>()).await?;
        if let Some(own) = params.then(|| read.pop()).flatten() {
            let mut of_stacks = Vec::new();
            for stack in &self.layers {
                of_stacks.push(stack.flat_gradients().await?);
            }
            read.push(self.joined(plan, &own, &of_stacks));
        }
        Ok(read)
    }

    /// The values of any slot.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) async fn download(&self, plan: &NetworkPlan, slot: SlotId) -> Result<Vec<f32>> {
        download(&self.gpu, &self.arena, self.program.slots[slot], plan.slots[slot].len).await
    }

    pub(crate) fn write_slot(&mut self, slot: SlotId, values: &[f32]) -> Result<()> {
        let at = 4 * self.program.slots[slot] as u64;
        self.bytes_written += 4 * values.len() as u64;
        let write = || self.gpu.queue.write_buffer(&self.arena, at, bytemuck::cast_slice(values));
        self.gpu.submit("writing a buffer", write)
    }

    /// Pieces of slots, from values that lie one after the other.
    pub(crate) fn write_pieces(&mut self, pieces: &[(SlotId, Range<usize>)], mut values: &[f32]) -> Result<()> {
        self.bytes_written += 4 * values.len() as u64;
        self.gpu.submit("writing states", || {
            for (slot, piece) in pieces {
                let (now, later) = values.split_at(piece.len());
                let at = 4 * (self.program.slots[*slot] + piece.start) as u64;
                self.gpu.queue.write_buffer(&self.arena, at, bytemuck::cast_slice(now));
                values = later;
            }
        })
    }

    /// Pieces of slots, one after the other.
    pub(crate) async fn read_pieces(&self, pieces: &[(SlotId, Range<usize>)]) -> Result<Vec<f32>> {
        let place = |(slot, piece): &(SlotId, Range<usize>)| (self.program.slots[*slot] + piece.start, piece.len());
        Ok(self.read(&pieces.iter().map(place).collect::<Vec<_>>()).await?.concat())
    }

    /// Fills the arena with one value, and what layers work in with NaN.
    pub(crate) fn fill(&mut self, value: f32) -> Result<()> {
        self.layers.iter_mut().try_for_each(Stack::poison)?;
        let values = vec![value; self.program.len];
        self.bytes_written += 4 * values.len() as u64;
        self.gpu
            .submit("filling the arena", || self.gpu.queue.write_buffer(&self.arena, 0, bytemuck::cast_slice(&values)))
    }

    /// Zeros in the gradients of all values, and of the states after the last steps.
    pub(crate) fn clear_gradients(&mut self) -> Result<()> {
        self.submits += 1;
        self.gpu.submit("clearing gradients", || {
            let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            for &(first, count) in &self.program.gradients {
                encoder.clear_buffer(&self.arena, 4 * first as u64, Some(4 * count as u64));
            }
            self.gpu.queue.submit([encoder.finish()]);
        })
    }

    /// Whether the gaps between slots hold what [`Executor::fill`] filled them with: NaN.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn guards_hold(&self) -> Result<bool> {
        let all = self.gpu.block(download(&self.gpu, &self.arena, 0, self.program.len))?;
        let guard = |&at: &usize| all[at..][..self.guard].iter().all(|v| v.is_nan());
        Ok(self.program.guards.iter().all(guard))
    }

    /// Where pieces of states are in the arena.
    pub(crate) fn targets(&self, pieces: &[Piece]) -> Vec<Target> {
        let mut at = 0;
        let place = |piece: &Piece| {
            at += piece.width;
            [at - piece.width, self.program.slots[piece.slot] + piece.first, piece.width]
        };
        let pieces: Vec<_> = pieces.iter().map(place).collect();
        (!pieces.is_empty()).then(|| Target { buffer: self.arena.clone(), pieces }).into_iter().collect()
    }

    /// The states after the last steps become those before the first: all in one submit.
    pub(crate) fn carry(&mut self, plan: &NetworkPlan) -> Result<()> {
        if plan.states.is_empty() {
            return Ok(());
        }
        self.submits += 1;
        self.gpu.submit("carrying the states", || {
            let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            self.copy_states(&mut encoder, plan);
            self.gpu.queue.submit([encoder.finish()]);
        })
    }

    fn copy_states(&self, encoder: &mut wgpu::CommandEncoder, plan: &NetworkPlan) {
        let at = |slot: SlotId| 4 * self.program.slots[slot] as u64;
        let mut end = 0;
        let mut places = Vec::new();
        for s in &plan.states {
            let size = 4 * plan.slots[s.last].len as u64;
            encoder.copy_buffer_to_buffer(&self.arena, at(s.last), &self.carry, end, size);
            places.push((s.initial, end, size));
            end += size;
        }
        for (initial, from, size) in places {
            encoder.copy_buffer_to_buffer(&self.carry, from, &self.arena, at(initial), size);
        }
    }

    /// Places of the arena, first element and count, in one submit and one wait.
    async fn read(&self, places: &[(usize, usize)]) -> Result<Vec<Vec<f32>>> {
        let gpu = &self.gpu;
        let total = 4 * places.iter().map(|(_, len)| *len as u64).sum::<u64>();
        if total == 0 {
            return Ok(vec![Vec::new(); places.len()]);
        }
        let mut mapping = gpu.submit("reading back", || {
            let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            let mut to = 0;
            for &(at, len) in places.iter().filter(|(_, len)| *len > 0) {
                encoder.copy_buffer_to_buffer(&self.arena, 4 * at as u64, &self.readback, to, 4 * len as u64);
                to += 4 * len as u64;
            }
            gpu.queue.submit([encoder.finish()]);
            Mapping::new(gpu, std::iter::once((&self.readback, total)))
        })?;
        mapping.answered().await?;
        let all: Vec<f32> = gpu.heard("reading back", || {
            let all = mapping.view(0, total).map(|view| bytemuck::pod_collect_to_vec(&view));
            drop(mapping);
            all
        })??;
        let mut rest = &all[..];
        let mut next = |len: usize| {
            let (own, others) = rest.split_at(len);
            rest = others;
            own.to_vec()
        };
        Ok(places.iter().map(|(_, len)| next(*len)).collect())
    }
}

/// The parameters that the network's own operations read, of all.
fn own_params(network: &Network, params: &[f32]) -> Vec<f32> {
    let places = network.own_params().0;
    let own = places.iter().enumerate().filter(|(_, place)| place.is_some());
    own.flat_map(|(n, _)| &params[network.param_offset(n)..][..network.params[n].len()]).copied().collect()
}

/// A buffer of so many elements; no fewer than any kernel may bind.
fn buffer(gpu: &Gpu, label: &str, len: usize, usage: wgpu::BufferUsages) -> wgpu::Buffer {
    let size = 4 * len.max(4) as u64;
    gpu.device.create_buffer(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false })
}
