//! The naive loops' sLSTM, step by step from the equations in the docs of `cells/slstm.rs`: c, n and m of all units lie one after
//! the other.

use super::naive::{Scalar, Sums, dot};
use super::naive_backward::{Step, dot_adjoint, taken};
use super::naive_rules::Rules;

/// One unit of a step; the gates with their activations' derivatives.
struct Unit<T> {
    log_i: (T, T),
    /// a_f, of which log f is the negative.
    forget: (T, T),
    g: (T, T),
    o: (T, T),
    /// exp(log f + m − m') and exp(log i − m'), at most exp(80).
    shares: [T; 2],
    /// Whether m' is log f + m.
    keeps: bool,
    /// c', n', m'.
    new: [T; 3],
}

impl<T: Scalar> Unit<T> {
    fn new(sums: &Sums<'_, T>, rules: &Rules, h: &[T], state: &[T], j: usize) -> Self {
        let zero = T::default();
        let [c, n, m] = [0, 1, 2].map(|part| state[part * sums.hidden + j]);
        let log_i = rules.both(0, sums.both(0, j, h));
        let forget = rules.both(1, zero - sums.both(1, j, h));
        let g = rules.both(2, sums.both(2, j, h));
        let o = rules.both(3, sums.both(3, j, h));
        let kept = m - forget.0;
        let keeps = n != zero && kept >= log_i.0;
        let stabiliser = if keeps { kept } else { log_i.0 };
        let most = T::from_f64(80.0);
        let shares = [kept, log_i.0].map(|v| if v - stabiliser > most { most } else { v - stabiliser }.exp());
        let new = [shares[0] * c + shares[1] * g.0, shares[0] * n + shares[1], stabiliser];
        Self { log_i, forget, g, o, shares, keeps, new }
    }

    /// o∘c'/n'
    fn out(&self) -> T {
        self.o.0 * (self.new[0] / self.new[1])
    }
}

fn units<T: Scalar>(sums: &Sums<'_, T>, rules: &Rules, h: &[T], state: &[T]) -> Vec<Unit<T>> {
    (0..sums.hidden).map(|j| Unit::new(sums, rules, h, state, j)).collect()
}

/// With projection where there is one.
pub(super) fn slstm<T: Scalar>(sums: &Sums<'_, T>, rules: &Rules, h: &mut [T], state: &mut [T]) {
    let units = units(sums, rules, h, state);
    for (part, values) in state.chunks_exact_mut(sums.hidden).enumerate() {
        values.iter_mut().zip(&units).for_each(|(value, unit)| *value = unit.new[part]);
    }
    let out: Vec<T> = units.iter().map(Unit::out).collect();
    if sums.weights.projection.is_empty() {
        h.copy_from_slice(&out);
    } else {
        h.iter_mut().enumerate().for_each(|(p, h)| *h = dot(&sums.weights.projection, &[], p, &out));
    }
}

pub(super) fn slstm_back<T: Scalar>(s: &mut Step<'_, T>, d_h: &mut [T], d_state: &mut [T]) {
    let (h, hidden, zero) = (s.h, s.sums.hidden, T::default());
    let units = units(&s.sums, s.rules, h, s.c);
    let mut d_out = taken(d_h);
    if !s.sums.weights.projection.is_empty() {
        let (out, d_new): (Vec<T>, _) = (units.iter().map(Unit::out).collect(), d_out);
        d_out = vec![zero; hidden];
        for (p, &d) in d_new.iter().enumerate() {
            let to = (&mut s.grads.projection[..], &mut [][..]);
            dot_adjoint(&s.sums.weights.projection, p, &out, d, to, &mut d_out);
        }
    }
    for (j, u) in units.iter().enumerate() {
        let [at_c, at_n, at_m] = [0, 1, 2].map(|part| part * hidden + j);
        let (c, n) = (s.c[at_c], s.c[at_n]);
        let [new_c, new_n, _] = u.new;
        let d_h = &mut *d_h;
        let d = d_out[j];
        // h' = o c' / n'
        let d_o = d * (new_c / new_n) * u.o.1;
        let d_c = d_state[at_c] + d * u.o.0 / new_n;
        let d_n = d_state[at_n] - d * u.o.0 * new_c / (new_n * new_n);
        // c' = f c + i g, n' = f n + i
        let d_f = (d_c * c + d_n * n) * u.shares[0];
        let d_i = (d_c * u.g.0 + d_n) * u.shares[1];
        // f = exp(kept − m'), i = exp(log i − m'), m' = max(kept, log i)
        let d_m = d_state[at_m] - d_f - d_i;
        let (d_kept, d_log_i) = if u.keeps { (d_f + d_m, d_i) } else { (d_f, d_i + d_m) };
        d_state[at_c] = d_c * u.shares[0];
        d_state[at_n] = d_n * u.shares[0];
        d_state[at_m] = d_kept;
        // kept = m − a_f(−v): two signs that cancel.
        let gates = [d_log_i * u.log_i.1, d_kept * u.forget.1, d_c * u.shares[1] * u.g.1, d_o];
        for (gate, d) in gates.into_iter().enumerate() {
            s.both(gate, j, h, d, d_h);
        }
    }
}
