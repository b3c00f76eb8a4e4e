//! Zoneout around the cells' pointwise functions; the twin of what `src/kernels/zoneout.rs` generates.

use super::Context;
use crate::model::cell::{Initial, MAX_VALUES};
use crate::model::stack::Direction;
use crate::num::random::{MaskKind, threshold};
use crate::num::{Lanes, Real, Shared};
use pulp::{Simd, WithSimd};
use std::ops::Range;

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
    /// Of a row: states, and how far they are apart.
    states: usize,
    stride: usize,
    /// Whether it keeps all or nothing of a value.
    masks: bool,
}

impl<T: Real> Zone<T> {
    fn load<V: Lanes<Elem = T>>(&self, isa: V::Isa, of: &[T], row: usize, first: usize) -> (V, V) {
        let m = V::load(isa, &of[row * self.units..][..self.units][first..]);
        (m, V::splat(isa, T::from_f64(1.0)) - m)
    }

    /// Where a register of a state is.
    #[inline(always)]
    fn at(&self, row: usize, s: usize, first: usize) -> usize {
        (row * self.states + s) * self.stride + first
    }

    /// Copies the states of some rows' units `own`: what [`Self::mix`] needs. `state`: `[rows, states, H]`.
    pub fn keep(&self, before: &mut Vec<T>, rows: usize, own: &Range<usize>, state: &Shared<'_, T>) {
        before.clear();
        for (row, s) in (0..rows).flat_map(|row| (0..self.states).map(move |s| (row, s))) {
            // SAFETY: units of the caller's own.
            before.extend_from_slice(unsafe { state.seen(self.at(row, s, own.start), own.len()) });
        }
    }

    /// Mixes the states and `out` of some rows' units with the states before the stage. `out`: `[rows, ..]`, rows so far apart; only
    /// stages that do not keep h may do without.
    pub fn mix(
        &self,
        before: &[T],
        rows: usize,
        own: &Range<usize>,
        state: &Shared<'_, T>,
        out: Option<(&Shared<'_, T>, usize)>,
    ) {
        assert!(out.is_some() || self.hidden.is_empty(), "h is mixed where it is made");
        self.each(rows, own, Mix { before, own: own.clone(), state, out });
    }

    /// Leaves the cell its share of the gradients of some rows, and gives that of the values before, `[rows, states, N]`.
    pub fn split(&self, rows: usize, d_out: &mut [T], d_state: &Shared<'_, T>) -> Vec<T> {
        let mut kept = vec![T::default(); rows * self.states * self.units];
        self.each(rows, &(0..self.units), Split { kept: &mut kept, d_out, d_state });
        kept
    }

    /// Adds what went around.
    pub fn join(&self, rows: usize, kept: &[T], d_state: &Shared<'_, T>) {
        for (row, s) in (0..rows).flat_map(|row| (0..self.states).map(move |s| (row, s))) {
            if !self.cell.is_empty() && self.cells[s] || !self.hidden.is_empty() && s == self.own {
                // SAFETY: units of the caller's own.
                let d = unsafe { d_state.part(self.at(row, s, 0), self.units) };
                let kept = &kept[(row * self.states + s) * self.units..];
                d.iter_mut().zip(kept).for_each(|(d, &kept)| *d = *d + kept);
            }
        }
    }

    /// Runs `visit` for every register of some rows' units.
    fn each(&self, rows: usize, own: &Range<usize>, visit: impl Visit<T>) {
        struct Run<'a, T, F>(&'a Zone<T>, usize, &'a Range<usize>, F);
        impl<T: Real, F: Visit<T>> WithSimd for Run<'_, T, F> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, isa: S) {
                let Self(zone, rows, own, mut visit) = self;
                let width = <T::Lanes<S> as Lanes>::WIDTH;
                for row in 0..rows {
                    for first in own.clone().step_by(width) {
                        visit.register::<T::Lanes<S>>(isa, zone, row, first..own.end.min(first + width));
                    }
                }
            }
        }
        T::dispatch(Run(self, rows, own, visit));
    }

    /// A kept value keeps its bits.
    #[inline(always)]
    fn mixed<V: Lanes<Elem = T>>(&self, m: V, old: V, made: V) -> V {
        if self.masks { m.pick(m.like(1.0), old, made) } else { m.mul_add(old - made, made) }
    }
}

/// What is done with a register of a row's units.
trait Visit<T: Real> {
    fn register<V: Lanes<Elem = T>>(&mut self, isa: V::Isa, zone: &Zone<T>, row: usize, units: Range<usize>);
}

/// [`Zone::mix`]
struct Mix<'a, T> {
    before: &'a [T],
    own: Range<usize>,
    state: &'a Shared<'a, T>,
    out: Option<(&'a Shared<'a, T>, usize)>,
}

impl<T: Real> Visit<T> for Mix<'_, T> {
    #[inline(always)]
    fn register<V: Lanes<Elem = T>>(&mut self, isa: V::Isa, zone: &Zone<T>, row: usize, units: Range<usize>) {
        let (first, lanes) = (units.start, units.len());
        // SAFETY: units of the caller's own.
        let memory = |s: usize| unsafe { self.state.part(zone.at(row, s, first), lanes) };
        let old = |s: usize| {
            let at = (row * zone.states + s) * self.own.len() + first - self.own.start;
            V::load(isa, &self.before[at..][..lanes])
        };
        if !zone.cell.is_empty() {
            let (m, _) = zone.load::<V>(isa, &zone.cell, row, first);
            for s in (0..zone.states).filter(|&s| zone.cells[s]) {
                zone.mixed(m, old(s), V::load(isa, memory(s))).store(memory(s));
            }
        }
        if let Some((out, stride)) = self.out.filter(|_| !zone.hidden.is_empty()) {
            let (m, _) = zone.load::<V>(isa, &zone.hidden, row, first);
            // SAFETY: as above.
            let out = unsafe { out.part(row * stride + first, lanes) };
            let h = zone.mixed(m, old(zone.own), V::load(isa, out));
            h.store(memory(zone.own));
            h.store(out);
        }
    }
}

/// [`Zone::split`]
struct Split<'a, T> {
    kept: &'a mut [T],
    d_out: &'a mut [T],
    d_state: &'a Shared<'a, T>,
}

impl<T: Real> Visit<T> for Split<'_, T> {
    #[inline(always)]
    fn register<V: Lanes<Elem = T>>(&mut self, isa: V::Isa, zone: &Zone<T>, row: usize, units: Range<usize>) {
        let (first, lanes) = (units.start, units.len());
        let mut keep =
            |s: usize, v: V| v.store(&mut self.kept[(row * zone.states + s) * zone.units + first..][..lanes]);
        // SAFETY: units of the caller's own.
        let memory = |s: usize| unsafe { self.d_state.part(zone.at(row, s, first), lanes) };
        if !zone.cell.is_empty() {
            let (m, rest) = zone.load::<V>(isa, &zone.cell, row, first);
            for s in (0..zone.states).filter(|&s| zone.cells[s]) {
                let d = V::load(isa, memory(s));
                keep(s, m * d);
                (rest * d).store(memory(s));
            }
        }
        if !zone.hidden.is_empty() {
            let (m, rest) = zone.load::<V>(isa, &zone.hidden, row, first);
            let d_out = &mut self.d_out[row * zone.units + first..][..lanes];
            let sum = V::load(isa, d_out) + V::load(isa, memory(zone.own));
            keep(zone.own, m * sum);
            (rest * sum).store(d_out);
            memory(zone.own).fill(T::default());
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
            states: self.stages[n].states,
            stride: self.stages[n].state_stride,
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
