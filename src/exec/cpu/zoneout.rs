//! Zoneout around the cells' pointwise functions; the twin of what `src/kernels/zoneout.rs` generates.

use super::Context;
use crate::model::cell::{Adjoint, Initial, MAX_VALUES};
use crate::model::stack::Direction;
use crate::num::Lanes;
use crate::num::Real;
use crate::num::random::{MaskKind, threshold};

/// How much one stage of some rows (sequences of a step) keeps of the values before.
pub(crate) struct Zone<T> {
    /// `[rows, N]`: of h, in the last stage; else empty.
    hidden: Vec<T>,
    /// Which state is h.
    own: usize,
    /// `[rows, N]`: of the cell states, in the first stage; else empty.
    cell: Vec<T>,
    /// Which states those are.
    cells: [bool; MAX_VALUES],
    units: usize,
    /// Whether it keeps all or nothing of a value.
    masks: bool,
}

/// Gradients on their way around the cell's adjoint.
#[derive(Clone, Copy)]
pub(crate) struct Kept<V> {
    state: [V; MAX_VALUES],
}

impl<T: Real> Zone<T> {
    fn load<V: Lanes<Elem = T>>(&self, isa: V::Isa, of: &[T], row: usize, first: usize) -> (V, V) {
        let m = V::load(isa, &of[row * self.units..][..self.units][first..]);
        (m, V::splat(isa, T::from_f64(1.0)) - m)
    }

    /// Mixes the states and `out` of a register of units with the states before the stage.
    #[inline(always)]
    pub fn forward<V: Lanes<Elem = T>>(
        &self,
        isa: V::Isa,
        (row, first): (usize, usize),
        before: &[V; MAX_VALUES],
        state: &mut [V; MAX_VALUES],
        out: V,
    ) -> V {
        if !self.cell.is_empty() {
            let (m, _) = self.load::<V>(isa, &self.cell, row, first);
            for s in (0..MAX_VALUES).filter(|&s| self.cells[s]) {
                state[s] = self.mixed(m, before[s], state[s]);
            }
        }
        if self.hidden.is_empty() {
            return out;
        }
        let (m, _) = self.load::<V>(isa, &self.hidden, row, first);
        state[self.own] = self.mixed(m, before[self.own], out);
        state[self.own]
    }

    /// A kept value keeps its bits.
    #[inline(always)]
    fn mixed<V: Lanes<Elem = T>>(&self, m: V, old: V, made: V) -> V {
        if self.masks { m.pick(m.like(1.0), old, made) } else { m.mul_add(old - made, made) }
    }

    /// Leaves the cell its share of the gradients, and gives that of the values before.
    #[inline(always)]
    pub fn split<V: Lanes<Elem = T>>(&self, isa: V::Isa, (row, first): (usize, usize), d: &mut Adjoint<V>) -> Kept<V> {
        let mut kept = Kept { state: [V::splat(isa, T::default()); MAX_VALUES] };
        if !self.cell.is_empty() {
            let (m, rest) = self.load::<V>(isa, &self.cell, row, first);
            for s in (0..MAX_VALUES).filter(|&s| self.cells[s]) {
                kept.state[s] = m * d.state[s];
                d.state[s] = rest * d.state[s];
            }
        }
        if !self.hidden.is_empty() {
            let (m, rest) = self.load::<V>(isa, &self.hidden, row, first);
            let sum = d.out + d.state[self.own];
            kept.state[self.own] = m * sum;
            (d.out, d.state[self.own]) = (rest * sum, V::splat(isa, T::default()));
        }
        kept
    }

    /// Adds what went around.
    #[inline(always)]
    pub fn join<V: Lanes<Elem = T>>(&self, kept: &Kept<V>, d: &mut Adjoint<V>) {
        for s in 0..MAX_VALUES {
            if !self.cell.is_empty() && self.cells[s] || !self.hidden.is_empty() && s == self.own {
                d.state[s] = d.state[s] + kept.state[s];
            }
        }
    }
}

impl<T: Real> Context<'_, T> {
    /// What stage `n` of layer and direction `z` keeps in some rows, `(step, sorted sequence)` each; `None` where nothing.
    pub(super) fn zone(
        &self,
        n: usize,
        z: usize,
        rows: impl Iterator<Item = (usize, usize)> + Clone,
    ) -> Option<Zone<T>> {
        let (config, units) = (&self.plan.config, self.stages[n].units);
        let p = config.zoneout;
        let (hides, cells) = (n + 1 == self.stages.len() && p.hidden > 0.0, n == 0 && p.cell > 0.0);
        if !hides && !cells {
            return None;
        }
        let states = config.states();
        let is = |s: usize, initial| states.get(s).is_some_and(|s| s.initial == initial);
        let of = |there: bool, p: f32, kind: MaskKind| match there {
            true => self.zone_factors(p, kind, z, rows.clone(), units),
            false => Vec::new(),
        };
        Some(Zone {
            hidden: of(hides, p.hidden, MaskKind::ZoneoutHidden),
            own: (0..states.len()).find(|&s| is(s, Initial::Hidden)).unwrap_or(0),
            cell: of(cells, p.cell, MaskKind::ZoneoutCell),
            cells: std::array::from_fn(|s| is(s, Initial::Cell)),
            units,
            masks: self.plan.train && self.masks.are_on(),
        })
    }

    /// Masks of the rows in training, where they are on, else the expectation.
    fn zone_factors(
        &self,
        p: f32,
        kind: MaskKind,
        z: usize,
        rows: impl Iterator<Item = (usize, usize)>,
        units: usize,
    ) -> Vec<T> {
        if !self.plan.train || !self.masks.are_on() {
            return vec![T::from_f64(f64::from(p)); rows.count() * units];
        }
        let config = &self.plan.config;
        let reverse = config.direction == Direction::Reverse || z % config.directions() == 1;
        let threshold = threshold(p);
        let mut factors = Vec::new();
        for (s, b) in rows {
            let t = if reverse { self.schedule.length(b) - 1 - s } else { s };
            let words =
                (0..units.div_ceil(4)).flat_map(|quad| self.masks.words(kind, z, self.schedule.order(b), t, quad));
            factors.extend(words.take(units).map(|word| T::from_f64(f64::from(u8::from(word >> 8 < threshold)))));
        }
        factors
    }
}
