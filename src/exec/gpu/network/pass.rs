//! A pass over a network, encoded: its own dispatches, and between them the stacks of recurrent layers in it, in the same submits.

use super::{Executor, Pipeline};
use crate::error::Result;
use crate::exec::Port;
use crate::exec::gpu::states::Moved;
use crate::exec::gpu::streams::RowsAt;
use crate::model::network::Op;
use crate::plan::Half;
use crate::plan::network::{Entry, NetworkPlan, SlotId, Work};
use std::ops::Range;
use std::sync::Arc;

/// Between a network and the layers in it.
#[derive(Clone, Copy)]
enum Way {
    In,
    Out,
    BackIn,
    /// Where the gradient of x goes.
    BackOut(usize),
}

impl Executor {
    /// A pass, submit by submit.
    pub(crate) fn run(&mut self, plan: &NetworkPlan, half: Half) -> Result<()> {
        let submits = self.program.passes[half as usize].submits.clone();
        self.submit_parts(plan, half, &submits, None)
    }

    /// The way there, between states that are read from slots and written to slots.
    pub(crate) fn run_streams(&mut self, plan: &NetworkPlan, moved: Moved<'_>) -> Result<()> {
        let submits = self.program.passes[Half::Forward as usize].submits.clone();
        self.submit_parts(plan, Half::Forward, &submits, Some(moved))
    }

    /// Where a value of one step is: its buffer, its first element there, and how wide its rows are.
    pub(crate) fn port(&self, plan: &NetworkPlan, value: usize) -> RowsAt {
        let first = self.program.slots[plan.values[value]];
        RowsAt { buffer: self.arena.clone(), first, stride: plan.network.values[value].width }
    }

    /// Submits of the way there, as ranges of its entries.
    pub(in crate::exec::gpu) fn forward_parts(&self) -> &[Range<usize>] {
        &self.program.passes[Half::Forward as usize].submits
    }

    /// Those of its entries that are an operation's, and waits for them.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn run_operation(&mut self, plan: &NetworkPlan, half: Half, node: usize) -> Result<()> {
        let part = self.program.passes[half as usize].of(node);
        self.submit_parts(plan, half, &[part], None)?;
        self.gpu.wait()
    }

    fn submit_parts(
        &mut self,
        plan: &NetworkPlan,
        half: Half,
        parts: &[Range<usize>],
        moved: Option<Moved<'_>>,
    ) -> Result<()> {
        self.submits += parts.len() as u64;
        self.gpu.submit("running a network", || {
            moved.into_iter().for_each(|moved| moved.write());
            for (n, part) in parts.iter().enumerate() {
                let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                moved.filter(|_| n == 0).into_iter().for_each(|moved| moved.gather(&mut encoder));
                self.encode(&mut encoder, plan, half, part.clone());
                moved.filter(|_| n + 1 == parts.len()).into_iter().for_each(|moved| moved.scatter(&mut encoder));
                self.gpu.queue.submit([encoder.finish()]);
            }
        })
    }

    /// Some entries of a pass.
    pub(in crate::exec::gpu) fn encode(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        plan: &NetworkPlan,
        half: Half,
        part: Range<usize>,
    ) {
        let entries = &self.program.passes[half as usize].entries[part];
        let is_job = |entry: &Entry| matches!(entry.work, Work::Job(_));
        // Dispatches that follow one another are one compute pass.
        for entries in entries.chunk_by(|a, b| is_job(a) && is_job(b)) {
            let node = entries[0].node;
            match entries[0].work {
                Work::Clear => self.clear_own(encoder),
                Work::Job(_) => self.dispatch(encoder, entries),
                Work::Enter => {
                    self.copy(encoder, plan, node, if half == Half::Backward { Way::BackIn } else { Way::In });
                }
                Work::Stack(part) => self.layers[plan.layers_at(node)].encode(encoder, half, part),
                Work::Leave { dx } => {
                    self.copy(encoder, plan, node, if half == Half::Backward { Way::BackOut(dx) } else { Way::Out });
                }
            }
        }
    }

    /// Jobs as one compute pass.
    fn dispatch(&self, encoder: &mut wgpu::CommandEncoder, entries: &[Entry]) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        let mut current: Option<&Arc<Pipeline>> = None;
        for entry in entries {
            let Work::Job(n) = entry.work else { continue };
            let (job, pipeline) = (&self.program.jobs[n], &self.pipelines[n]);
            if !current.is_some_and(|c| Arc::ptr_eq(c, pipeline)) {
                pass.set_pipeline(&pipeline.pipeline);
                current = Some(pipeline);
            }
            pass.set_bind_group(0, &self.bindings, &[n as u32 * self.stride]);
            pass.dispatch_workgroups(job.groups[0], job.groups[1], 1);
        }
    }

    /// What goes between the arena and a stack of layers.
    fn copy(&self, encoder: &mut wgpu::CommandEncoder, plan: &NetworkPlan, node: usize, way: Way) {
        let stack = &self.layers[plan.layers_at(node)];
        for (port, at, len) in self.ports(plan, node, way) {
            if let (Some(buffer), true) = (stack.buffer(port), len > 0) {
                let (at, size) = (4 * at as u64, 4 * len as u64);
                match way {
                    Way::In | Way::BackIn => encoder.copy_buffer_to_buffer(&self.arena, at, buffer, 0, size),
                    Way::Out | Way::BackOut(_) => encoder.copy_buffer_to_buffer(buffer, 0, &self.arena, at, size),
                }
            }
        }
    }

    /// Ports, where they are in the arena, and their elements.
    fn ports(&self, plan: &NetworkPlan, node: usize, way: Way) -> Vec<(Port, usize, usize)> {
        let Op::Layers(shape) = &plan.network.nodes[node].op else { return Vec::new() };
        let Some(state) = plan.states.iter().find(|s| s.node == node) else { return Vec::new() };
        let (x, y) = (shape.x.value, plan.network.nodes[node].value);
        let value = |id: SlotId| (self.program.slots[id], plan.slots[id].len);
        let (main, (at, len), slot, parts) = match way {
            Way::In => (Port::X, value(plan.values[x]), Some(state.initial), [Port::H0, Port::C0]),
            Way::Out => (Port::Y, value(plan.values[y]), Some(state.last), [Port::Hn, Port::Cn]),
            Way::BackIn => (Port::DY, value(plan.gradients[y]), state.d_last, [Port::DHn, Port::DCn]),
            Way::BackOut(dx) => (Port::DX, (dx, value(plan.gradients[x]).1), state.d_initial, [Port::DH0, Port::DC0]),
        };
        let slot = slot.map_or(0, |id| self.program.slots[id]);
        let states = shape.state_places(self.batch).into_iter().zip(parts);
        [(main, at, len)].into_iter().chain(states.map(|((at, len), port)| (port, slot + at, len))).collect()
    }
}
