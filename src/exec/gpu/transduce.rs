//! A transducer's rounds on a GPU: the joint network, the choice, the prediction network, many times in one submit.

use super::device::Gpu;
use super::pipeline::{Pipeline, entry, pipeline_of};
use super::read::Mapping;
use super::streams::{RowsAt, StreamEncoder};
use crate::error::Result;
use crate::kernels::{Access, ChooseKernel, TransducerPlaces, TransducerWords};
use std::sync::{Arc, PoisonError};

/// See the module.
pub(crate) struct Transduce {
    gpu: Arc<Gpu>,
    join: Arc<Pipeline>,
    choose: Arc<Pipeline>,
}

/// Where two sessions of one step have what a round goes by.
pub(crate) struct TransducePorts {
    /// Of the prediction network: its ids, and what it gives.
    pub ids: RowsAt,
    pub given: RowsAt,
    /// Of the joint network: its inputs and its outputs, of which the second may not be there.
    pub encoded: RowsAt,
    pub predicted: RowsAt,
    pub logits: RowsAt,
    pub durations: Option<RowsAt>,
}

/// What a run uploads.
pub(crate) struct TransduceRun<'a> {
    pub words: TransducerWords<'a>,
    /// The rows' state, packed.
    pub state: &'a [u32],
    /// Per row a slot that nobody reads.
    pub spare: &'a [u32],
    /// `[rows, window, width]`
    pub encoded: &'a [f32],
}

impl Transduce {
    pub(crate) fn new(gpu: &Arc<Gpu>) -> Result<Self> {
        let pipeline = |kernel: ChooseKernel| {
            let entries: Vec<_> = kernel.bindings().iter().enumerate().map(entry).collect();
            pipeline_of(gpu, kernel.name(), &kernel.text(), &entries, gpu.checked)
        };
        Ok(Self {
            gpu: Arc::clone(gpu),
            join: pipeline(ChooseKernel::Join)?,
            choose: pipeline(ChooseKernel::Transduce)?,
        })
    }

    /// Runs rounds; what they leave is the rows' state and the log, then what the joint network would read of the prediction network next.
    pub(crate) fn run(
        &self,
        (joint, prediction): (&StreamEncoder<'_>, &StreamEncoder<'_>),
        ports: &TransducePorts,
        run: &TransduceRun<'_>,
    ) -> Result<TransduceResult<'_>> {
        let gpu = &self.gpu;
        let place = |port: &RowsAt| (port.first, port.stride);
        let words = run.words.packed(&TransducerPlaces {
            logits: place(&ports.logits),
            durations: ports.durations.as_ref().map_or((0, 0), place),
            encoded: ports.encoded.first,
            predicted: ports.predicted.first,
            given: place(&ports.given),
        });
        let (rows, rounds) = (run.words.rows, run.words.rounds);
        let len = run.state.len() + 2 * rounds * rows;
        let predicted = rows * run.words.predicted;
        let buffer = |label: &str, words: usize, usage| {
            let size = 4 * words.max(4) as u64;
            gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size,
                usage,
                mapped_at_creation: false,
            })
        };
        let storage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        let read = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let made = gpu.scoped("creating a transducer's buffers", || {
            let of_words = buffer("transduce.words", words.len(), storage);
            let encoded = buffer("transduce.encoded", run.encoded.len(), storage);
            let state = buffer("transduce.state", len, storage);
            let spare = buffer("transduce.spare", run.spare.len(), storage);
            let ids = buffer("transduce.ids", rows, storage);
            let back = buffer("transduce.readback", len + predicted, read);
            gpu.queue.write_buffer(&of_words, 0, bytemuck::cast_slice(&words));
            gpu.queue.write_buffer(&encoded, 0, bytemuck::cast_slice(run.encoded));
            gpu.queue.write_buffer(&state, 0, bytemuck::cast_slice(run.state));
            gpu.queue.write_buffer(&spare, 0, bytemuck::cast_slice(run.spare));
            let [_, writing] = prediction.tables();
            let bind = |kernel: ChooseKernel, pipeline: &Pipeline| {
                let of_name = |&(name, _): &(&str, Access)| match name {
                    "words" => &of_words,
                    "encoded" => &encoded,
                    "given" => &ports.given.buffer,
                    "state" => &state,
                    "joint" => &ports.encoded.buffer,
                    "logits" => &ports.logits.buffer,
                    "ids" => &ids,
                    "writing" => writing,
                    _ => &spare,
                };
                let buffers = kernel.bindings().iter().map(of_name).enumerate();
                let entries: Vec<_> = buffers
                    .map(|(n, b)| wgpu::BindGroupEntry { binding: n as u32, resource: b.as_entire_binding() })
                    .collect();
                gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
                    label: Some(kernel.name()),
                    layout: &pipeline.layout,
                    entries: &entries,
                })
            };
            (bind(ChooseKernel::Join, &self.join), bind(ChooseKernel::Transduce, &self.choose), state, ids, back)
        })?;
        let (join, choose, state, ids, back) = made;
        let turns = [joint.turn(), prediction.turn()];
        let _turns = turns.each_ref().map(|turn| turn.lock().unwrap_or_else(PoisonError::into_inner));
        gpu.submit("transducing", || {
            joint.begin();
            prediction.begin();
            let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            let dispatch = |encoder: &mut wgpu::CommandEncoder, pipeline: &Pipeline, bindings: &wgpu::BindGroup| {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                pass.set_pipeline(&pipeline.pipeline);
                pass.set_bind_group(0, bindings, &[]);
                pass.dispatch_workgroups(rows as u32, 1, 1);
            };
            for _ in 0..rounds {
                dispatch(&mut encoder, &self.join, &join);
                joint.encode(gpu, &mut encoder);
                dispatch(&mut encoder, &self.choose, &choose);
                encoder.copy_buffer_to_buffer(&ids, 0, &ports.ids.buffer, 4 * ports.ids.first as u64, 4 * rows as u64);
                prediction.encode(gpu, &mut encoder);
            }
            dispatch(&mut encoder, &self.join, &join);
            let bytes = 4 * len as u64;
            encoder.copy_buffer_to_buffer(&state, 0, &back, 0, bytes);
            let (from, first) = (&ports.predicted.buffer, 4 * ports.predicted.first as u64);
            encoder.copy_buffer_to_buffer(from, first, &back, bytes, 4 * predicted as u64);
            gpu.queue.submit([encoder.finish()]);
        })?;
        Ok(TransduceResult { gpu, back, len: len + predicted })
    }
}

/// What a run leaves, to be read.
pub(crate) struct TransduceResult<'a> {
    gpu: &'a Gpu,
    back: wgpu::Buffer,
    len: usize,
}

impl TransduceResult<'_> {
    pub(crate) async fn read(&self) -> Result<Vec<u32>> {
        let (what, size) = ("reading a transducer's tokens", 4 * self.len as u64);
        let mut mapping = self.gpu.submit(what, || Mapping::new(self.gpu, std::iter::once((&self.back, size))))?;
        mapping.answered().await?;
        self.gpu.heard(what, || {
            let all = mapping.view(0, size).map(|view| bytemuck::pod_collect_to_vec(&view));
            drop(mapping);
            all
        })?
    }
}
