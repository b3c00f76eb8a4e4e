//! Tokens chosen on a GPU: what a decoder's kernels bind, and what comes back of many steps at once.

use super::device::Gpu;
use super::pipeline::{Pipeline, entry, pipeline_of};
use super::read::Mapping;
use super::streams::{RowsAt, StreamEncoder};
use crate::error::Result;
use crate::kernels::{ChooseKernel, FIELDS, RowState, Words};
use std::sync::{Arc, PoisonError};

/// See the module. Made once per decoder; its buffers grow.
pub(crate) struct Choose {
    gpu: Arc<Gpu>,
    kernel: ChooseKernel,
    pipeline: Arc<Pipeline>,
    rules: wgpu::Buffer,
    buffers: Option<Buffers>,
    /// Of the run at hand.
    rows: usize,
    groups: u32,
    /// Words of the rows' state and of the log.
    len: usize,
}

struct Buffers {
    words: wgpu::Buffer,
    state: wgpu::Buffer,
    ids: wgpu::Buffer,
    readback: wgpu::Buffer,
}

/// Where a session of one step has the ids that it reads and the logits that it gives.
pub(crate) struct ChoosePorts {
    pub ids: RowsAt,
    /// Whether they are values in 32 bits.
    pub float_ids: bool,
    pub logits: RowsAt,
}

impl Choose {
    /// `rules`: the table of states after tokens; empty where every token may follow.
    pub(crate) fn new(gpu: &Arc<Gpu>, kernel: ChooseKernel, rules: &[u32]) -> Result<Self> {
        let entries: Vec<_> = kernel.bindings().iter().enumerate().map(entry).collect();
        let pipeline = pipeline_of(gpu, kernel.name(), &kernel.text(), &entries, gpu.checked)?;
        let rules = gpu.scoped("uploading a decoder's rules", || {
            let buffer = make(gpu, "decode.rules", rules.len(), Use::Storage);
            gpu.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(rules));
            buffer
        })?;
        Ok(Self { gpu: Arc::clone(gpu), kernel, pipeline, rules, buffers: None, rows: 0, groups: 0, len: 0 })
    }

    /// For a run of these rows.
    pub(crate) fn begin(&mut self, words: &Words<'_>, rows: &[RowState]) -> Result<()> {
        let logs = if self.kernel == ChooseKernel::Beam { 2 } else { 1 };
        let len = rows.len() * (FIELDS + logs * words.steps);
        let packed = words.packed();
        let bytes = |n: usize| 4 * n as u64;
        let fits = |b: &Buffers| {
            b.state.size() >= bytes(len) && b.words.size() >= bytes(packed.len()) && b.ids.size() >= bytes(rows.len())
        };
        if !self.buffers.as_ref().is_some_and(fits) {
            let gpu = &self.gpu;
            self.buffers = Some(gpu.scoped("creating a decoder's buffers", || Buffers {
                words: make(gpu, "decode.words", packed.len(), Use::Storage),
                state: make(gpu, "decode.state", len, Use::Storage),
                ids: make(gpu, "decode.ids", rows.len(), Use::Storage),
                readback: make(gpu, "decode.readback", len, Use::Read),
            })?);
        }
        (self.rows, self.len) = (rows.len(), len);
        self.groups = (rows.len() / words.width) as u32;
        let state: Vec<u32> = rows.iter().flat_map(RowState::packed).collect();
        let Some(buffers) = &self.buffers else { return Ok(()) };
        self.gpu.submit("writing a decoder's rows", || {
            self.gpu.queue.write_buffer(&buffers.words, 0, bytemuck::cast_slice(&packed));
            self.gpu.queue.write_buffer(&buffers.state, 0, bytemuck::cast_slice(&state));
        })
    }

    /// What it binds between a session and a store's tables.
    fn bind(&self, ports: &ChoosePorts, runs: &StreamEncoder<'_>) -> Result<wgpu::BindGroup> {
        let Some(buffers) = &self.buffers else { unreachable!("a run has begun") };
        let [reading, writing] = runs.tables();
        self.gpu.scoped("creating bind groups", || {
            let entries: Vec<_> = self
                .kernel
                .bindings()
                .iter()
                .enumerate()
                .map(|(n, (name, _))| {
                    let buffer = match *name {
                        "words" => &buffers.words,
                        "rules" => &self.rules,
                        "logits" => &ports.logits.buffer,
                        "state" => &buffers.state,
                        "ids" => &buffers.ids,
                        "reading" => reading,
                        _ => writing,
                    };
                    wgpu::BindGroupEntry { binding: n as u32, resource: buffer.as_entire_binding() }
                })
                .collect();
            self.gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(self.kernel.name()),
                layout: &self.pipeline.layout,
                entries: &entries,
            })
        })
    }

    /// Many runs in one submit, each on from what is chosen behind the last.
    pub(crate) fn run(&self, runs: &StreamEncoder<'_>, ports: &ChoosePorts, rounds: usize) -> Result<()> {
        let Some(buffers) = &self.buffers else { unreachable!("a run has begun") };
        let (gpu, bindings) = (&self.gpu, self.bind(ports, runs)?);
        let turn = runs.turn();
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        gpu.submit("decoding", || {
            runs.begin();
            let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            for _ in 0..rounds {
                runs.encode(gpu, &mut encoder);
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                pass.set_pipeline(&self.pipeline.pipeline);
                pass.set_bind_group(0, &bindings, &[]);
                pass.dispatch_workgroups(self.groups, 1, 1);
                drop(pass);
                let (ids, at) = (&ports.ids.buffer, 4 * ports.ids.first as u64);
                encoder.copy_buffer_to_buffer(&buffers.ids, 0, ids, at, 4 * self.rows as u64);
            }
            encoder.copy_buffer_to_buffer(&buffers.state, 0, &buffers.readback, 0, 4 * self.len as u64);
            gpu.queue.submit([encoder.finish()]);
        })
    }

    /// The rows' state and the log.
    pub(crate) async fn read(&self) -> Result<Vec<u32>> {
        let Some(buffers) = &self.buffers else { return Ok(Vec::new()) };
        let (what, size) = ("reading a decoder's tokens", 4 * self.len as u64);
        let mut mapping =
            self.gpu.submit(what, || Mapping::new(&self.gpu, std::iter::once((&buffers.readback, size))))?;
        mapping.answered().await?;
        self.gpu.heard(what, || {
            let all = mapping.view(0, size).map(|view| bytemuck::pod_collect_to_vec(&view));
            drop(mapping);
            all
        })?
    }
}

enum Use {
    Storage,
    Read,
}

fn make(gpu: &Gpu, label: &str, words: usize, of: Use) -> wgpu::Buffer {
    let usage = match of {
        Use::Storage => wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC,
        Use::Read => wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
    };
    let size = 4 * words.max(4) as u64;
    gpu.device.create_buffer(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false })
}
