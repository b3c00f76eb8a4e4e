//! A session as part of a network: what it reads and gives goes to and from the network's memory on the device.

use super::{Executor, Session};
use crate::error::Result;
use crate::plan::SlotId;
use crate::real::Real;

/// What goes between a network and the layers in it.
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

impl<T: Real> Session<T> {
    /// The slot of a port; `None`: the cell, or a plan that does not train, has none.
    fn port(&self, port: Port) -> Option<SlotId> {
        let (ids, cell) = (&self.plan.ids, self.plan.config.cell.has_cell_state());
        let back = ids.grad.as_ref();
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

    /// Lengths and episodes of the runs to come; `resets` may be empty.
    pub(crate) fn set_times(&mut self, lengths: &[usize], resets: &[bool]) -> Result<()> {
        let ragged = lengths.iter().any(|&l| l < self.plan.shape.time);
        self.set_schedule(ragged.then_some(lengths), (!resets.is_empty()).then_some(resets))
    }

    /// Writes a port on the CPU executor.
    pub(crate) fn put(&mut self, port: Port, values: &[T]) {
        if let (Some(slot), Executor::Cpu(e)) = (self.port(port), &mut self.executor) {
            e.slot_mut(slot).copy_from_slice(values);
        }
    }

    /// Reads a port on the CPU executor.
    pub(crate) fn get(&self, port: Port) -> &[T] {
        match (self.port(port), &self.executor) {
            (Some(slot), Executor::Cpu(e)) => e.slot(slot),
            _ => &[],
        }
    }

    /// A port's buffer on a GPU.
    pub(crate) fn buffer(&self, port: Port) -> Option<&wgpu::Buffer> {
        match (self.port(port), &self.executor) {
            (Some(slot), Executor::Gpu(e)) => Some(e.buffer(slot)),
            _ => None,
        }
    }

    /// The gradients of the parameters by the last way back, in canonical order.
    pub(crate) fn flat_gradients(&self) -> Result<Vec<T>> {
        let slots = self.parameter_gradients();
        let values = slots.iter().copied().zip(self.fetch(&slots)?).collect();
        Ok(super::backward::gradients(&self.plan, &values).flat(&self.plan.config))
    }
}
