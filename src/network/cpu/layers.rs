//! Stacks of recurrent layers: sessions of their own.

use super::Context;
use crate::error::Result;
use crate::expr::Element;
use crate::network::LayersShape;
use crate::session::{Port, Session};

pub(super) fn forward<T: Element>(
    c: &Context<'_, T>,
    (node, shape): (usize, &LayersShape),
    session: &mut Session<T>,
    slots: &mut [Vec<T>],
    y: &mut [T],
) -> Result<()> {
    session.set_times(&c.times.lengths, &c.times.resets)?;
    session.put(Port::X, &slots[c.plan.values[shape.x.value]]);
    let places = shape.state_places(c.times.batch);
    let state = c.plan.states.iter().find(|s| s.node == node);
    if let Some(state) = state {
        for ((at, len), port) in places.into_iter().zip([Port::H0, Port::C0]) {
            session.put(port, &slots[state.initial][at..][..len]);
        }
    }
    session.run_within()?;
    y.copy_from_slice(session.get(Port::Y));
    if let Some(state) = state {
        for ((at, len), port) in places.into_iter().zip([Port::Hn, Port::Cn]).filter(|((_, len), _)| *len > 0) {
            slots[state.last][at..][..len].copy_from_slice(session.get(port));
        }
    }
    Ok(())
}

pub(super) fn backward<T: Element>(
    c: &Context<'_, T>,
    (node, shape): (usize, &LayersShape),
    session: &mut Session<T>,
    slots: &mut [Vec<T>],
    dy: &[T],
    d_params: &mut [T],
) -> Result<()> {
    session.put(Port::DY, dy);
    let places = shape.state_places(c.times.batch);
    let state = c.plan.states.iter().find(|s| s.node == node).and_then(|s| s.d_initial.zip(s.d_last));
    if let Some((_, d_last)) = state {
        for ((at, len), port) in places.into_iter().zip([Port::DHn, Port::DCn]) {
            session.put(port, &slots[d_last][at..][..len]);
        }
    }
    session.run_back()?;
    // 0 past sequences' ends.
    let dx = &mut slots[c.plan.gradients[shape.x.value]];
    dx.iter_mut().zip(session.get(Port::DX)).for_each(|(to, from)| *to = *to + *from);
    if let Some((d_initial, _)) = state {
        for ((at, len), port) in places.into_iter().zip([Port::DH0, Port::DC0]).filter(|((_, len), _)| *len > 0) {
            slots[d_initial][at..][..len].copy_from_slice(session.get(port));
        }
    }
    d_params[shape.params(&c.plan.network)].copy_from_slice(&session.flat_gradients()?);
    Ok(())
}
