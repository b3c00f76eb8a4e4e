//! Training on the device: the network's losses, and updates of its parameters.

use super::ids::is_index;
use super::{NetworkInput, NetworkSession};
use crate::error::{Error, Result};
use crate::exec::Element;
use crate::model::network::Part;
use crate::model::optimiser::Optimiser;
use crate::model::stack::Loss;
use crate::plan::network::{SlotId, Times};
use std::sync::atomic::Ordering::Release;

impl<T: Element> NetworkSession<T> {
    /// All parameters as they are now, one after the other in the network's order.
    ///
    /// # Errors
    /// Errors of the device.
    #[cfg(not(target_family = "wasm"))]
    pub fn params(&self) -> Result<Vec<T>> {
        self.device.block(self.params_async())
    }

    /// [`NetworkSession::params`] for those who may not wait. Outside of browsers somebody must [poll the device](crate::Device::poll).
    ///
    /// # Errors
    /// As [`NetworkSession::params`].
    pub async fn params_async(&self) -> Result<Vec<T>> {
        self.executor.params().await
    }

    /// One step of training: writes the input, runs there and back from the network's losses, and updates the parameters. Nothing is
    /// read back, and on a GPU it returns once the work is submitted.
    ///
    /// # Errors
    /// As [`NetworkSession::write`] and [`NetworkSession::update`]; [`Error::Mismatch`] for a network without a loss.
    pub fn train_step(&mut self, input: &NetworkInput<'_, T>, learning_rate: f64) -> Result<()> {
        if self.plan.network.losses().next().is_none() {
            return Err(Error::mismatch("train_step", "a network with a loss (Builder::loss)", "none"));
        }
        self.optimiser()?;
        self.write(input)?;
        self.run()?;
        self.run_back()?;
        self.update(learning_rate)
    }

    /// Applies the optimiser to the gradients of the last way back (or, with [`NetworkOptions::accumulate`], to the sum of those since the
    /// last update or [`NetworkSession::clear_gradients`]). Parameters stay on the device, where siblings see them too.
    ///
    /// [`NetworkOptions::accumulate`]: crate::network::NetworkOptions::accumulate
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the plan has no optimiser, there are no gradients since the last update, or the learning rate is no finite
    /// number of at least 0; errors of the device.
    pub fn update(&mut self, learning_rate: f64) -> Result<()> {
        let optimiser = self.optimiser()?;
        if !(learning_rate.is_finite() && learning_rate >= 0.0) {
            return Err(Error::mismatch("learning rate", "a finite number of at least 0", learning_rate));
        }
        if !self.gradients {
            return Err(Error::mismatch("update", "a way back before it", "none since the last update"));
        }
        let hyper = optimiser.hyper(learning_rate, self.updates + 1, self.plan.options.clip_norm);
        let hyper: Vec<T> = hyper.into_iter().map(T::from_f64).collect();
        self.updates += 1;
        (self.phase, self.upstream, self.gradients) = (self.phase.without_tape(), false, false);
        let done = self.executor.update(&hyper);
        self.changes.fetch_add(1, Release);
        done
    }

    /// Forgets the gradients of the parameters: with [`NetworkOptions::accumulate`] the next way back starts from zeros (without, every
    /// one does).
    ///
    /// [`NetworkOptions::accumulate`]: crate::network::NetworkOptions::accumulate
    pub fn clear_gradients(&mut self) {
        self.gradients = false;
    }

    /// The L2 norm of the gradient of all parameters together, before clipping, at the last update; only with
    /// [`NetworkOptions::clip_norm`].
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the plan does not clip or there was no update yet; errors of the device.
    ///
    /// [`NetworkOptions::clip_norm`]: crate::network::NetworkOptions::clip_norm
    #[cfg(not(target_family = "wasm"))]
    pub fn gradient_norm(&self) -> Result<T> {
        self.device.block(self.gradient_norm_async())
    }

