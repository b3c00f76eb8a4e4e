//! Twins of the update's kernels: `gather_gradient`, `square_sum`, `clip`, `update_*` and `pack`. Each element is computed in f64
//! and rounded once.

use super::{Executor, PackedWeights};
use crate::kernels::{Flat, GradientOf, Kernel, NORM_GROUPS, NORM_WIDTH, Pack, Table};
use crate::model::optimiser::Hyper;
use crate::model::stack::RnnConfig;
use crate::model::weights::Weights;
use crate::num::Aligned;
use crate::num::Real;
use crate::plan::{Dispatch, Plan, Step};

impl<T: Real> Executor<T> {
    /// Runs the update. Siblings see it once they run again.
    pub(crate) fn walk_update(&mut self, plan: &Plan) {
        for step in &plan.update {
            let Step::Once(d) = step else { unreachable!("an update has no time steps") };
            self.update_dispatch(plan, d);
        }
    }

    fn update_dispatch(&mut self, plan: &Plan, d: &Dispatch) {
        let table = plan.ids.update.as_ref().and_then(|u| u.table_of(d));
        // Weights and tables are empty here: the executor has its own packed form.
        let mut slots: Vec<Aligned<T>> = d.slots.iter().map(|&id| std::mem::take(&mut self.slots[id])).collect();
        match (d.kernel, table) {
            (Kernel::GatherGradient, Some(Table::Gather(of))) => gather_gradient(&plan.config, of, &mut slots),
            (Kernel::SquareSum, _) => square_sum(&mut slots),
            (Kernel::Clip, _) => clip(&mut slots),
            (Kernel::UpdateSgd, _) => update_sgd(&mut slots),
            (Kernel::UpdateMomentum, _) => update_momentum(&mut slots),
            (Kernel::UpdateAdam, _) => update_adam(&mut slots),
            (Kernel::Pack, Some(Table::Pack(pack, _))) => self.pack(plan, pack, &slots),
            (kernel, _) => unreachable!("{kernel:?} is no part of an update"),
        }
        for (&id, slot) in d.slots.iter().zip(slots) {
            self.slots[id] = slot;
        }
    }

    /// This executor packs everything at once, in a form of its own, in place of the first buffer.
    fn pack(&self, plan: &Plan, pack: Pack, slots: &[Aligned<T>]) {
        let [_, parameters, _] = slots else { unreachable!("kernel table") };
        if pack != Pack::Input(0) {
            return;
        }
        self.weights.put(PackedWeights::new(plan, &Weights::from_flat(&plan.config, parameters)));
    }
}

/// Memory of what an update reads and writes: a plan's, or a network's.
pub(super) trait Slot<T>: std::ops::DerefMut<Target = [T]> {}

impl<T, S: std::ops::DerefMut<Target = [T]>> Slot<T> for S {}

/// The norm of a gradient that lies flat, and into `hyper` what an update multiplies it by so that it is at most the given one.
pub(super) fn clip_flat<T: Real>(hyper: &mut [T], gradient: &mut Vec<T>) -> T {
    let mut slots = [std::mem::take(gradient), vec![T::default(); NORM_GROUPS]];
    square_sum(&mut slots);
    let [all, sums] = slots;
    *gradient = all;
    let mut slots = [sums, vec![T::default()], hyper.to_vec()];
    clip(&mut slots);
    hyper.copy_from_slice(&slots[2]);
    slots[1][0]
}

/// The update of parameters that lie as their gradient does: `slots` are what the host writes before every update, the gradient, the
/// parameters, and what the rule remembers.
pub(super) fn update_flat<T: Real>(slots: &mut [impl Slot<T>]) {
    match slots.len() {
        3 => update_sgd(slots),
        4 => update_momentum(slots),
        _ => update_adam(slots),
    }
}

fn gather_gradient<T: Real>(config: &RnnConfig, of: GradientOf, slots: &mut [Aligned<T>]) {
    let [_, values, gradient] = slots else { unreachable!("kernel table") };
    of.for_each(config, &Flat::new(config), &mut |at, parameter| gradient[parameter] = values[at]);
}

fn square_sum<T: Real>(slots: &mut [impl Slot<T>]) {
    let [gradient, sums] = slots else { unreachable!("kernel table") };
    for (group, sum) in sums.iter_mut().enumerate() {
        let lane = |lane: usize| {
            let own = gradient.iter().skip(group * NORM_WIDTH + lane).step_by(NORM_GROUPS * NORM_WIDTH);
            own.map(|g| g.to_f64() * g.to_f64()).sum::<f64>()
        };
        *sum = T::from_f64((0..NORM_WIDTH).map(lane).sum());
    }
}

fn clip<T: Real>(slots: &mut [impl Slot<T>]) {
    let [sums, norm, hyper] = slots else { unreachable!("kernel table") };
    let length = sums.iter().map(|s| s.to_f64()).sum::<f64>().sqrt();
    norm[0] = T::from_f64(length);
    let scale = hyper[Hyper::MaxNorm as usize].to_f64() / (length + 1e-6);
    // Not `min`, which would lose NaN.
    hyper[Hyper::Scale as usize] = T::from_f64(if scale > 1.0 { 1.0 } else { scale });
}

fn update_sgd<T: Real>(slots: &mut [impl Slot<T>]) {
    let [hyper, gradient, parameters] = slots else { unreachable!("kernel table") };
    let [rate, scale] = [Hyper::Rate, Hyper::Scale].map(|h| hyper[h as usize].to_f64());
    for (p, g) in parameters.iter_mut().zip(gradient.iter()) {
        *p = T::from_f64(p.to_f64() - rate * (scale * g.to_f64()));
    }
}

fn update_momentum<T: Real>(slots: &mut [impl Slot<T>]) {
    let [hyper, gradient, parameters, m] = slots else { unreachable!("kernel table") };
    let [rate, momentum, scale] = [Hyper::Rate, Hyper::Beta1, Hyper::Scale].map(|h| hyper[h as usize].to_f64());
    for ((p, g), m) in parameters.iter_mut().zip(gradient.iter()).zip(m.iter_mut()) {
        let velocity = momentum * m.to_f64() + scale * g.to_f64();
        *m = T::from_f64(velocity);
        *p = T::from_f64(p.to_f64() - rate * velocity);
    }
}

fn update_adam<T: Real>(slots: &mut [impl Slot<T>]) {
    let [hyper, gradient, parameters, m, v] = slots else { unreachable!("kernel table") };
    let read = |h: Hyper| hyper[h as usize].to_f64();
    let [rate, keep, scale, epsilon] = [Hyper::Rate, Hyper::Keep, Hyper::Scale, Hyper::Epsilon].map(read);
    let [beta1, rest1, beta2, rest2] = [Hyper::Beta1, Hyper::Rest1, Hyper::Beta2, Hyper::Rest2].map(read);
    let correction = read(Hyper::Correction);
    for (((p, g), m), v) in parameters.iter_mut().zip(gradient.iter()).zip(m.iter_mut()).zip(v.iter_mut()) {
        let g = scale * g.to_f64();
        let mean = beta1 * m.to_f64() + rest1 * g;
        let square = beta2 * v.to_f64() + rest2 * g * g;
        (*m, *v) = (T::from_f64(mean), T::from_f64(square));
        let divisor = square.sqrt() / correction + epsilon;
        *p = T::from_f64(keep * p.to_f64() - rate * (mean / divisor));
    }
}
