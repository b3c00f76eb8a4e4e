//! Streams: a session goes on from where it was, all sequences of the batch or some of them, and their states are read and set.

use super::{Initial, Input, Output, Session};
use crate::error::{Error, Result};
use crate::exec::Element;
use crate::model::stack::Shape;
use crate::plan::{Empty, SlotId};
use crate::tensor::{Tensor, View};
use std::ops::Range;

/// Where sequences are: what a next step needs of all steps before it.
#[derive(Clone, Debug, PartialEq)]
pub struct State<T> {
    /// h: `[L·D, B, P or H]` of a batch, `[L·D, P or H]` of one sequence.
    pub h: Tensor<T>,
    /// c: `[L·D, B, S·H]` of a batch, `[L·D, S·H]` of one sequence; for cells with a cell state.
    pub c: Option<Tensor<T>>,
}

impl<T: Element> Session<T> {
    /// One step of a stream (plans with T = 1): runs from where the last step ended, or from [`Session::set_state`]; from zeros
    /// at the first.
    ///
    /// # Errors
    /// As [`Session::forward`].
    #[cfg(not(target_family = "wasm"))]
    pub fn step(&mut self, x: View<'_, T>) -> Result<Output<T>> {
        self.device.clone().block(self.step_async(x))
    }

    /// [`Session::step`] for those who may not wait. Outside of browsers somebody must [poll the device](crate::Device::poll).
    ///
    /// # Errors
    /// As [`Session::step`].
    pub async fn step_async(&mut self, x: View<'_, T>) -> Result<Output<T>> {
        let initial = if self.has_state { Initial::Carry } else { Initial::Zero };
        self.forward_async(&Input { initial, ..Input::new(x) }).await
    }

    /// Sets the state that the next [`Session::step`] (or [`Initial::Carry`]) goes on from: h0 `[L·D, B, P or H]` and, for
    /// cells with a cell state, c0 `[L·D, B, S·H]` (`None`: zeros).
    ///
    /// # Errors
    /// [`Error::Mismatch`] for wrong shapes, or a c0 for a cell that has none; errors of the device.
    pub fn set_state(&mut self, h0: View<'_, T>, c0: Option<View<'_, T>>) -> Result<()> {
        self.check_state(Some(h0), c0)?;
        // As if a run had ended there.
        let (hn, cn) = (self.plan.ids.hn, self.plan.ids.cn);
        self.write_state(hn, Some(h0))?;
        if self.plan.config.cell.has_cell_state() {
            self.write_state(cn, c0)?;
        }
        self.has_state = true;
        Ok(())
    }

    /// Forgets the state: the next [`Session::step`] starts from zeros, and [`Initial::Carry`] is an error.
    pub fn reset(&mut self) {
        self.has_state = false;
    }

    /// One step of a batch of streams (plans with T = 1) of which only those with `active[b]` have a step: as [`Session::step`] for
    /// them. The others keep their state bit for bit, their y and predictions are 0, and their part of x is not read. What a stream
    /// gets does not depend on which others are active. On a GPU nothing is made, and beside x a table of a few words per sequence is
    /// uploaded where `active` is another than before.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the plan's T is not 1 or there are not B flags; as [`Session::forward`].
    #[cfg(not(target_family = "wasm"))]
    pub fn step_where(&mut self, x: View<'_, T>, active: &[bool]) -> Result<Output<T>> {
        self.device.clone().block(self.step_where_async(x, active))
    }

    /// [`Session::step_where`] for those who may not wait.
    ///
    /// # Errors
    /// As [`Session::step_where`].
    pub async fn step_where_async(&mut self, x: View<'_, T>, active: &[bool]) -> Result<Output<T>> {
        let Shape { time, batch } = self.plan.shape;
        if time != 1 {
            let got = format!("T = {time}; give a length of 0 to Session::forward for several steps");
            return Err(Error::mismatch("plan of step_where", "T = 1", got));
        }
        if active.len() != batch {
            return Err(Error::mismatch("active", format!("B = {batch} flags"), format!("{} flags", active.len())));
        }
        let lengths: Vec<usize> = active.iter().map(|&a| usize::from(a)).collect();
        let some = lengths.contains(&0).then_some(&lengths[..]);
        let initial = if self.has_state { Initial::Carry } else { Initial::Zero };
        self.write_where(&Input { initial, lengths: some, ..Input::new(x) }, Empty::Initial)?;
        let values = self.run_and_read(&self.output_slots()).await?;
        Ok(self.as_output(values))
    }

    /// Where the next [`Session::step`] or [`Initial::Carry`] goes on from, all sequences: the last run's hn and cn, or what was set
    /// since. Zeros where there is neither, as a step would begin. It waits for the device.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] and [`Error::Gpu`] from the device.
    #[cfg(not(target_family = "wasm"))]
    pub fn state(&mut self) -> Result<State<T>> {
        self.device.clone().block(self.state_async())
    }

