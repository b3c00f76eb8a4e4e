//! The way back: upstream gradients in, gradients out.

use super::Session;
use crate::error::{Error, Result};
use crate::exec::Element;
use crate::model::weights::Weights;
use crate::plan::{GradientIds, Half, SlotId};
use crate::tensor::{Tensor, View};
use std::collections::HashMap;

/// Gradients of a loss with respect to what a run gave: what [`Session::backward`] starts from. `None`: zeros.
#[derive(Clone, Copy, Debug)]
pub struct Upstream<'a, T> {
    /// Of y, in its shape. Values past a sequence's end are ignored. A configuration with a head takes none: its loss gives
    /// the gradient.
    pub y: Option<View<'a, T>>,
    /// Of hn `[L·D, B, P or H]`.
    pub hn: Option<View<'a, T>>,
    /// Of cn `[L·D, B, S·H]`, for cells with a cell state.
    pub cn: Option<View<'a, T>>,
}

/// Gradients of a loss with respect to everything a run read. They replace those of the run before; those of the parameters add up
/// with [`crate::Options::accumulate`].
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients<T> {
    /// Of x, or of what the embedding put in its place, in its layout; exactly 0 past a sequence's end.
    pub x: Tensor<T>,
    /// Of h0 `[L·D, B, P or H]`.
    pub h0: Tensor<T>,
    /// Of c0 `[L·D, B, S·H]`, for cells with a cell state.
    pub c0: Option<Tensor<T>>,
    /// Of every parameter, in the same canonical order.
    pub weights: Weights<T>,
}

impl<T: Element> Session<T> {
    /// Backpropagation through time: gradients of everything the last run read, given those of what it gave. Training plans
    /// ([`crate::Options::train`]) only; a run can be gone back through once, for its kept values are overwritten by gradients.
    /// Where x came without a batch dimension, so may the upstream gradients, and so do the gradients.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the plan does not train, nothing has run since the last backward pass, or a shape is wrong;
    /// [`Error::DeviceLost`] and [`Error::Gpu`] from the device.
    #[cfg(not(target_family = "wasm"))]
    pub fn backward(&mut self, upstream: &Upstream<'_, T>) -> Result<Gradients<T>> {
        self.device.clone().block(self.backward_async(upstream))
    }

    /// [`Session::backward`] for those who may not wait. Outside of browsers somebody must [poll the device](crate::Device::poll).
    ///
    /// # Errors
    /// As [`Session::backward`].
    pub async fn backward_async(&mut self, upstream: &Upstream<'_, T>) -> Result<Gradients<T>> {
        self.check_upstream(upstream)?;
        self.tape_ids()?;
        self.write_upstream(upstream)?;
        let slots = self.gradient_slots()?;
        let values = self.run_back_and_read(&slots).await?;
        self.as_gradients(values)
    }

    /// The gradients of the last backward pass, read back now: after [`Session::run_back`].
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the plan does not train or there are none since the last update; [`Error::DeviceLost`] and
    /// [`Error::Gpu`] from the device.
    #[cfg(not(target_family = "wasm"))]
    pub fn gradients(&mut self) -> Result<Gradients<T>> {
        self.device.clone().block(self.gradients_async())
    }

    /// [`Session::gradients`] for those who may not wait. Outside of browsers somebody must [poll the device](crate::Device::poll).
    ///
    /// # Errors
    /// As [`Session::gradients`].
    pub async fn gradients_async(&mut self) -> Result<Gradients<T>> {
        let slots = self.gradient_slots()?;
        if !self.gradients {
            return Err(Error::mismatch("gradients", "a backward pass before it", "none since the last update"));
        }
        let values = self.stack.executor.fetch(&slots).await?;
        self.as_gradients(slots.into_iter().zip(values).collect())
    }

    fn gradient_slots(&self) -> Result<Vec<SlotId>> {
        let ids = self.gradient_ids()?;
        let states = [ids.dx, ids.dh0].into_iter().chain(ids.dcn.map(|_| ids.dc0));
        Ok(states.chain(self.parameter_gradients()).collect())
    }

    fn as_gradients(&self, values: HashMap<SlotId, Vec<T>>) -> Result<Gradients<T>> {
        let ids = self.gradient_ids()?;
        let tensor = |slot: SlotId| {
            let dims = self.plan.slots[slot].dims.iter();
            let shape = dims.filter(|d| !(self.unbatched && d.0 == "B")).map(|d| d.1).collect();
            Tensor { data: values[&slot].clone(), shape }
        };
        Ok(Gradients {
            x: tensor(ids.dx),
            h0: tensor(ids.dh0),
            c0: ids.dcn.map(|_| tensor(ids.dc0)),
            weights: Weights::from_flat(&self.plan.config, &self.plan.flat_gradients(&values)),
        })
    }

