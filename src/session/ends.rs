//! The ends of a network: token ids in, targets in, predictions and the loss out; and states from session to session.

use super::{Input, Session};
use crate::error::{Error, Result};
use crate::exec::Element;
use crate::model::stack::{Head, Layout, Loss, Shape};
use crate::plan::{HeadIds, LossIds, SlotId};
use crate::tensor::{Tensor, View};

/// What the head's outputs should have been, in x's layout.
#[derive(Clone, Copy, Debug)]
pub struct Targets<'a, T> {
    /// The targets.
    pub values: TargetValues<'a, T>,
    /// `[T, B]`: how much each step of each sequence counts in the mean, at least 0; `None`: 1. Steps past a sequence's end
    /// never count.
    pub weights: Option<View<'a, T>>,
}

/// Targets, as the loss wants them.
#[derive(Clone, Copy, Debug)]
pub enum TargetValues<'a, T> {
    /// `[T, B]`, each in 0..O, for [`Loss::CrossEntropy`]. Where the weight is 0 any number will do.
    Classes(View<'a, u32>),
    /// `[T, B, O]`, for [`Loss::MeanSquared`].
    Values(View<'a, T>),
}

impl<'a, T> Targets<'a, T> {
    /// Classes `[T, B]`, all counting alike.
    pub fn classes(classes: View<'a, u32>) -> Self {
        Self { values: TargetValues::Classes(classes), weights: None }
    }

    /// Values `[T, B, O]`, all counting alike.
    pub fn values(values: View<'a, T>) -> Self {
        Self { values: TargetValues::Values(values), weights: None }
    }
}

impl<T: Element> Session<T> {
    /// Checks and uploads what the next runs are compared with; after [`Session::write`], whose lengths decide which steps
    /// count. The loss is the mean over the steps that count, weighted; for [`Loss::MeanSquared`] also over the outputs.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a plan without a head or whose head has no loss, targets of the other kind, wrong shapes, a class outside 0..O, a negative
    /// or non-finite weight, or if no step counts; errors of the device.
    pub fn write_targets(&mut self, targets: &Targets<'_, T>) -> Result<()> {
        let (head, loss, ids) = self.loss_ids()?;
        if !self.phase.is_written() {
            return Err(self.out_of_order("targets", "an input written before them (Session::write)", "none"));
        }
        let (outer, names) = self.outer();
        let weights = self.target_weights(targets.weights, loss, head.size)?;
        match (loss, &targets.values) {
            (Loss::CrossEntropy, TargetValues::Classes(view)) => {
                self.check_sequence("targets", view, &outer, &names)?;
                let wrong = |(&class, w): (&u32, &T)| class as usize >= head.size && *w != T::default();
                if let Some(at) = view.data.iter().zip(&weights).position(wrong) {
                    let expected = format!("0..O = 0..{}", head.size);
                    return Err(Error::mismatch(format!("targets[{at}]"), expected, view.data[at]));
                }
                self.stack.executor.write_indices(ids.targets, view.data)?;
            }
            (Loss::MeanSquared, TargetValues::Values(view)) => {
                let (mut sizes, mut all) = (outer.to_vec(), names.to_vec());
                sizes.push(head.size);
                all.push("O");
                self.check_sequence("targets", view, &sizes, &all)?;
                self.stack.executor.write(ids.targets, view.data)?;
            }
            (Loss::CrossEntropy, _) => return Err(Error::mismatch("targets", "classes (cross entropy)", "values")),
            (Loss::MeanSquared, _) => return Err(Error::mismatch("targets", "values (mean squared error)", "classes")),
        }
        self.stack.executor.write(ids.target_weights, &weights)?;
        self.phase = self.phase.to_run_again(true);
        Ok(())
    }

    /// The loss of the last run. Waits for it and reads one number.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a plan without a head or whose head has no loss, or if no run has seen the targets; errors of the
    /// device.
    #[cfg(not(target_family = "wasm"))]
    pub fn loss(&mut self) -> Result<T> {
        self.device.clone().block(self.loss_async())
    }

    /// [`Session::loss`] for those who may not wait. Outside of browsers somebody must [poll the device](crate::Device::poll).
    ///
    /// # Errors
    /// As [`Session::loss`].
    pub async fn loss_async(&mut self) -> Result<T> {
        let (_, _, ids) = self.loss_ids()?;
        if !self.phase.has_loss() {
            return Err(self.out_of_order("loss", "a run after write_targets", "none"));
        }
        Ok(self.stack.executor.fetch(&[ids.loss]).await?[0][0])
    }

    /// The head's outputs in the last run, [`crate::Output::predictions`], read back now and without the rest.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a plan without a head or before any run; errors of the device.
    #[cfg(not(target_family = "wasm"))]
    pub fn predictions(&mut self) -> Result<Tensor<T>> {
        self.device.clone().block(self.predictions_async())
    }

    /// [`Session::predictions`] for those who may not wait. Outside of browsers somebody must [poll the device](crate::Device::poll).
    ///
    /// # Errors
    /// As [`Session::predictions`].
    pub async fn predictions_async(&mut self) -> Result<Tensor<T>> {
        let ids = self.head_ids()?;
        if !self.phase.has_run() {
            return Err(self.out_of_order("predictions", "a run before it", "none since an input was written"));
        }
        let packed = self.stack.executor.fetch(&[ids.outputs]).await?.remove(0);
        Ok(self.as_predictions(&packed))
    }

    /// The packed rows of the head's outputs, each in its place in x's layout.
    pub(super) fn as_predictions(&self, packed: &[T]) -> Tensor<T> {
        let size = self.plan.config.head.map_or(0, |head| head.size);
        let (outer, _) = self.outer();
        let mut data = vec![T::default(); outer[0] * outer[1] * size];
        let rows = self.stack.schedule.row_offset(self.plan.shape.time);
        for (row, &to) in packed.chunks_exact(size).zip(&self.stack.schedule.rows(0)[..rows]) {
            data[to as usize * size..][..size].copy_from_slice(row);
        }
        let shape = if self.unbatched { vec![self.plan.shape.time, size] } else { vec![outer[0], outer[1], size] };
        Tensor { data, shape }
    }

    /// Starts the next run from where `other` ended: its hn and cn become this session's h0 and c0, without leaving the device
    /// (an encoder's last state is its decoder's first). After [`Session::write`], which sets a state of its own.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if `other` has not run, or the two do not have the same device and shapes of states.
    pub fn write_initial_from(&mut self, other: &Self) -> Result<()> {
        if !other.has_state {
            return Err(Error::mismatch("initial state", "a session that has run", "none"));
        }
        let (own, theirs) = (&self.plan.ids, &other.plan.ids);
        let cell = own.c0.zip(theirs.c0.map(|_| theirs.cn));
        let pairs: Vec<_> = [(theirs.hn, own.h0)].into_iter().chain(cell.map(|(c0, cn)| (cn, c0))).collect();
        self.copy_from(other, &pairs)
    }

    /// Goes back from where `other` arrived: the gradients of its h0 and c0 become the upstream gradients of this session's hn
    /// and cn, and y has none (a decoder's gradient goes on through its encoder).
    ///
    /// # Errors
    /// [`Error::Mismatch`] if one of the plans does not train, or the two do not have the same device and shapes of states.
    pub fn write_upstream_from(&mut self, other: &Self) -> Result<()> {
        let (own, theirs) = (self.gradient_ids()?, other.gradient_ids()?);
        let cell = own.dcn.zip(theirs.dcn.map(|_| theirs.dc0));
        let pairs: Vec<_> = [(theirs.dh0, own.dhn)].into_iter().chain(cell.map(|(dcn, dc0)| (dc0, dcn))).collect();
        if self.plan.keep_y && self.plan.config.head.is_none() {
            self.write_state(own.dy, None)?;
        }
        self.copy_from(other, &pairs)
    }

    fn copy_from(&mut self, other: &Self, pairs: &[(SlotId, SlotId)]) -> Result<()> {
        let (config, theirs) = (&self.plan.config, &other.plan.config);
        if config.cell.has_cell_state() != theirs.cell.has_cell_state() {
            return Err(Error::mismatch("cell of the other session", config.cell.name, theirs.cell.name));
        }
        for &(from, to) in pairs {
            let (from, to) = (&other.plan.slots[from], &self.plan.slots[to]);
            if from.dims != to.dims {
                let text = |dims: &[(&str, usize)]| format!("{:?}", dims.iter().map(|d| d.1).collect::<Vec<_>>());
                return Err(Error::mismatch(&to.name, text(&to.dims), text(&from.dims)));
            }
        }
        self.stack.executor.copy_from(&other.stack.executor, pairs)
    }

    /// Uploads token ids and, in training, where each token occurs.
    pub(super) fn write_ids(&mut self, input: &Input<'_, T>) -> Result<()> {
        let (outer, names) = self.outer();
        let Some(vocabulary) = self.plan.config.vocabulary else {
            return Ok(());
        };
        let Some(ids) = input.ids else {
            return Err(Error::mismatch("ids", format!("[{}] = {outer:?}", names.join(", ")), "none"));
        };
        self.check_sequence("ids", &ids, &outer, &names)?;
        // Past a sequence's end there may be anything; token 0 is as good as another.
        let mut known = vec![0; ids.data.len()];
        let rows: Vec<usize> = (0..known.len()).filter(|&row| self.is_real(row)).collect();
        for &row in &rows {
            known[row] = ids.data[row];
            if known[row] as usize >= vocabulary {
                return Err(Error::mismatch(format!("ids[{row}]"), format!("0..V = 0..{vocabulary}"), known[row]));
            }
        }
        let Some(slots) = self.plan.ids.embedding.clone() else { return Ok(()) };
        self.stack.executor.write_indices(slots.ids, &known)?;
        let Some(grad) = slots.grad else { return Ok(()) };
        // A counting sort: rows of token 0, of token 1, …, each in ascending order.
        let mut table = vec![0u32; vocabulary + 1 + known.len()];
        rows.iter().for_each(|&row| table[known[row] as usize + 1] += 1);
        (0..vocabulary).for_each(|v| table[v + 1] += table[v]);
        let mut next = table[..vocabulary].to_vec();
        for row in rows {
            let to = &mut next[known[row] as usize];
            table[vocabulary + 1 + *to as usize] = row as u32;
            *to += 1;
        }
        self.stack.executor.write_indices(grad.occurrences, &table)
    }

    /// The weight of every row over what their sum (times the outputs, for a mean over them too) comes to.
    fn target_weights(&self, given: Option<View<'_, T>>, loss: Loss, size: usize) -> Result<Vec<T>> {
        let (outer, names) = self.outer();
        given.map_or(Ok(()), |view| self.check_sequence("target weights", &view, &outer, &names))?;
        let mut weights = vec![0.0; outer[0] * outer[1]];
        for (row, w) in weights.iter_mut().enumerate() {
            if self.is_real(row) {
                *w = given.map_or(1.0, |view| view.data[row].to_f64());
                if !w.is_finite() || *w < 0.0 {
                    return Err(Error::mismatch(format!("target weights[{row}]"), "finite and at least 0", *w));
                }
            }
        }
        let total: f64 = weights.iter().sum();
        if total <= 0.0 || !total.is_finite() {
            return Err(Error::mismatch("target weights", "a positive, finite sum over the real steps", total));
        }
        let divisor = if loss == Loss::MeanSquared { total * size as f64 } else { total };
        Ok(weights.into_iter().map(|w| T::from_f64(w / divisor)).collect())
    }

    /// Whether a row of x lies before its sequence's end.
    fn is_real(&self, row: usize) -> bool {
        let Shape { time, batch } = self.plan.shape;
        let (b, t) = match self.plan.config.layout {
            Layout::TimeMajor => (row % batch, row / batch),
            Layout::BatchFirst => (row / time, row % time),
        };
        self.stack.lengths.as_ref().is_none_or(|l| t < l[b])
    }

    /// T and B in the order of the layout, and their names.
    fn outer(&self) -> ([usize; 2], [&'static str; 2]) {
        let Shape { time, batch } = self.plan.shape;
        match self.plan.config.layout {
            Layout::TimeMajor => ([time, batch], ["T", "B"]),
            Layout::BatchFirst => ([batch, time], ["B", "T"]),
        }
    }

    /// Checks a shape that begins with T and B, or with T alone where B = 1.
    fn check_sequence<E>(&self, what: &str, view: &View<'_, E>, sizes: &[usize], names: &[&str]) -> Result<()> {
        if self.plan.shape.batch == 1 && view.shape.len() + 1 == sizes.len() {
            let skip = usize::from(self.plan.config.layout == Layout::TimeMajor);
            let without = |n: &usize| *n != skip;
            let sizes: Vec<_> = (0..sizes.len()).filter(without).map(|n| sizes[n]).collect();
            let names: Vec<_> = (0..names.len()).filter(without).map(|n| names[n]).collect();
            return view.check(what, &names, &sizes);
        }
        view.check(what, names, sizes)
    }

    fn head_ids(&self) -> Result<HeadIds> {
        self.plan.ids.head.clone().ok_or_else(no_head)
    }

    fn loss_ids(&self) -> Result<(Head, Loss, LossIds)> {
        let ids = self.head_ids()?;
        let head = self.plan.config.head.ok_or_else(no_head)?;
        let loss = head.loss.zip(ids.loss).map(|(loss, ids)| (head, loss, ids));
        loss.ok_or_else(|| {
            Error::mismatch("loss of the head", "one to compare with targets by (Head { loss: Some(..), .. })", "none")
        })
    }
}

fn no_head() -> Error {
    Error::mismatch("head", "a configuration with a head", "none")
}
