//! Networks on the CPU: one file per operation, forward and adjoint. In f64 the oracle of the tests.

mod concat;
mod conv;
mod embedding;
mod layers;
mod linear;
mod loss;
mod map;
mod norm;
mod pieces;
mod pool;
mod scan;
mod scan_backward;
mod scan_chunked;
mod scan_ports;
mod scan_products;
mod scratch;
mod sum;
mod tape;

use crate::error::Result;
use crate::exec::cpu::optimise::update_flat;
use crate::exec::{Device, Element};
use crate::model::network::ops::operations;
use crate::model::network::{Op, Part};
use crate::num::random::Masks;
use crate::plan::Half;
use crate::plan::network::{NetworkPlan, SlotId, Times};
use wgpu::WasmNotSendSync;

/// An operation on this executor, with what it keeps from run to run: packed weights, tapes of its expressions, a stack of layers.
trait Twin<T>: WasmNotSendSync {
    /// Its value, of what `slots` hold.
    fn forward(&mut self, c: &Context<'_, T>, slots: &mut [Vec<T>], y: &mut [T]) -> Result<()>;

    /// Adds to the gradients of what it reads, in `slots` and `d_params`, from that of its value.
    fn backward(&mut self, c: &Context<'_, T>, slots: &mut [Vec<T>], dy: &[T], d_params: &mut [T]) -> Result<()>;

    /// Takes other parameters.
    fn set_params(&mut self, _plan: &NetworkPlan, _params: &[T]) -> Result<()> {
        Ok(())
    }

    /// Takes the masks of the runs to come.
    fn set_masks(&mut self, _masks: Masks) -> Result<()> {
        Ok(())
    }

    /// Fills what it works in with NaN.
    fn poison(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Where a twin is made.
struct Binding<'a, T> {
    plan: &'a NetworkPlan,
    /// Which of the network's operations it is.
    node: usize,
    device: &'a Device,
    params: &'a [T],
}

/// An operation that has a twin, as every row of [`crate::model::network::ops`].
trait HasTwin<T> {
    fn twin(&self, binding: &Binding<'_, T>) -> Result<Box<dyn Twin<T>>>;
}

macro_rules! twins {
    ($($(#[$doc:meta])* $name:ident($type:ident),)*) => {
        fn twin<T: Element>(op: &Op, binding: &Binding<'_, T>) -> Result<Box<dyn Twin<T>>> {
            match op {
                $(Op::$name(op) => op.twin(binding),)*
            }
        }
    };
}
operations!(twins);

/// A plan bound to memory of this process.
pub(crate) struct Executor<T: Element> {
    slots: Vec<Vec<T>>,
    params: Vec<T>,
    d_params: Vec<T>,
    /// What the optimiser remembers of every parameter.
    moments: Vec<Vec<T>>,
    /// Per operation.
    twins: Vec<Box<dyn Twin<T>>>,
}

/// What every operation's functions need.
pub(crate) struct Context<'a, T> {
    pub plan: &'a NetworkPlan,
    pub times: &'a Times,
    pub params: &'a [T],
}

impl<T> Context<'_, T> {
    /// All elements of a parameter.
    pub fn param(&self, param: usize) -> &[T] {
        let at = self.plan.network.param_offset(param);
        &self.params[at..][..self.plan.network.params[param].len()]
    }
    /// Whether a row lies past its sequence's end: it may hold anything.
    pub fn is_padding(&self, row: usize) -> bool {
        self.times.is_padding(row)
    }
    /// Columns of the value that a part is of.
    pub fn stride(&self, part: Part) -> usize {
        self.plan.network.values[part.value].width
    }
}

impl<T: Element> Executor<T> {
    pub(crate) fn bind(plan: &NetworkPlan, device: &Device, params: &[T]) -> Result<Self> {
        let slots = plan.slots.iter().map(|s| vec![T::default(); s.len]).collect();
        let d_params = vec![T::default(); if plan.options.train { params.len() } else { 0 }];
        let nodes = plan.network.nodes.iter().enumerate();
        let twins = nodes.map(|(n, node)| twin(&node.op, &Binding { plan, node: n, device, params }));
        let twins = twins.collect::<Result<_>>()?;
        let moments = vec![vec![T::default(); params.len()]; plan.options.optimiser.map_or(0, |o| o.moments())];
        let mut executor = Self { slots, params: params.to_vec(), d_params, moments, twins };
        // A system gives memory when it is first written: here, so that the first run takes no longer than others.
        executor.slots.iter_mut().for_each(|slot| std::hint::black_box(slot).fill(T::default()));
        Ok(executor)
    }

    pub(crate) fn repack(&mut self, plan: &NetworkPlan, params: &[T]) -> Result<()> {
        self.params = params.to_vec();
        self.twins.iter_mut().try_for_each(|twin| twin.set_params(plan, params))
    }

    /// One update of all parameters; `hyper`: what the optimiser reads.
    pub(crate) fn walk_update(&mut self, plan: &NetworkPlan, hyper: &[T]) -> Result<()> {
        let gradient = std::mem::take(&mut self.d_params);
        let params = std::mem::take(&mut self.params);
        let mut slots = vec![hyper.to_vec(), gradient, params];
        slots.append(&mut self.moments);
        update_flat(&mut slots);
        self.moments = slots.split_off(3);
        let params = slots.pop().unwrap_or_default();
        self.d_params = slots.pop().unwrap_or_default();
        self.params = params;
        let Self { params, twins, .. } = self;
        twins.iter_mut().try_for_each(|twin| twin.set_params(plan, params))
    }

    /// Sets the masks of the runs to come, of every stack of layers.
    pub(crate) fn set_masks(&mut self, plan: &NetworkPlan, masks: &[Masks]) -> Result<()> {
        plan.layers.iter().zip(masks).try_for_each(|((node, _), masks)| self.twins[*node].set_masks(*masks))
    }

    /// All parameters, one after the other.
    pub(crate) fn params(&self) -> &[T] {
        &self.params
    }

    /// Fills what operations work in with NaN.
    pub(crate) fn poison_layers(&mut self) -> Result<()> {
        self.twins.iter_mut().try_for_each(|twin| twin.poison())
    }

    pub(crate) fn slot(&self, id: SlotId) -> &[T] {
        &self.slots[id]
    }

    pub(crate) fn slot_mut(&mut self, id: SlotId) -> &mut Vec<T> {
        &mut self.slots[id]
    }

    /// Zeros in the gradients of all values, and of the states after the last steps.
    pub(crate) fn clear_gradients(&mut self, plan: &NetworkPlan) {
        let states = plan.states.iter().filter_map(|s| s.d_last);
        plan.gradients.iter().copied().chain(states).for_each(|slot| self.slots[slot].fill(T::default()));
    }

    /// The states after the last steps become those before the first.
    pub(crate) fn carry(&mut self, plan: &NetworkPlan) {
        for s in &plan.states {
            let last = std::mem::take(&mut self.slots[s.last]);
            self.slots[s.initial].copy_from_slice(&last);
            self.slots[s.last] = last;
        }
    }

    pub(crate) fn param_gradients(&self) -> &[T] {
        &self.d_params
    }

    /// Runs an operation, or the way back through it; before the first of those back the gradients of all parameters are 0.
    pub(crate) fn run(&mut self, plan: &NetworkPlan, times: &Times, (half, n): (Half, usize)) -> Result<()> {
        let Self { slots, params, d_params, twins, .. } = self;
        let (c, value) = (Context { plan, times, params }, plan.network.nodes[n].value);
        if half == Half::Backward {
            if plan.order(half).next() == Some(n) {
                d_params.fill(T::default());
            }
            let dy = std::mem::take(&mut slots[plan.gradients[value]]);
            let done = twins[n].backward(&c, slots, &dy, d_params);
            slots[plan.gradients[value]] = dy;
            done
        } else {
            let mut y = std::mem::take(&mut slots[plan.values[value]]);
            let done = twins[n].forward(&c, slots, &mut y);
            slots[plan.values[value]] = y;
            done
        }
    }
}
