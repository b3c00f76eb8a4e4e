//! A pool's slots on a GPU: one buffer, and two kernels between it and the memory of a batch.

use super::device::Gpu;
use super::pipeline::{Pipeline, entry, pipeline_of};
use super::read::download;
use crate::error::{Error, Result};
use crate::kernels::StateKernel;
use std::sync::Arc;

/// Slots of `size` values each, one behind the other.
pub(crate) struct States {
    gpu: Arc<Gpu>,
    size: usize,
    slots: usize,
    buffer: wgpu::Buffer,
    /// How often it was made anew: what binds it must bind it again.
    version: u64,
}

/// Where the pieces of a state are in one buffer of a batch: each its first element and its width, in the order of the state, with where
/// it begins in the state.
pub(crate) struct Target {
    pub buffer: wgpu::Buffer,
    /// `[in the state, in the buffer, width]` each.
    pub pieces: Vec<[usize; 3]>,
}

/// What goes between a batch's memory and a store.
pub(crate) struct Moves {
    gpu: Arc<Gpu>,
    /// Of which store, and which version of it.
    of: (u64, u64),
    /// How many streams there are and their slots: those that are read, and those that are written.
    tables: [wgpu::Buffer; 2],
    gather: Vec<Bound>,
    scatter: Vec<Bound>,
    batch: usize,
}

/// What goes between a batch and slots in one run.
#[derive(Clone, Copy)]
pub(crate) struct Moved<'a> {
    pub moves: &'a Moves,
    /// The slots that are read, and those that are written.
    pub from: &'a [u32],
    pub to: &'a [u32],
}

struct Bound {
    pipeline: Arc<Pipeline>,
    bindings: wgpu::BindGroup,
    /// The widest piece, and how many there are.
    grid: (usize, usize),
}

/// Workgroups along x at most; lanes go over the rest.
const GROUPS: usize = 4096;

impl States {
    pub(crate) fn new(gpu: &Arc<Gpu>, size: usize) -> Result<Self> {
        let gpu = Arc::clone(gpu);
        let buffer = gpu.scoped("creating the slots of a pool", || make(&gpu, "pool.states", 0))?;
        Ok(Self { gpu, size, slots: 0, buffer, version: 0 })
    }

    /// As many slots; those that stay are copied on the device.
    pub(crate) fn resize(&mut self, slots: usize) -> Result<()> {
        let limits = &self.gpu.info().limits;
        let limit = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        let needs = self.bytes(slots);
        // Kernels count elements in 32 bits.
        let (limit, limit_name) = match u64::from(u32::MAX) * 4 < limit {
            true => (u64::from(u32::MAX) * 4, "the indices of a kernel"),
            false => (limit, "the device's max_storage_buffer_binding_size"),
        };
        if needs > limit {
            let hint = "; open fewer streams, or several pools".into();
            return Err(Error::Limit {
                what: format!("states of {slots} streams"),
                needs,
                limit,
                unit: "bytes",
                limit_name,
                hint,
            });
        }
        let kept = self.bytes(self.slots.min(slots));
        let (gpu, old) = (&self.gpu, &self.buffer);
        let buffer = gpu.scoped("creating the slots of a pool", || {
            let buffer = make(gpu, "pool.states", needs);
            if kept > 0 {
                let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                encoder.copy_buffer_to_buffer(old, 0, &buffer, 0, kept);
                gpu.queue.submit([encoder.finish()]);
            }
            buffer
        })?;
        (self.buffer, self.slots, self.version) = (buffer, slots, self.version + 1);
        Ok(())
    }

    fn bytes(&self, slots: usize) -> u64 {
        4 * slots as u64 * self.size as u64
    }

    pub(crate) fn write(&self, slot: u32, values: &[f32]) -> Result<()> {
        let at = self.bytes(slot as usize);
        self.gpu.submit("writing a state", || {
            self.gpu.queue.write_buffer(&self.buffer, at, bytemuck::cast_slice(values));
        })
    }

    pub(crate) async fn read(&self, slot: u32) -> Result<Vec<f32>> {
        download(&self.gpu, &self.buffer, slot as usize * self.size, self.size).await
    }

    pub(crate) async fn read_all(&self) -> Result<Vec<f32>> {
        download(&self.gpu, &self.buffer, 0, self.slots * self.size).await
    }

    /// What tells it, as it is now, from all others; `id`: of the store.
    pub(crate) fn version(&self, id: u64) -> (u64, u64) {
        (id, self.version)
    }
}

