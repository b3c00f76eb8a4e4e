//! A stack of layers bound to a device, with the lengths and episodes of the runs to come: what a [`crate::Session`] runs, and what a
//! network runs between its own operations.

use super::gpu::StreamEncoder;
use super::states::Streams;
use super::{Device, Element, Executor};
use crate::error::Result;
use crate::kernels::Kernel;
use crate::model::network::Op;
use crate::model::weights::Weights;
use crate::num::random::Masks;
use crate::plan::network::NetworkPlan;
use crate::plan::schedule::Schedule;
use crate::plan::{Empty, Half, Plan, Role, SlotId, Step, UpdateIds};
use std::ops::Range;

/// See the module.
pub(crate) struct Stack<T: Element> {
    pub executor: Executor<T>,
    pub schedule: Schedule,
    pub lengths: Option<Vec<usize>>,
    pub resets: Option<Vec<bool>>,
    /// What becomes of sequences of length 0 in the runs to come.
    empty: Empty,
}

/// What a stack reads and gives: absent where its configuration has no cell state, or its plan does not train.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    X,
    H0,
    C0,
    Y,
    Hn,
    Cn,
    DY,
    DHn,
    DCn,
    DX,
    DH0,
    DC0,
}

impl<T: Element> Stack<T> {
    /// Binds a plan with weights of its own.
    pub(crate) fn new(device: &Device, plan: &Plan, weights: &Weights<T>) -> Result<Self> {
        Self::with_executor(Executor::new(device, plan, weights)?)
    }

    /// The stack that is a network's operation `node`; `params`: all of the network's parameters.
    pub(crate) fn of_node(plan: &NetworkPlan, node: usize, device: &Device, params: &[T]) -> Result<Self> {
        Self::new(device, &plan.layers[plan.layers_at(node)].1, &weights(plan, node, params))
    }

    /// Other parameters for it.
    pub(crate) fn set_params(&mut self, plan: &NetworkPlan, node: usize, params: &[T]) -> Result<()> {
        self.executor.set_weights(&weights(plan, node, params))
    }

    /// Another plan over the same weights.
    pub(crate) fn sibling(&self, plan: &Plan) -> Result<Self> {
        Self::with_executor(self.executor.sibling(plan)?)
    }

    fn with_executor(executor: Executor<T>) -> Result<Self> {
        let empty = executor.plan().options.empty;
        let schedule = schedule(executor.plan(), None, None, empty);
        executor.write_schedule(&schedule)?;
        Ok(Self { executor, schedule, lengths: None, resets: None, empty })
    }

    /// Sets lengths and episodes; whether they are others than before.
    ///
    /// # Errors
    /// [`crate::Error::Mismatch`] for a wrong count or a length outside 0..=T.
    pub(crate) fn set_schedule(&mut self, lengths: Option<&[usize]>, resets: Option<&[bool]>) -> Result<bool> {
        let empty = self.executor.plan().options.empty;
        self.set_schedule_where(lengths, resets, empty)
    }

    /// The same where sequences of length 0 end as `empty` says.
    pub(crate) fn set_schedule_where(
        &mut self,
        lengths: Option<&[usize]>,
        resets: Option<&[bool]>,
        empty: Empty,
    ) -> Result<bool> {
        if let Some(lengths) = lengths {
            self.executor.plan().shape.validate_lengths(lengths)?;
        }
        if self.lengths.as_deref() == lengths && self.resets.as_deref() == resets && self.empty == empty {
            return Ok(false);
        }
        let schedule = schedule(self.executor.plan(), lengths, resets, empty);
        // First, so that after a failed upload the same lengths are not taken for done.
        self.executor.write_schedule(&schedule)?;
        self.schedule = schedule;
        self.lengths = lengths.map(<[usize]>::to_vec);
        self.resets = resets.map(<[bool]>::to_vec);
        self.empty = empty;
        Ok(true)
    }

