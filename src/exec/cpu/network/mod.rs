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
mod sum;
mod tape;

use crate::error::Result;
use crate::exec::cpu::optimise::{clip_flat, update_flat};
use crate::exec::{Common, Device, Element};
use crate::model::network::ops::operations;
use crate::model::network::{Op, Part};
use crate::num::Aligned;
use crate::num::random::Masks;
use crate::plan::Half;
use crate::plan::network::{NetworkPlan, SlotId, Times};
use std::sync::{Arc, Mutex, PoisonError};
use wgpu::WasmNotSendSync;

/// An operation on this executor, with what it keeps from run to run: packed weights, tapes of its expressions, a stack of layers.
trait Twin<T>: WasmNotSendSync {
    /// Its value, of what `slots` hold.
    fn forward(&mut self, c: &Context<'_, T>, slots: &mut [Aligned<T>], y: &mut [T]) -> Result<()>;

    /// Adds to the gradients of what it reads, in `slots` and `d_params`, from that of its value.
    fn backward(&mut self, c: &Context<'_, T>, slots: &mut [Aligned<T>], dy: &[T], d_params: &mut [T]) -> Result<()>;

    /// Another for a plan of another shape, over what this one keeps of the parameters; `None`: it keeps nothing of them, and one that is
    /// made anew is the same.
    fn sibling(&self, _plan: &NetworkPlan) -> Result<Option<Box<dyn Twin<T>>>> {
        Ok(None)
    }

    /// Takes what it keeps of the parameters as it is now, and nothing else until it is let go.
    fn hold(&mut self, _held: bool) {}

    /// Takes other parameters, with its siblings.
    fn set_params(&mut self, _plan: &NetworkPlan, _params: &[T]) -> Result<()> {
        Ok(())
    }

    /// Takes the masks of the runs to come.
    fn set_masks(&mut self, _masks: Masks) -> Result<()> {
        Ok(())
    }

    /// Zeros in what it keeps of the gradients of parameters.
    fn clear_gradients(&mut self) -> Result<()> {
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
    slots: Vec<Aligned<T>>,
    params: Common<Vec<T>>,
    /// Held while parameters and what operations keep of them are changed, and while a run takes them: never while work is done.
    turn: Arc<Mutex<()>>,
    d_params: Vec<T>,
    /// What the optimiser remembers of every parameter.
    moments: Vec<Vec<T>>,
    /// The norm of all gradients at the last update, where they are clipped.
    norm: T,
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
        let nodes = plan.network.nodes.iter().enumerate();
        let twins = nodes.map(|(n, node)| twin(&node.op, &Binding { plan, node: n, device, params }));
        Ok(Self::with_twins(plan, twins.collect::<Result<_>>()?, Common::new(params.to_vec()), Arc::default()))
    }

    /// Another plan of the network over the same parameters.
    pub(crate) fn sibling(&self, plan: &NetworkPlan, device: &Device) -> Result<Self> {
        let params = self.params.get();
        let twins =
            plan.network.nodes.iter().zip(&self.twins).enumerate().map(|(n, (node, of))| match of.sibling(plan)? {
                Some(sibling) => Ok(sibling),
                None => twin(&node.op, &Binding { plan, node: n, device, params: &params }),
            });
        let twins = twins.collect::<Result<_>>()?;
        Ok(Self::with_twins(plan, twins, self.params.sibling(), Arc::clone(&self.turn)))
    }

    fn with_twins(
        plan: &NetworkPlan,
        twins: Vec<Box<dyn Twin<T>>>,
        params: Common<Vec<T>>,
        turn: Arc<Mutex<()>>,
    ) -> Self {
        let count = plan.network.parameter_count();
        let slots = plan.slots.iter().map(|s| Aligned::zeros(s.len)).collect();
        let d_params = vec![T::default(); if plan.options.train { count } else { 0 }];
        let moments = vec![vec![T::default(); count]; plan.options.optimiser.map_or(0, |o| o.moments())];
        let mut executor = Self { slots, params, turn, d_params, moments, norm: T::default(), twins };
        // A system gives memory when it is first written: here, so that the first run takes no longer than others.
        executor.slots.iter_mut().for_each(|slot| std::hint::black_box(slot).fill(T::default()));
        executor
    }

    pub(crate) fn repack(&mut self, plan: &NetworkPlan, params: &[T]) -> Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.params.put(params.to_vec());
        self.twins.iter_mut().try_for_each(|twin| twin.set_params(plan, params))
    }

    /// One update of all parameters; `hyper`: what the optimiser reads.
    pub(crate) fn walk_update(&mut self, plan: &NetworkPlan, hyper: &[T]) -> Result<()> {
        let Self { params, turn, d_params, moments, norm, twins, .. } = self;
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut hyper = hyper.to_vec();
        if plan.options.clip_norm.is_some() {
            *norm = clip_flat(&mut hyper, d_params);
        }
        params.change(|params| {
            let mut slots = vec![hyper, std::mem::take(d_params), std::mem::take(params)];
            slots.append(moments);
            update_flat(&mut slots);
            *moments = slots.split_off(3);
            *params = slots.pop().unwrap_or_default();
            *d_params = slots.pop().unwrap_or_default();
        });
        let params = params.get();
        twins.iter_mut().try_for_each(|twin| twin.set_params(plan, &params))
    }

    /// Sets the masks of the runs to come, of every stack of layers.
    pub(crate) fn set_masks(&mut self, plan: &NetworkPlan, masks: &[Masks]) -> Result<()> {
        plan.layers.iter().zip(masks).try_for_each(|((node, _), masks)| self.twins[*node].set_masks(*masks))
    }

    /// All parameters, one after the other.
    pub(crate) fn params(&self) -> Arc<Vec<T>> {
        self.params.get()
    }

    /// Runs `run` over the parameters of now, whatever takes their place meanwhile.
    fn held(&mut self, run: impl FnOnce(&mut Self, &[T]) -> Result<()>) -> Result<()> {
        let params = {
            let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            self.twins.iter_mut().for_each(|twin| twin.hold(true));
            self.params.get()
        };
        let done = run(self, &params);
        self.twins.iter_mut().for_each(|twin| twin.hold(false));
        done
    }

    /// Fills what operations work in with NaN.
    pub(crate) fn poison_layers(&mut self) -> Result<()> {
        self.twins.iter_mut().try_for_each(|twin| twin.poison())
    }

    pub(crate) fn slot(&self, id: SlotId) -> &[T] {
        &self.slots[id]
    }

    pub(crate) fn slots_mut(&mut self) -> &mut [Aligned<T>] {
        &mut self.slots
    }

    pub(crate) fn slot_mut(&mut self, id: SlotId) -> &mut [T] {
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

    /// The norm of all gradients at the last update.
    pub(crate) fn gradient_norm(&self) -> T {
        self.norm
    }

    /// Zeros in the gradients of all parameters.
    pub(crate) fn clear_param_gradients(&mut self) -> Result<()> {
        self.d_params.fill(T::default());
        self.twins.iter_mut().try_for_each(|twin| twin.clear_gradients())
    }

    /// Runs the operations, or the way back through them; with `only` that one. Before the first of those back the gradients of all
    /// parameters are 0, unless they add up.
    pub(crate) fn run(&mut self, plan: &NetworkPlan, times: &Times, (half, only): (Half, Option<usize>)) -> Result<()> {
        self.held(|Self { slots, d_params, twins, .. }, params| {
            let c = Context { plan, times, params };
            for n in plan.order(half).filter(|n| only.is_none_or(|only| only == *n)) {
                let value = plan.network.nodes[n].value;
                if half == Half::Backward {
                    if plan.order(half).next() == Some(n) && !plan.options.accumulate {
                        d_params.fill(T::default());
                    }
                    let dy = std::mem::take(&mut slots[plan.gradients[value]]);
                    let done = twins[n].backward(&c, slots, &dy, d_params);
                    slots[plan.gradients[value]] = dy;
                    done?;
                } else {
                    let mut y = std::mem::take(&mut slots[plan.values[value]]);
                    let done = twins[n].forward(&c, slots, &mut y);
                    slots[plan.values[value]] = y;
                    done?;
                }
            }
            Ok(())
        })
    }
}
