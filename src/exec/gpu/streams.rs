//! Runs of streams encoded one after the other: several in one submit, with whatever comes between them.

use super::device::Gpu;
use super::executor;
use super::network;
use super::states::Moved;
use crate::plan::network::NetworkPlan;
use crate::plan::schedule::Schedule;
use crate::plan::{Half, Plan};
use std::sync::{Arc, Mutex};

/// A run of a session between a store's slots, ready to be encoded any number of times.
pub(crate) struct StreamEncoder<'a> {
    of: Of<'a>,
    moved: Moved<'a>,
}

enum Of<'a> {
    Stack(&'a executor::Executor, &'a Plan, &'a Schedule),
    Network(&'a network::Executor, &'a NetworkPlan),
}

/// Where a value of one step is: its buffer, its first element there, and how far a row is from the next.
pub(crate) struct RowsAt {
    pub buffer: wgpu::Buffer,
    pub first: usize,
    pub stride: usize,
}

impl<'a> StreamEncoder<'a> {
    pub(crate) fn of_stack(
        e: &'a executor::Executor,
        plan: &'a Plan,
        schedule: &'a Schedule,
        moved: Moved<'a>,
    ) -> Self {
        Self { of: Of::Stack(e, plan, schedule), moved }
    }

    pub(crate) fn of_network(e: &'a network::Executor, plan: &'a NetworkPlan, moved: Moved<'a>) -> Self {
        Self { of: Of::Network(e, plan), moved }
    }

    /// Held while what it encodes is submitted; a stack's weights change in one submit.
    pub(super) fn turn(&self) -> Arc<Mutex<()>> {
        match self.of {
            Of::Stack(..) => Arc::default(),
            Of::Network(e, _) => e.turn(),
        }
    }

    /// How many streams there are and their slots: those that the next run reads, and those that it writes.
    pub(super) fn tables(&self) -> [&wgpu::Buffer; 2] {
        self.moved.moves.tables()
    }

    /// Uploads these slots, for the first run.
    pub(super) fn begin(&self) {
        self.moved.write();
    }

    /// A run. What is too long for one submit is submitted in parts.
    pub(super) fn encode(&self, gpu: &Gpu, encoder: &mut wgpu::CommandEncoder) {
        let parts = match self.of {
            Of::Stack(_, plan, _) => plan.half(Half::Forward).1,
            Of::Network(e, _) => e.forward_parts(),
        };
        self.moved.gather(encoder);
        for (n, part) in parts.iter().enumerate() {
            if n > 0 {
                let next = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                gpu.queue.submit([std::mem::replace(encoder, next).finish()]);
            }
            match self.of {
                Of::Stack(e, plan, schedule) => e.encode(encoder, plan, schedule, Half::Forward, part.clone(), None),
                Of::Network(e, plan) => e.encode(encoder, plan, Half::Forward, part.clone()),
            }
        }
        self.moved.scatter(encoder);
    }
}