    /// Goes back through the last run from the upstream gradients written last, and waits for those of the parameters.
    ///
    /// # Errors
    /// As [`Session::backward`].
    #[cfg(not(target_family = "wasm"))]
    pub fn run_backward(&mut self) -> Result<Weights<T>> {
        self.device.clone().block(self.run_backward_async())
    }

    /// [`Session::run_backward`] for those who may not wait. Outside of browsers somebody must [poll the device](crate::Device::poll).
    ///
    /// # Errors
    /// As [`Session::run_backward`].
    pub async fn run_backward_async(&mut self) -> Result<Weights<T>> {
        self.tape_ids()?;
        let slots = self.parameter_gradients();
        let values = self.run_back_and_read(&slots).await?;
        Ok(Weights::from_flat(&self.plan.config, &self.plan.flat_gradients(&values)))
    }

    /// The same without reading anything: for [`Session::update`]. On a GPU it returns once the work is submitted.
    ///
    /// # Errors
    /// As [`Session::backward`].
    pub fn run_back(&mut self) -> Result<()> {
        self.tape_ids()?;
        self.begin_backward()?;
        self.stack.run(Half::Backward, &[])
    }

    /// Checks and uploads upstream gradients, for [`Session::run_backward`] as often as wanted.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the plan does not train or a shape is wrong; from the device.
    pub fn write_upstream(&mut self, upstream: &Upstream<'_, T>) -> Result<()> {
        let ids = self.check_upstream(upstream)?;
        if self.plan.config.head.is_none() {
            self.write_state(ids.dy, upstream.y)?;
        }
        self.write_state(ids.dhn, upstream.hn)?;
        ids.dcn.map_or(Ok(()), |slot| self.write_state(slot, upstream.cn))
    }

    fn check_upstream(&self, upstream: &Upstream<'_, T>) -> Result<GradientIds> {
        let ids = self.gradient_ids()?;
        let check = |what: &str, slot: SlotId, view: &Option<View<'_, T>>| {
            let Some(view) = view else { return Ok(()) };
            let unbatched = self.unbatched && view.shape.len() == 2;
            let dims = self.plan.slots[slot].dims.iter().copied().filter(|d| !(unbatched && d.0 == "B"));
            let (names, sizes): (Vec<_>, Vec<_>) = dims.unzip();
            view.check(what, &names, &sizes)
        };
        if let (Some(_), Some(dy)) = (self.plan.config.head, &upstream.y) {
            return Err(Error::mismatch("dy", "none (the head's loss gives it)", format!("{:?}", dy.shape)));
        }
        if let (false, Some(dy)) = (self.plan.keep_y, &upstream.y) {
            return Err(Error::mismatch("dy", "none (the plan keeps no y)", format!("{:?}", dy.shape)));
        }
        check("dy", ids.dy, &upstream.y)?;
        check("dhn", ids.dhn, &upstream.hn)?;
        match (ids.dcn, &upstream.cn) {
            (Some(slot), cn) => check("dcn", slot, cn)?,
            (None, Some(cn)) => {
                let expected = format!("none ({} has no cell state)", self.plan.config.cell.name);
                return Err(Error::mismatch("dcn", expected, format!("{:?}", cn.shape)));
            }
            (None, None) => {}
        }
        Ok(ids)
    }

    pub(super) fn gradient_ids(&self) -> Result<GradientIds> {
        let expected = "a plan made with Options { train: true, .. }";
        self.plan.ids.grad.clone().ok_or_else(|| Error::mismatch("backward", expected, "an inference plan"))
    }

    /// The same, where there is a run to go back through.
    pub(super) fn tape_ids(&self) -> Result<GradientIds> {
        let ids = self.gradient_ids()?;
        if !self.phase.has_tape() {
            return Err(self.out_of_order("backward", "a forward run before it", "none since the last backward pass"));
        }
        if self.run_at != self.changes() {
            return Err(Error::mismatch("backward", "a forward run before it", "none since the parameters changed"));
        }
        if self.plan.config.head.is_some() && !self.phase.has_loss() {
            return Err(Error::mismatch("backward", "a run after write_targets", "a run without targets"));
        }
        Ok(ids)
    }

    pub(super) fn parameter_gradients(&self) -> Vec<SlotId> {
        self.plan.ids.parameter_gradients().into_iter().map(|(slot, _)| slot).collect()
    }

    async fn run_back_and_read(&mut self, slots: &[SlotId]) -> Result<HashMap<SlotId, Vec<T>>> {
        self.begin_backward()?;
        self.stack.run(Half::Backward, slots)?;
        Ok(slots.iter().copied().zip(self.stack.executor.read(slots).await?).collect())
    }

    /// The kept values will turn into gradients, on top of those that are there if they accumulate.
    pub(super) fn begin_backward(&mut self) -> Result<()> {
        self.phase = self.phase.without_tape();
        if self.plan.options.accumulate && !self.gradients {
            self.stack.executor.clear(&self.parameter_gradients())?;
        }
        self.gradients = true;
        Ok(())
    }
}