    /// [`NetworkSession::gradient_norm`] for those who may not wait.
    ///
    /// # Errors
    /// As [`NetworkSession::gradient_norm`].
    pub async fn gradient_norm_async(&self) -> Result<T> {
        if self.plan.options.clip_norm.is_none() {
            let expected = "a plan made with NetworkOptions { clip_norm: Some(..), .. }";
            return Err(Error::mismatch("gradient_norm", expected, "a plan that does not clip"));
        }
        if self.updates == 0 {
            return Err(Error::mismatch("gradient_norm", "an update before it", "none"));
        }
        self.executor.gradient_norm().await
    }

    fn optimiser(&self) -> Result<Optimiser> {
        self.plan.options.optimiser.ok_or_else(|| {
            let expected = "a plan made with NetworkOptions { optimiser: Some(..), .. }";
            Error::mismatch("update", expected, "a plan without an optimiser")
        })
    }

    /// The network's loss in the last run: of each of its losses the mean over the rows that count, weighted, and their sum. Waits for
    /// the run and reads a number per row.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a network without a loss, or if nothing has run; errors of the device.
    #[cfg(not(target_family = "wasm"))]
    pub fn loss(&self) -> Result<T> {
        self.device.block(self.loss_async())
    }

    /// [`NetworkSession::loss`] for those who may not wait.
    ///
    /// # Errors
    /// As [`NetworkSession::loss`].
    pub async fn loss_async(&self) -> Result<T> {
        let slots: Vec<SlotId> = self.plan.network.losses().map(|(value, _)| self.plan.values[value]).collect();
        if slots.is_empty() {
            return Err(Error::mismatch("loss", "a network with a loss (Builder::loss)", "none"));
        }
        let Some(divisors) = &self.ran else {
            return Err(Error::mismatch("loss", "a run before it", "none"));
        };
        let rows = self.executor.read(&slots, false).await?;
        let of = |(rows, divisor): (&Vec<T>, &f64)| rows.iter().map(|v| v.to_f64()).sum::<f64>() / divisor;
        Ok(T::from_f64(rows.iter().zip(divisors).map(of).sum()))
    }

    /// Checks targets and weights of every loss, and adds up the weights.
    pub(super) fn divisors(&self, input: &NetworkInput<'_, T>, times: &Times) -> Result<Vec<f64>> {
        let network = &self.plan.network;
        let column = |part: Part, row: usize| input.number(network, part, row).to_f64();
        let mut divisors = Vec::new();
        for (value, of) in network.losses() {
            let name = &network.values[value].name;
            let mut total = 0.0;
            for row in (0..self.plan.rows_of(value)).filter(|&row| !times.is_padding(row)) {
                let weight = of.weights.map_or(1.0, |w| column(w, row));
                if !(weight.is_finite() && weight >= 0.0) {
                    return Err(Error::mismatch(format!("weight {row} of {name}"), "finite and at least 0", weight));
                }
                let target = column(of.targets, row);
                let is_class = is_index(target, of.x.width);
                if of.loss == Loss::CrossEntropy && weight > 0.0 && !is_class {
                    let expected = format!("a class in 0..{}", of.x.width);
                    return Err(Error::mismatch(format!("target {row} of {name}"), expected, target));
                }
                total += weight;
            }
            if !(total > 0.0 && total.is_finite()) {
                let expected = "a positive, finite sum over the rows that are no padding";
                return Err(Error::mismatch(format!("weights of {name}"), expected, total));
            }
            divisors.push(total);
        }
        Ok(divisors)
    }

    /// The gradients of the losses' rows, all others 0.
    pub(super) fn write_losses(&mut self) -> Result<()> {
        self.executor.clear_gradients()?;
        let Self { plan, times, executor, divisors, .. } = self;
        for ((value, _), divisor) in plan.network.losses().zip(divisors) {
            executor.write_with(plan.gradients[value], |gradient| {
                for (row, d) in gradient.iter_mut().enumerate() {
                    *d = if times.is_padding(row) { T::default() } else { T::from_f64(1.0 / *divisor) };
                }
            })?;
        }
        self.upstream = true;
        Ok(())
    }
}