    /// [`Session::state`] for those who may not wait.
    ///
    /// # Errors
    /// As [`Session::state`].
    pub async fn state_async(&mut self) -> Result<State<T>> {
        let slots = self.state_slots();
        let values = match self.has_state {
            true => self.stack.executor.fetch(&slots).await?,
            false => slots.iter().map(|&slot| vec![T::default(); self.plan.slots[slot].len()]).collect(),
        };
        let shape = |slot: SlotId| self.plan.slots[slot].dims.iter().map(|d| d.1).collect();
        Ok(as_state(slots.iter().map(|&slot| shape(slot)).zip(values)))
    }

    /// The same of sequence `b` alone: h `[L·D, P or H]` and c `[L·D, S·H]`. Only its part is read from the device.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if `b` is not below B; [`Error::DeviceLost`] and [`Error::Gpu`] from the device.
    #[cfg(not(target_family = "wasm"))]
    pub fn state_of(&mut self, b: usize) -> Result<State<T>> {
        self.device.clone().block(self.state_of_async(b))
    }

    /// [`Session::state_of`] for those who may not wait.
    ///
    /// # Errors
    /// As [`Session::state_of`].
    pub async fn state_of_async(&mut self, b: usize) -> Result<State<T>> {
        self.plan.shape.validate_sequence(b)?;
        let mut tensors = Vec::new();
        for slot in self.state_slots() {
            let parts = self.parts_of(slot, b);
            let (planes, width) = (parts.len(), parts.first().map_or(0, Range::len));
            let values = match self.has_state {
                true => self.stack.executor.fetch_parts(slot, &parts).await?,
                false => vec![T::default(); planes * width],
            };
            tensors.push((vec![planes, width], values));
        }
        Ok(as_state(tensors.into_iter()))
    }

    /// Sets where sequence `b` alone goes on from: h `[L·D, P or H]` and, for cells with a cell state, c `[L·D, S·H]` (`None`: zeros).
    /// The other sequences keep their states: those of the last run, or zeros before any. On a GPU only the part of `b` is written,
    /// and nothing is read.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if `b` is not below B, for wrong shapes, or a c for a cell that has none; errors of the device.
    pub fn set_state_of(&mut self, b: usize, h: View<'_, T>, c: Option<View<'_, T>>) -> Result<()> {
        self.plan.shape.validate_sequence(b)?;
        let slots = self.state_slots();
        let shape = |slot: SlotId| {
            let dims = &self.plan.slots[slot].dims;
            ([dims[0].0, dims[2].0], [dims[0].1, dims[2].1])
        };
        let (names, sizes) = shape(slots[0]);
        h.check("h", &names, &sizes)?;
        match (c, slots.get(1)) {
            (Some(c), Some(&slot)) => {
                let (names, sizes) = shape(slot);
                c.check("c", &names, &sizes)?;
            }
            (Some(c), None) => {
                let expected = format!("none ({} has no cell state)", self.plan.config.cell.name);
                return Err(Error::mismatch("c", expected, format!("{:?}", c.shape)));
            }
            (None, _) => {}
        }
        if !self.has_state {
            self.stack.executor.clear(&slots)?;
            self.has_state = true;
        }
        for (slot, view) in slots.into_iter().zip([Some(h), c]) {
            let parts = self.parts_of(slot, b);
            match view {
                Some(view) => self.stack.executor.write_parts(slot, &parts, view.data)?,
                None => self.stack.executor.clear_parts(slot, &parts)?,
            }
        }
        Ok(())
    }

    /// Forgets the state of sequence `b` alone: it goes on from zeros, the others from where they are.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if `b` is not below B; errors of the device.
    pub fn reset_of(&mut self, b: usize) -> Result<()> {
        self.plan.shape.validate_sequence(b)?;
        // Without a state all begin from zeros anyhow.
        for slot in if self.has_state { self.state_slots() } else { Vec::new() } {
            let parts = self.parts_of(slot, b);
            self.stack.executor.clear_parts(slot, &parts)?;
        }
        Ok(())
    }

    /// hn and, for cells with a cell state, cn.
    fn state_slots(&self) -> Vec<SlotId> {
        let (ids, cell) = (&self.plan.ids, self.plan.config.cell.has_cell_state());
        [ids.hn].into_iter().chain(cell.then_some(ids.cn)).collect()
    }

    /// Where a slot of states `[L·D, B, width]` has those of a sequence.
    fn parts_of(&self, slot: SlotId, b: usize) -> Vec<Range<usize>> {
        let dims = &self.plan.slots[slot].dims;
        let (planes, batch, width) = (dims[0].1, dims[1].1, dims[2].1);
        (0..planes).map(|plane| (plane * batch + b) * width).map(|at| at..at + width).collect()
    }
}

/// Shapes and values of h and, where there is one, c.
fn as_state<T>(mut tensors: impl Iterator<Item = (Vec<usize>, Vec<T>)>) -> State<T> {
    let mut next = || tensors.next().map(|(shape, data)| Tensor { data, shape });
    let h = next().unwrap_or(Tensor { data: Vec::new(), shape: Vec::new() });
    State { h, c: next() }
}