impl Moves {
    /// For batches of up to so many streams.
    pub(crate) fn new(states: &States, id: u64, batch: usize, [before, after]: [&[Target]; 2]) -> Result<Self> {
        let gpu = &states.gpu;
        let bytes = 4 * (1 + batch as u64);
        let tables = gpu.scoped("creating the tables of a pool", || {
            ["pool.read", "pool.written"].map(|label| make(gpu, label, bytes))
        })?;
        let bind = |kernel: StateKernel, targets: &[Target], table: &wgpu::Buffer| {
            let entries: Vec<_> = kernel.bindings().iter().enumerate().map(entry).collect();
            let pipeline = pipeline_of(gpu, kernel.name(), kernel.text(), &entries, gpu.checked)?;
            targets.iter().map(|target| bound(states, kernel, &pipeline, target, table)).collect::<Result<Vec<_>>>()
        };
        let gather = bind(StateKernel::Gather, before, &tables[0])?;
        let scatter = bind(StateKernel::Scatter, after, &tables[1])?;
        Ok(Self { gpu: Arc::clone(gpu), of: states.version(id), tables, gather, scatter, batch })
    }

    /// Whether it binds a store as that is now.
    pub(crate) fn is_of(&self, states: &States, id: u64) -> bool {
        self.of == states.version(id)
    }

    /// How many streams there are and their slots: those that the next run reads, and those that it writes.
    pub(super) fn tables(&self) -> [&wgpu::Buffer; 2] {
        self.tables.each_ref()
    }

    fn encode(&self, encoder: &mut wgpu::CommandEncoder, all: &[Bound], streams: usize) {
        if all.is_empty() {
            return;
        }
        let limit = GROUPS.min(self.gpu.info().limits.max_compute_workgroups_per_dimension as usize);
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for one in all {
            let (width, pieces) = one.grid;
            pass.set_pipeline(&one.pipeline.pipeline);
            pass.set_bind_group(0, &one.bindings, &[]);
            let groups = (streams * width).div_ceil(64).clamp(1, limit);
            pass.dispatch_workgroups(groups as u32, pieces as u32, 1);
        }
    }
}

impl Moved<'_> {
    /// Uploads which slots the next run reads and writes.
    pub(crate) fn write(&self) {
        let Self { moves, from, to } = *self;
        debug_assert!(from.len() <= moves.batch && from.len() == to.len(), "a slot per stream");
        for (table, slots) in moves.tables.iter().zip([from, to]) {
            let words: Vec<u32> = std::iter::once(slots.len() as u32).chain(slots.iter().copied()).collect();
            moves.gpu.queue.write_buffer(table, 0, bytemuck::cast_slice(&words));
        }
    }

    /// Slots → the states before the first step.
    pub(crate) fn gather(&self, encoder: &mut wgpu::CommandEncoder) {
        self.moves.encode(encoder, &self.moves.gather, self.from.len());
    }

    /// The states after the last steps → slots.
    pub(crate) fn scatter(&self, encoder: &mut wgpu::CommandEncoder) {
        self.moves.encode(encoder, &self.moves.scatter, self.to.len());
    }
}

fn bound(
    states: &States,
    kernel: StateKernel,
    pipeline: &Arc<Pipeline>,
    target: &Target,
    table: &wgpu::Buffer,
) -> Result<Bound> {
    let gpu = &states.gpu;
    let places = target.pieces.iter().flatten().map(|&n| n as u32);
    let words: Vec<u32> = std::iter::once(states.size as u32).chain(places).collect();
    let bindings = gpu.scoped("creating bind groups", || {
        let pieces = make(gpu, "pool.pieces", size_of_val(&words[..]) as u64);
        gpu.queue.write_buffer(&pieces, 0, bytemuck::cast_slice(&words));
        let all = kernel.bindings().map(|(name, _)| match name {
            "pieces" => &pieces,
            "streams" => table,
            "states" => &states.buffer,
            _ => &target.buffer,
        });
        let entries: Vec<_> = all
            .iter()
            .enumerate()
            .map(|(n, buffer)| wgpu::BindGroupEntry { binding: n as u32, resource: buffer.as_entire_binding() })
            .collect();
        gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(kernel.name()),
            layout: &pipeline.layout,
            entries: &entries,
        })
    })?;
    let width = target.pieces.iter().map(|piece| piece[2]).max().unwrap_or(0);
    Ok(Bound { pipeline: Arc::clone(pipeline), bindings, grid: (width, target.pieces.len()) })
}

fn make(gpu: &Gpu, label: &str, bytes: u64) -> wgpu::Buffer {
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
    let size = bytes.max(16);
    gpu.device.create_buffer(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false })
}
