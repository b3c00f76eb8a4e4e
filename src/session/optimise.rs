//! Updates of the parameters on the device.

use super::Session;
use crate::error::{Error, Result};
use crate::exec::Element;
use crate::model::optimiser::Optimiser;
use crate::model::weights::Weights;
use crate::plan::{Half, SlotId, UpdateIds};
use std::sync::atomic::Ordering::Release;

impl<T: Element> Session<T> {
    /// One step of training on what was written last: forward pass, backward pass, update. Nothing is read back, and on a GPU it
    /// returns once the work is submitted. The gradient starts from the loss where there is a head, and from what
    /// [`Session::write_upstream`] wrote last (zeros, if it never did).
    ///
    /// # Errors
    /// As [`Session::update`], before anything runs; [`Error::Mismatch`] if there is a head and no targets were written.
    pub fn train_step(&mut self, learning_rate: f64) -> Result<()> {
        self.update_ids("train_step")?;
        check_rate(learning_rate)?;
        self.run()?;
        self.run_back()?;
        self.update(learning_rate)
    }

    /// Applies the optimiser to the gradients of the last backward pass (or, with [`crate::Options::accumulate`], to the sum of
    /// those since the last update or [`Session::clear_gradients`]). Parameters stay on the device, where the siblings of this
    /// session see them too. A run that was not gone back through yet cannot be any more: its kept values belong to the parameters
    /// of before.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the plan has no optimiser, there are no gradients since the last update, or the learning rate is
    /// not a finite number of at least 0; [`Error::DeviceLost`] and [`Error::Gpu`] from the device.
    pub fn update(&mut self, learning_rate: f64) -> Result<()> {
        let (ids, optimiser) = self.update_ids("update")?;
        check_rate(learning_rate)?;
        if !self.gradients {
            return Err(Error::mismatch("update", "a backward pass before it", "none since the last update"));
        }
        let hyper = optimiser.hyper(learning_rate, self.updates + 1, self.plan.options.clip_norm);
        let hyper: Vec<T> = hyper.into_iter().map(T::from_f64).collect();
        self.stack.executor.write(ids.hyper, &hyper)?;
        (self.gradients, self.phase) = (false, self.phase.without_tape());
        self.updates += 1;
        let read: Vec<SlotId> = ids.norm.map(|(_, norm)| norm).into_iter().collect();
        let done = self.stack.run(Half::Update, &read);
        self.changes.fetch_add(1, Release);
        done
    }

    /// The parameters as they are now, read back; only where there is an optimiser (without one they are those that the session was
    /// made with, or given last by [`Session::set_weights`]).
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the plan has no optimiser; [`Error::DeviceLost`] and [`Error::Gpu`] from the device.
    #[cfg(not(target_family = "wasm"))]
    pub fn weights(&mut self) -> Result<Weights<T>> {
        self.device.clone().block(self.weights_async())
    }

    /// [`Session::weights`] for those who may not wait. Outside of browsers somebody must [poll the device](crate::Device::poll).
    ///
    /// # Errors
    /// As [`Session::weights`].
    pub async fn weights_async(&mut self) -> Result<Weights<T>> {
        let slot = self.update_ids("weights")?.0.parameters;
        let values = self.stack.executor.download(slot).await?;
        Ok(Weights::from_flat(&self.plan.config, &values))
    }

    /// Other parameters on the device, for this session and its siblings; with an optimiser what it remembers of the gradients so far
    /// stays. Runs of theirs that were not gone back through yet cannot be any more: what they kept belongs to the parameters of
    /// before.
    ///
    /// # Errors
    /// [`Error::Mismatch`] from a sibling (the weights are those of the session it was made of), and as [`Session::from_plan`] for
    /// weights that do not fit; [`Error::DeviceLost`] and [`Error::Gpu`] from the device.
    pub fn set_weights(&mut self, weights: &Weights<T>) -> Result<()> {
        if self.is_sibling {
            return Err(Error::mismatch(
                "set_weights",
                "the session that the weights were given to",
                "a sibling of it",
            ));
        }
        weights.validate(&self.plan.config)?;
        self.plan.options.weights.check(&self.plan.config, weights)?;
        self.phase = self.phase.without_tape();
        let done = self.stack.executor.set_weights(weights);
        self.changes.fetch_add(1, Release);
        done
    }

    /// Forgets the gradients of the parameters: with [`crate::Options::accumulate`] the next backward pass starts from zeros
    /// (without, every one does).
    pub fn clear_gradients(&mut self) {
        self.gradients = false;
    }

    /// The L2 norm of the gradient of all parameters together, before clipping, at the last update; only with
    /// [`crate::Options::clip_norm`].
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the plan does not clip or there was no update yet; [`Error::DeviceLost`] and [`Error::Gpu`] from
    /// the device.
    #[cfg(not(target_family = "wasm"))]
    pub fn gradient_norm(&mut self) -> Result<T> {
        self.device.clone().block(self.gradient_norm_async())
    }

    /// [`Session::gradient_norm`] for those who may not wait. Outside of browsers somebody must [poll the device](crate::Device::poll).
    ///
    /// # Errors
    /// As [`Session::gradient_norm`].
    pub async fn gradient_norm_async(&mut self) -> Result<T> {
        let (ids, _) = self.update_ids("gradient_norm")?;
        let Some((_, norm)) = ids.norm else {
            let expected = "a plan made with Options { clip_norm: Some(..), .. }";
            return Err(Error::mismatch("gradient_norm", expected, "a plan that does not clip"));
        };
        if self.updates == 0 {
            return Err(Error::mismatch("gradient_norm", "an update before it", "none"));
        }
        Ok(self.stack.executor.read(&[norm]).await?[0][0])
    }

    fn update_ids(&self, what: &str) -> Result<(UpdateIds, Optimiser)> {
        self.plan.ids.update.clone().zip(self.plan.options.optimiser).ok_or_else(|| {
            let expected = "a plan made with Options { optimiser: Some(..), .. }";
            Error::mismatch(what, expected, "a plan without an optimiser")
        })
    }
}

fn check_rate(learning_rate: f64) -> Result<()> {
    match learning_rate.is_finite() && learning_rate >= 0.0 {
        true => Ok(()),
        false => Err(Error::mismatch("learning rate", "a finite number of at least 0", learning_rate)),
    }
}