    /// The same as a network has them: every length, and flags or none.
    pub(crate) fn set_times(&mut self, lengths: &[usize], resets: &[bool]) -> Result<()> {
        let ragged = lengths.iter().any(|&l| l < self.executor.plan().shape.time);
        self.set_schedule(ragged.then_some(lengths), (!resets.is_empty()).then_some(resets)).map(drop)
    }

    /// Whether its runs draw masks.
    pub(crate) fn drops(&self) -> bool {
        let plan = self.executor.plan();
        plan.config.drops(plan.train)
    }

    /// Sets the masks of the runs to come, where they draw any.
    pub(crate) fn set_masks(&mut self, masks: Masks) -> Result<()> {
        if self.drops() { self.executor.set_masks(masks) } else { Ok(()) }
    }

    /// Runs a pass.
    pub(crate) fn run(&mut self, half: Half, read: &[SlotId]) -> Result<()> {
        self.executor.run(&self.schedule, half, read)
    }

    /// Runs the way there between the slots of `streams`.
    pub(crate) fn run_streams(&mut self, streams: &mut Streams<'_, T>, read: &[SlotId]) -> Result<()> {
        self.executor.run_streams(&self.schedule, streams, read)
    }

    /// What encodes such runs on a GPU.
    pub(crate) fn stream_encoder<'e>(&'e self, streams: &'e mut Streams<'_, T>) -> Result<StreamEncoder<'e>> {
        self.executor.stream_encoder(&self.schedule, streams)
    }

    /// Encodes one of the submits of a pass on a GPU.
    pub(crate) fn encode(&self, encoder: &mut wgpu::CommandEncoder, half: Half, part: usize) {
        self.encode_steps(encoder, half, self.executor.plan().half(half).1[part].clone());
    }

    /// Encodes some steps of a pass on a GPU.
    pub(crate) fn encode_steps(&self, encoder: &mut wgpu::CommandEncoder, half: Half, steps: Range<usize>) {
        if let Some(e) = self.executor.gpu() {
            e.encode(encoder, self.executor.plan(), &self.schedule, half, steps, None);
        }
    }

    /// The steps of an update before `clip` and behind it: a network has another in its place, over all gradients. Where gradients are not
    /// clipped, all are behind it.
    pub(crate) fn update_parts(&self) -> (Range<usize>, Range<usize>) {
        let steps = &self.executor.plan().update;
        let clip = steps.iter().position(|step| matches!(step, Step::Once(d) if d.kernel == Kernel::Clip));
        clip.map_or((0..0, 0..steps.len()), |at| (0..at, at + 1..steps.len()))
    }

    /// Writes what an update reads, where its plan has one.
    pub(crate) fn write_hyper(&mut self, hyper: &[T]) -> Result<()> {
        let slot = self.executor.plan().ids.update.as_ref().map(|update| update.hyper);
        slot.map_or(Ok(()), |slot| self.executor.write(slot, hyper))
    }

    /// Where a GPU's updates leave its parameters, in canonical order.
    pub(crate) fn parameters_buffer(&self) -> Option<&wgpu::Buffer> {
        self.update_buffer(|update| Some(update.parameters))
    }

    /// What a GPU's update reads.
    pub(crate) fn hyper_buffer(&self) -> Option<&wgpu::Buffer> {
        self.update_buffer(|update| Some(update.hyper))
    }

    /// The sums of squares of its gradients on a GPU, where they are clipped.
    pub(crate) fn sums_buffer(&self) -> Option<&wgpu::Buffer> {
        self.update_buffer(|update| update.norm.map(|(sums, _)| sums))
    }

    fn update_buffer(&self, slot: impl Fn(&UpdateIds) -> Option<SlotId>) -> Option<&wgpu::Buffer> {
        let slot = self.executor.plan().ids.update.as_ref().and_then(slot)?;
        Some(self.executor.gpu()?.buffer(slot))
    }

    /// Zeros in the gradients of its parameters.
    pub(crate) fn clear_gradients(&mut self) -> Result<()> {
        let slots = self.executor.plan().ids.parameter_gradients();
        self.executor.clear(&slots.into_iter().map(|(slot, _)| slot).collect::<Vec<_>>())
    }

    /// Fills all working memory and outputs with NaN.
    pub(crate) fn poison(&mut self) -> Result<()> {
        let plan = self.executor.plan().clone();
        let working = |id: &SlotId| matches!(plan.slots[*id].role, Role::Scratch | Role::Output);
        (0..plan.slots.len()).filter(working).try_for_each(|id| self.executor.fill(id, f32::NAN))
    }

    fn port(&self, port: Port) -> Option<SlotId> {
        let plan = self.executor.plan();
        let (ids, cell, back) = (&plan.ids, plan.config.cell.has_cell_state(), plan.ids.grad.as_ref());
        match port {
            Port::X => Some(ids.x),
            Port::H0 => Some(ids.h0),
            Port::C0 => ids.c0,
            Port::Y => Some(ids.y),
            Port::Hn => Some(ids.hn),
            Port::Cn => cell.then_some(ids.cn),
            Port::DY => back.map(|g| g.dy),
            Port::DHn => back.map(|g| g.dhn),
            Port::DCn => back.and_then(|g| g.dcn),
            Port::DX => back.map(|g| g.dx),
            Port::DH0 => back.map(|g| g.dh0),
            Port::DC0 => back.filter(|_| cell).map(|g| g.dc0),
        }
    }

    /// Writes a port.
    pub(crate) fn put(&mut self, port: Port, values: &[T]) -> Result<()> {
        match self.port(port) {
            Some(slot) if port == Port::X => self.executor.write_rounded(slot, values),
            Some(slot) => self.executor.write(slot, values),
            None => Ok(()),
        }
    }

    /// A port on the CPU executor.
    pub(crate) fn get(&self, port: Port) -> &[T] {
        self.port(port).map_or(&[], |slot| self.executor.cpu_slot(slot))
    }

    /// A port's buffer on a GPU.
    pub(crate) fn buffer(&self, port: Port) -> Option<&wgpu::Buffer> {
        Some(self.executor.gpu()?.buffer(self.port(port)?))
    }

    /// The gradients of its parameters, in canonical order.
    pub(crate) async fn flat_gradients(&self) -> Result<Vec<T>> {
        let plan = self.executor.plan();
        let slots: Vec<SlotId> = plan.ids.parameter_gradients().into_iter().map(|(slot, _)| slot).collect();
        let values = slots.iter().copied().zip(self.executor.fetch(&slots).await?).collect();
        Ok(plan.flat_gradients(&values))
    }

    /// The same on the CPU executor.
    pub(crate) fn cpu_gradients(&self) -> Vec<T> {
        let plan = self.executor.plan();
        let slots = plan.ids.parameter_gradients().into_iter().map(|(slot, _)| slot);
        plan.flat_gradients(&slots.map(|slot| (slot, self.executor.cpu_slot(slot).to_vec())).collect())
    }
}

/// The weights of a network's operation `node`, a stack of layers; `params`: all of the network's parameters.
pub(crate) fn weights<T: Element>(plan: &NetworkPlan, node: usize, params: &[T]) -> Weights<T> {
    let Op::Layers(shape) = &plan.network.nodes[node].op else { unreachable!("a stack of layers") };
    Weights::from_flat(&shape.config, &params[shape.params(&plan.network)])
}

/// The schedule of a run, with the flags of episodes where the plan knows them.
fn schedule(plan: &Plan, lengths: Option<&[usize]>, resets: Option<&[bool]>, empty: Empty) -> Schedule {
    let schedule = Schedule::new(&plan.config, plan.shape, lengths).with_empty(empty);
    if plan.options.resets.is_some() { schedule.with_resets(&plan.config, resets) } else { schedule }
}
