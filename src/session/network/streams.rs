//! Streams: a session goes on from where it was, all sequences of the batch or some of them, and their states are read and set.

use super::{NetworkInitial, NetworkInput, NetworkOutput, NetworkSession};
use crate::error::{Error, Result};
use crate::exec::Element;
use crate::model::network::Op;
use crate::model::stack::Shape;
use crate::plan::network::{SlotId, StateSlots};
use crate::tensor::{Tensor, View};
use std::ops::Range;

impl<T: Element> NetworkSession<T> {
    /// One step of a stream (plans with T = 1), of one value per input: runs from where the last step ended, or from
    /// [`NetworkSession::set_states`]; from empty states at the first.
    ///
    /// # Errors
    /// As [`NetworkSession::forward`].
    #[cfg(not(target_family = "wasm"))]
    pub fn step(&mut self, values: &[View<'_, T>]) -> Result<NetworkOutput<T>> {
        self.device.clone().block(self.step_async(values))
    }

    /// [`NetworkSession::step`] for those who may not wait. Outside of browsers somebody must [poll the device](crate::Device::poll).
    ///
    /// # Errors
    /// As [`NetworkSession::step`].
    pub async fn step_async(&mut self, values: &[View<'_, T>]) -> Result<NetworkOutput<T>> {
        let initial = self.goes_on_from();
        self.forward_async(&NetworkInput { initial, ..NetworkInput::new(values) }).await
    }

    /// One step of a batch of streams (plans with T = 1) of which only those with `active[b]` have a step: as [`NetworkSession::step`]
    /// for them. The others keep their states bit for bit, their outputs are 0, and their part of the values is not read. What a stream
    /// gets does not depend on which others are active.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the plan's T is not 1 or there are not B flags; as [`NetworkSession::forward`].
    #[cfg(not(target_family = "wasm"))]
    pub fn step_where(&mut self, values: &[View<'_, T>], active: &[bool]) -> Result<NetworkOutput<T>> {
        self.device.clone().block(self.step_where_async(values, active))
    }

    /// [`NetworkSession::step_where`] for those who may not wait.
    ///
    /// # Errors
    /// As [`NetworkSession::step_where`].
    pub async fn step_where_async(&mut self, values: &[View<'_, T>], active: &[bool]) -> Result<NetworkOutput<T>> {
        let Shape { time, batch } = self.plan.shape;
        if time != 1 {
            let got = format!("T = {time}; give a length of 0 to NetworkSession::forward for several steps");
            return Err(Error::mismatch("plan of step_where", "T = 1", got));
        }
        if active.len() != batch {
            return Err(Error::mismatch("active", format!("B = {batch} flags"), format!("{} flags", active.len())));
        }
        // A sequence of no steps keeps its states in every network.
        let lengths: Vec<usize> = active.iter().map(|&a| usize::from(a)).collect();
        let initial = self.goes_on_from();
        self.forward_async(&NetworkInput { initial, lengths: Some(&lengths), ..NetworkInput::new(values) }).await
    }

    /// Where the next [`NetworkSession::step`] or [`NetworkInitial::Carry`] goes on from, all sequences: the states after the last run, or
    /// what was set since, one `[B, size]` each in the order of [`NetworkOutput::states`]. Empty ones where there are neither, as a step
    /// would begin. It waits for the device.
    ///
    /// # Errors
    /// Errors of the device.
    #[cfg(not(target_family = "wasm"))]
    pub fn states(&mut self) -> Result<Vec<Tensor<T>>> {
        self.device.clone().block(self.states_async())
    }

    /// [`NetworkSession::states`] for those who may not wait.
    ///
    /// # Errors
    /// As [`NetworkSession::states`].
    pub async fn states_async(&mut self) -> Result<Vec<Tensor<T>>> {
        let (states, batch) = (self.plan.states.iter(), self.plan.shape.batch);
        if !self.has_state {
            let empty = |s: &StateSlots| (self.empty_state(s.node, s.size), s.size);
            return Ok(states.map(empty).map(|(data, size)| Tensor { data, shape: vec![batch, size] }).collect());
        }
        let slots: Vec<SlotId> = states.clone().map(|s| s.last).collect();
        let read = self.executor.read(&slots, false).await?;
        Ok(states.zip(read).map(|(s, data)| self.state_of(s, data)).collect())
    }

    /// The same of sequence `b` alone, `[size]` each. Only its part is read from the device.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if `b` is not below B; errors of the device.
    #[cfg(not(target_family = "wasm"))]
    pub fn states_of(&mut self, b: usize) -> Result<Vec<Tensor<T>>> {
        self.device.clone().block(self.states_of_async(b))
    }

    /// [`NetworkSession::states_of`] for those who may not wait.
    ///
    /// # Errors
    /// As [`NetworkSession::states_of`].
    pub async fn states_of_async(&mut self, b: usize) -> Result<Vec<Tensor<T>>> {
        self.plan.shape.validate_sequence(b)?;
        let all = match self.has_state {
            true => self.executor.read_pieces(&self.pieces_of(b)).await?,
            false => self.empty_states_of_one(),
        };
        let mut rest = all.into_iter();
        let one = |s: &StateSlots| Tensor { data: rest.by_ref().take(s.size).collect(), shape: vec![s.size] };
        Ok(self.plan.states.iter().map(one).collect())
    }

    /// Sets the states that the next [`NetworkSession::step`] (or [`NetworkInitial::Carry`]) goes on from, as if a run had ended there: one
    /// `[B, size]` each in the order of [`NetworkOutput::states`].
    ///
    /// # Errors
    /// [`Error::Mismatch`] for another number of states or wrong shapes; errors of the device.
    pub fn set_states(&mut self, states: &[View<'_, T>]) -> Result<()> {
        self.check_states("states", states)?;
        let slots = self.plan.states.clone();
        for (s, view) in slots.iter().zip(states) {
            self.write_state(s.last, s.node, view.data)?;
        }
        self.has_state = true;
        Ok(())
    }

    /// Sets where sequence `b` alone goes on from, `[size]` each. The other sequences keep their states: those of the last run, or empty
    /// ones before any. On a GPU only the part of `b` is written, and nothing is read.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if `b` is not below B, for another number of states or wrong shapes; errors of the device.
    pub fn set_states_of(&mut self, b: usize, states: &[View<'_, T>]) -> Result<()> {
        self.plan.shape.validate_sequence(b)?;
        if states.len() != self.plan.states.len() {
            return Err(Error::mismatch("states", self.plan.states.len(), states.len()));
        }
        for (s, view) in self.plan.states.iter().zip(states) {
            view.check(&format!("states: {}", self.plan.network.nodes[s.node].name), &["size"], &[s.size])?;
        }
        if !self.has_state {
            let empty = self.plan.states.iter().map(|s| (s.last, s.node, self.empty_state(s.node, s.size)));
            for (slot, node, data) in empty.collect::<Vec<_>>() {
                self.write_state(slot, node, &data)?;
            }
            self.has_state = true;
        }
        let values: Vec<T> = states.iter().flat_map(|view| view.data).copied().collect();
        self.executor.write_pieces(&self.pieces_of(b), &values)
    }

    /// Forgets the states: the next [`NetworkSession::step`] starts from empty ones, and [`NetworkInitial::Carry`] is an error.
    pub fn reset(&mut self) {
        self.has_state = false;
    }

    /// Forgets the states of sequence `b` alone: it goes on from empty ones, the others from where they are.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if `b` is not below B; errors of the device.
    pub fn reset_of(&mut self, b: usize) -> Result<()> {
        self.plan.shape.validate_sequence(b)?;
        // Without states all begin from empty ones anyhow.
        match self.has_state {
            true => self.executor.write_pieces(&self.pieces_of(b), &self.empty_states_of_one()),
            false => Ok(()),
        }
    }

    fn goes_on_from<'a>(&self) -> NetworkInitial<'a, T> {
        if self.has_state { NetworkInitial::Carry } else { NetworkInitial::Empty }
    }

    /// The empty states of one sequence, one after the other.
    fn empty_states_of_one(&self) -> Vec<T> {
        self.plan.states.iter().flat_map(|s| self.empty_state_of(s.node, s.size)).collect()
    }

    /// Where the states of sequence `b` are, in their order.
    fn pieces_of(&self, b: usize) -> Vec<(SlotId, Range<usize>)> {
        let mut all = Vec::new();
        for s in &self.plan.states {
            match &self.plan.network.nodes[s.node].op {
                Op::Layers(shape) => all.extend(shape.state_pieces(self.plan.shape.batch, b).map(|p| (s.last, p))),
                _ => all.push((s.last, b * s.size..(b + 1) * s.size)),
            }
        }
        all
    }
}
