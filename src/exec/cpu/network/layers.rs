//! Stacks of recurrent layers: sessions of their own.

use super::{Binding, Context, HasTwin, Twin};
use crate::error::Result;
use crate::exec::{Element, Port, Stack};
use crate::model::network::LayersShape;
use crate::num::Aligned;
use crate::num::random::Masks;
use crate::plan::Half;
use crate::plan::network::NetworkPlan;

struct StackTwin<T: Element> {
    node: usize,
    shape: LayersShape,
    stack: Stack<T>,
}

impl<T: Element> HasTwin<T> for LayersShape {
    fn twin(&self, binding: &Binding<'_, T>) -> Result<Box<dyn Twin<T>>> {
        let Binding { plan, node, device, params } = *binding;
        let stack = Stack::of_node(plan, node, device, params)?;
        Ok(Box::new(StackTwin { node, shape: self.clone(), stack }))
    }
}

impl<T: Element> Twin<T> for StackTwin<T> {
    fn forward(&mut self, c: &Context<'_, T>, slots: &mut [Aligned<T>], y: &mut [T]) -> Result<()> {
        forward(c, (self.node, &self.shape), &mut self.stack, slots, y)
    }

    fn backward(&mut self, c: &Context<'_, T>, slots: &mut [Aligned<T>], dy: &[T], d_params: &mut [T]) -> Result<()> {
        backward(c, (self.node, &self.shape), &mut self.stack, slots, dy, d_params)
    }

    fn sibling(&self, plan: &NetworkPlan) -> Result<Option<Box<dyn Twin<T>>>> {
        let stack = self.stack.sibling(&plan.layers[plan.layers_at(self.node)].1)?;
        Ok(Some(Box::new(Self { node: self.node, shape: self.shape.clone(), stack })))
    }

    fn hold(&mut self, held: bool) {
        self.stack.executor.hold_weights(held);
    }

    fn set_params(&mut self, plan: &NetworkPlan, params: &[T]) -> Result<()> {
        self.stack.set_params(plan, self.node, params)
    }

    fn set_masks(&mut self, masks: Masks) -> Result<()> {
        self.stack.set_masks(masks)
    }

    fn clear_gradients(&mut self) -> Result<()> {
        self.stack.clear_gradients()
    }

    fn poison(&mut self) -> Result<()> {
        self.stack.poison()
    }
}

fn forward<T: Element>(
    c: &Context<'_, T>,
    (node, shape): (usize, &LayersShape),
    stack: &mut Stack<T>,
    slots: &mut [Aligned<T>],
    y: &mut [T],
) -> Result<()> {
    stack.set_times(&c.times.lengths, &c.times.resets)?;
    stack.put(Port::X, &slots[c.plan.values[shape.x.value]])?;
    let places = shape.state_places(c.times.batch);
    let state = c.plan.states.iter().find(|s| s.node == node);
    if let Some(state) = state {
        for ((at, len), port) in places.into_iter().zip([Port::H0, Port::C0]) {
            stack.put(port, &slots[state.initial][at..][..len])?;
        }
    }
    stack.run(Half::Forward, &[])?;
    y.copy_from_slice(stack.get(Port::Y));
    if let Some(state) = state {
        for ((at, len), port) in places.into_iter().zip([Port::Hn, Port::Cn]).filter(|((_, len), _)| *len > 0) {
            slots[state.last][at..][..len].copy_from_slice(stack.get(port));
        }
    }
    Ok(())
}

fn backward<T: Element>(
    c: &Context<'_, T>,
    (node, shape): (usize, &LayersShape),
    stack: &mut Stack<T>,
    slots: &mut [Aligned<T>],
    dy: &[T],
    d_params: &mut [T],
) -> Result<()> {
    stack.put(Port::DY, dy)?;
    let places = shape.state_places(c.times.batch);
    let state = c.plan.states.iter().find(|s| s.node == node).and_then(|s| s.d_initial.zip(s.d_last));
    if let Some((_, d_last)) = state {
        for ((at, len), port) in places.into_iter().zip([Port::DHn, Port::DCn]) {
            stack.put(port, &slots[d_last][at..][..len])?;
        }
    }
    stack.run(Half::Backward, &[])?;
    // 0 past sequences' ends.
    let dx = &mut slots[c.plan.gradients[shape.x.value]];
    dx.iter_mut().zip(stack.get(Port::DX)).for_each(|(to, from)| *to = *to + *from);
    if let Some((d_initial, _)) = state {
        for ((at, len), port) in places.into_iter().zip([Port::DH0, Port::DC0]).filter(|((_, len), _)| *len > 0) {
            slots[d_initial][at..][..len].copy_from_slice(stack.get(port));
        }
    }
    d_params[shape.params(&c.plan.network)].copy_from_slice(&stack.cpu_gradients());
    Ok(())
}
