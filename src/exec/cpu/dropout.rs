//! Twin of `dropout`, and the factors of the recurrent product.

use super::Context;
use crate::model::stack::Layout;
use crate::num::Aligned;
use crate::num::Real;
use crate::num::random::{MaskKind, Rate};
use crate::plan::Dispatch;
use rayon::prelude::*;
use std::ops::Range;

/// Values from which a second thread pays.
const PARALLEL_VALUES: usize = 1 << 16;

/// Multiplies a layer's input, or its gradient, by its masks; from a source into a copy where there is one.
pub(super) fn dropout<T: Real>(c: &Context<'_, T>, d: &Dispatch, slots: &mut [Aligned<T>]) {
    let [values, _, source @ ..] = slots else { unreachable!("kernel table") };
    let (dims, config, shape) = (&c.plan.dims[d.dims], &c.plan.config, c.plan.shape);
    let (width, layer) = (dims.input_size as usize, dims.layer as usize);
    let place = layer * config.directions();
    let rate = |p: f32| (p > 0.0).then(|| Rate::new(p));
    let (input, layers) = (rate(config.dropout.input), rate(if layer > 0 { config.dropout.layers } else { 0.0 }));
    let mask = |(row, values): (usize, &mut [T])| {
        let (t, sequence) = match config.layout {
            Layout::TimeMajor => (row / shape.batch, row % shape.batch),
            Layout::BatchFirst => (row % shape.time, row / shape.time),
        };
        for (quad, values) in values.chunks_mut(4).enumerate() {
            let mut factors = [T::from_f64(1.0); 4];
            if let Some(rate) = &input {
                let words = c.masks.words(MaskKind::Input, place, sequence, 0, quad);
                factors = words.map(|word| c.masks.factor(rate, word));
            }
            if let Some(rate) = &layers {
                let words = c.masks.words(MaskKind::Layers, place, sequence, t, quad);
                factors.iter_mut().zip(words).for_each(|(f, word)| *f = *f * c.masks.factor(rate, word));
            }
            values.iter_mut().zip(factors).for_each(|(v, f)| *v = *v * f);
        }
    };
    if let [source] = source {
        values.copy_from_slice(source);
    }
    if values.len() < PARALLEL_VALUES {
        values.chunks_exact_mut(width).enumerate().for_each(mask);
    } else {
        values.par_chunks_exact_mut(width).enumerate().for_each(mask);
    }
}

impl<T: Real> Context<'_, T> {
    /// What the recurrent product of layer and direction `z` multiplies h of sorted sequences by, `[sequences, P]`; nothing
    /// where the plan has no recurrent dropout.
    pub(super) fn recurrent_factors(&self, z: usize, sequences: Range<usize>) -> Vec<T> {
        let config = &self.plan.config;
        if !config.drops_recurrent(self.plan.train) {
            return Vec::new();
        }
        let rate = Rate::<T>::new(config.dropout.recurrent);
        let mut factors = Vec::with_capacity(sequences.len() * config.state_size());
        for b in sequences {
            let quads = (0..config.state_size().div_ceil(4))
                .flat_map(|quad| self.masks.words(MaskKind::Recurrent, z, self.schedule.order(b), 0, quad));
            factors.extend(quads.take(config.state_size()).map(|word| self.masks.factor(&rate, word)));
        }
        factors
    }
}
