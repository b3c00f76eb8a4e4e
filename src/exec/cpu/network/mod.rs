//! Networks on the CPU: one file per operation, forward and adjoint. In f64 the oracle of the tests.

mod concat;
mod conv;
mod layers;
mod linear;
mod map;
mod norm;
mod pieces;
mod scan;
mod scan_backward;
mod scan_chunked;
mod scan_ports;
mod scan_products;
mod scratch;
mod sum;
mod tape;

use crate::error::Result;
use crate::exec::{Device, Element, Stack};
use crate::model::network::{Network, Op, Part};
use crate::plan::network::{NetworkPlan, SlotId, Times};
use linear::PackedLinear;

/// What an operation's expressions are for this executor: made once, when it is.
enum Tapes {
    /// It has none.
    None,
    Map(map::MapTapes),
    Scan(scan_ports::ScanTapes),
}

/// Those of every operation.
fn tapes(network: &Network) -> Vec<Tapes> {
    let of = |op: &Op| match op {
        Op::Map { expr, operands } => Tapes::Map(map::MapTapes::new(expr, operands)),
        Op::Scan(shape) => Tapes::Scan(scan_ports::ScanTapes::new(shape)),
        _ => Tapes::None,
    };
    network.nodes.iter().map(|node| of(&node.op)).collect()
}

/// A plan bound to memory of this process.
pub(crate) struct Executor<T: Element> {
    slots: Vec<Vec<T>>,
    params: Vec<T>,
    d_params: Vec<T>,
    /// Per operation, where it is a product.
    linear: Vec<Option<PackedLinear<T>>>,
    /// Per operation.
    tapes: Vec<Tapes>,
    /// One per entry of [`NetworkPlan::layers`].
    layers: Vec<Stack<T>>,
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
        let layers = Stack::all_of(plan, device, params)?;
        let tapes = tapes(&plan.network);
        let mut executor = Self { slots, params: Vec::new(), d_params, linear: Vec::new(), tapes, layers };
        executor.pack(plan, params);
        // A system gives memory when it is first written: here, so that the first run takes no longer than others.
        executor.slots.iter_mut().for_each(|slot| std::hint::black_box(slot).fill(T::default()));
        Ok(executor)
    }

    pub(crate) fn repack(&mut self, plan: &NetworkPlan, params: &[T]) -> Result<()> {
        self.pack(plan, params);
        Stack::set_all(&mut self.layers, plan, params)
    }

    /// Fills what layers work in with NaN.
    pub(crate) fn poison_layers(&mut self) -> Result<()> {
        self.layers.iter_mut().try_for_each(Stack::poison)
    }

    fn pack(&mut self, plan: &NetworkPlan, params: &[T]) {
        self.params = params.to_vec();
        let network = &plan.network;
        let packed = network.nodes.iter().map(|node| match &node.op {
            Op::Linear { x, weight, bias } => {
                let of = |p: usize| &params[network.param_offset(p)..][..network.params[p].len()];
                Some(PackedLinear::new(of(*weight), x.width, bias.map(of), plan.options.train))
            }
            _ => None,
        });
        self.linear = packed.collect();
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

    pub(crate) fn walk(&mut self, plan: &NetworkPlan, times: &Times) -> Result<()> {
        let Self { slots, params, linear, tapes, layers, .. } = self;
        let c = Context { plan, times, params };
        for (n, node) in plan.network.nodes.iter().enumerate() {
            let id = plan.values[node.value];
            let (mut y, mut done) = (std::mem::take(&mut slots[id]), Ok(()));
            match &node.op {
                Op::Linear { x, .. } => {
                    if let Some(packed) = &linear[n] {
                        packed.forward(&slots[plan.values[x.value]], (*x, c.stride(*x)), &mut y);
                    }
                }
                Op::Norm { .. } => norm::forward(&c, &node.op, slots, &mut y),
                Op::Sum { x, groups } => sum::forward(&c, (*x, *groups), slots, &mut y),
                Op::Conv { .. } | Op::Shift { .. } => conv::forward(&c, n, slots, &mut y),
                Op::Map { operands, .. } => {
                    if let Tapes::Map(tapes) = &tapes[n] {
                        map::forward(&c, (tapes, operands), slots, &mut y);
                    }
                }
                Op::Concat { parts } => concat::forward(&c, parts, slots, &mut y),
                Op::Scan(shape) => {
                    if let Tapes::Scan(tapes) = &tapes[n] {
                        scan::forward(&c, (n, shape, tapes), slots, &mut y);
                    }
                }
                Op::Layers(shape) => {
                    done = layers::forward(&c, (n, shape), &mut layers[plan.layers_at(n)], slots, &mut y);
                }
            }
            slots[id] = y;
            done?;
        }
        Ok(())
    }

    pub(crate) fn walk_back(&mut self, plan: &NetworkPlan, times: &Times) -> Result<()> {
        let Self { slots, params, d_params, linear, tapes, layers } = self;
        d_params.fill(T::default());
        let c = Context { plan, times, params };
        for (n, node) in plan.network.nodes.iter().enumerate().rev() {
            let id = plan.gradients[node.value];
            let (dy, mut done) = (std::mem::take(&mut slots[id]), Ok(()));
            match &node.op {
                Op::Linear { x, weight, bias } => {
                    if let Some(packed) = &linear[n] {
                        let at = |p: usize| plan.network.param_offset(p);
                        let places = (at(*weight), bias.map(at));
                        let mut dx = std::mem::take(&mut slots[plan.gradients[x.value]]);
                        packed.backward(
                            &slots[plan.values[x.value]],
                            (*x, c.stride(*x)),
                            &dy,
                            &mut dx,
                            (d_params, places),
                            |row| c.is_padding(row),
                        );
                        slots[plan.gradients[x.value]] = dx;
                    }
                }
                Op::Norm { .. } => norm::backward(&c, &node.op, slots, &dy, d_params),
                Op::Sum { x, groups } => sum::backward(&c, (*x, *groups), slots, &dy),
                Op::Conv { .. } | Op::Shift { .. } => conv::backward(&c, n, slots, &dy, d_params),
                Op::Map { operands, .. } => {
                    if let Tapes::Map(tapes) = &tapes[n] {
                        map::backward(&c, (tapes, operands), slots, &dy, d_params);
                    }
                }
                Op::Concat { parts } => concat::backward(&c, parts, slots, &dy),
                Op::Scan(shape) => {
                    if let Tapes::Scan(tapes) = &tapes[n] {
                        scan_backward::backward(&c, (n, shape, tapes), slots, &dy, d_params);
                    }
                }
                Op::Layers(shape) => {
                    done = layers::backward(&c, (n, shape), &mut layers[plan.layers_at(n)], slots, &dy, d_params);
                }
            }
            slots[id] = dy;
            done?;
        }
        Ok(())
    }
}
