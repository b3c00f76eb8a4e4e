//! Buffers of the host's own in the place of a network's inputs and outputs, and passes encoded for the host to submit.

use super::{Executor, Pipeline, layout};
use crate::error::{Error, Result};
use crate::exec::gpu::pipeline::pipeline_of;
use crate::model::network::Part;
use crate::plan::Half;
use crate::plan::network::NetworkPlan;
use std::sync::Arc;

/// The caller's own buffers of f32 for a network's inputs and outputs, one per input and output in the network's order; `None`: the
/// input written last, or an output that is not wanted. All need `BufferUsages::STORAGE` and room for `[T, B, width]` (or `[B, width]`)
/// values, and must be made by the session's own `wgpu::Device` ([`crate::Device::wgpu`]).
#[derive(Clone, Copy, Default)]
pub struct NetworkBuffers<'a> {
    /// Those that the runs read. What stands past a sequence's end is not read. Inputs of token ids, targets or weights must be `None`.
    pub inputs: &'a [Option<&'a wgpu::Buffer>],
    /// Those that the runs write; 0 past a sequence's end.
    pub outputs: &'a [Option<&'a wgpu::Buffer>],
}

/// Bind groups over the caller's buffers, from [`crate::network::NetworkSession::bind`].
pub struct NetworkBinding {
    inputs: Vec<Exchange>,
    outputs: Vec<Exchange>,
}

/// A dispatch between the arena and a buffer of the host's.
struct Exchange {
    pipeline: Arc<Pipeline>,
    bindings: wgpu::BindGroup,
    groups: [u32; 2],
}

impl Executor {
    /// Makes what goes between the arena and the caller's buffers.
    pub(crate) fn bind_host(&self, plan: &NetworkPlan, buffers: &NetworkBuffers<'_>) -> Result<NetworkBinding> {
        let network = &plan.network;
        let whole = |&value: &usize| {
            let of = &network.values[value];
            (of.name.as_str(), Part { value, first: 0, width: of.width })
        };
        let inputs: Vec<_> = network.inputs.iter().map(whole).collect();
        let outputs: Vec<_> = network.outputs.iter().map(|(name, part)| (name.as_str(), *part)).collect();
        let all = |what: &str, parts: &[(&str, Part)], given: &[Option<&wgpu::Buffer>], inward: bool| {
            // An empty list is none of any.
            if !given.is_empty() && given.len() != parts.len() {
                return Err(Error::mismatch(format!("buffers of {what}"), parts.len(), given.len()));
            }
            let bound = parts.iter().zip(given).filter_map(|((name, part), buffer)| Some((name, part, (*buffer)?)));
            bound.map(|(name, part, buffer)| self.exchange(plan, name, *part, buffer, inward)).collect()
        };
        Ok(NetworkBinding {
            inputs: all("inputs", &inputs, buffers.inputs, true)?,
            outputs: all("outputs", &outputs, buffers.outputs, false)?,
        })
    }

    fn exchange(
        &self,
        plan: &NetworkPlan,
        name: &str,
        part: Part,
        buffer: &wgpu::Buffer,
        inward: bool,
    ) -> Result<Exchange> {
        let wanted = 4 * (plan.rows_of(part.value) * part.width) as u64;
        if buffer.size() < wanted {
            let got = format!("{} bytes", buffer.size());
            return Err(Error::mismatch(format!("buffer {name}"), format!("at least {wanted} bytes"), got));
        }
        let job = plan.exchange(&self.program, part, inward)?;
        let [words, arena, params, times] = layout();
        let host = wgpu::BindGroupLayoutEntry { binding: 4, ..arena };
        let pipeline =
            pipeline_of(&self.gpu, job.name, &job.text, &[words, arena, params, times, host], self.gpu.checked)?;
        let bindings = self.gpu.scoped("creating bind groups", || {
            let block = self.gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(job.name),
                size: 4 * job.words.len() as u64,
                usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            });
            self.gpu.queue.write_buffer(&block, 0, bytemuck::cast_slice(&job.words));
            let all =
                [&block, &self.arena, &self.shared.params, &self.times, buffer].map(wgpu::Buffer::as_entire_binding);
            let entry = |(n, resource)| wgpu::BindGroupEntry { binding: n as u32, resource };
            let entries: Vec<_> = all.into_iter().enumerate().map(entry).collect();
            self.gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(job.name),
                layout: &pipeline.layout,
                entries: &entries,
            })
        })?;
        Ok(Exchange { pipeline, bindings, groups: job.groups })
    }

    /// Encodes one of the submits of the way there: before the first what comes from the caller's buffers, behind the last what goes
    /// to them.
    pub(crate) fn encode_host(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        plan: &NetworkPlan,
        index: usize,
        binding: &NetworkBinding,
    ) -> Result<()> {
        let submits = &self.program.passes[Half::Forward as usize].submits;
        self.gpu.submit("encoding", || {
            if index == 0 {
                exchange(encoder, &binding.inputs);
            }
            self.encode(encoder, plan, Half::Forward, submits[index].clone());
            if index + 1 == submits.len() {
                exchange(encoder, &binding.outputs);
            }
        })
    }

    /// Encodes that the states after the last steps become those before the first.
    pub(crate) fn encode_carry(&self, encoder: &mut wgpu::CommandEncoder, plan: &NetworkPlan) -> Result<()> {
        self.gpu.submit("encoding", || self.copy_states(encoder, plan))
    }
}

fn exchange(encoder: &mut wgpu::CommandEncoder, all: &[Exchange]) {
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
    for one in all {
        pass.set_pipeline(&one.pipeline.pipeline);
        pass.set_bind_group(0, &one.bindings, &[0]);
        pass.dispatch_workgroups(one.groups[0], one.groups[1], 1);
    }
}
