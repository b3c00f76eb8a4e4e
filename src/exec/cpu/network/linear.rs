//! Products with a matrix of parameters.

use super::{Binding, Context, HasTwin, Twin};
use crate::error::Result;
use crate::exec::Common;
use crate::exec::cpu::packed::{Packed, pack_columns, pack_rows};
use crate::exec::cpu::project::product;
use crate::exec::cpu::threads::for_each;
use crate::exec::cpu::tile::{Rows, multiply};
use crate::model::network::{Linear, Part};
use crate::model::weights::WeightFormat;
use crate::num::Aligned;
use crate::num::Real;
use crate::num::Shared;
use crate::plan::network::NetworkPlan;

/// W packed for x·Wᵀ, and in training for dy·W.
struct PackedLinear<T> {
    inputs: usize,
    outputs: usize,
    forward: Packed<T>,
    back: Option<Packed<T>>,
    bias: Option<Vec<T>>,
}

/// Rows that a thread takes at once.
const ROWS: usize = 64;
/// Multiply-adds from which a second thread pays.
const PARALLEL_WORK: usize = 1 << 18;

struct LinearTwin<T> {
    of: Linear,
    packed: Common<PackedLinear<T>>,
}

fn pack<T: Real>(of: &Linear, plan: &NetworkPlan, params: &[T]) -> PackedLinear<T> {
    let network = &plan.network;
    let own = |p: usize| &params[network.param_offset(p)..][..network.params[p].len()];
    PackedLinear::new(own(of.weight), of.x.width, of.bias.map(own), plan.options.train)
}

impl<T: Real> HasTwin<T> for Linear {
    fn twin(&self, binding: &Binding<'_, T>) -> Result<Box<dyn Twin<T>>> {
        Ok(Box::new(LinearTwin { of: self.clone(), packed: Common::new(pack(self, binding.plan, binding.params)) }))
    }
}

impl<T: Real> Twin<T> for LinearTwin<T> {
    fn forward(&mut self, c: &Context<'_, T>, slots: &mut [Aligned<T>], y: &mut [T]) -> Result<()> {
        let x = self.of.x;
        self.packed.get().forward(&slots[c.plan.values[x.value]], (x, c.stride(x)), y);
        Ok(())
    }

    fn backward(&mut self, c: &Context<'_, T>, slots: &mut [Aligned<T>], dy: &[T], d_params: &mut [T]) -> Result<()> {
        let Linear { x, weight, bias } = self.of;
        let at = |p: usize| c.plan.network.param_offset(p);
        let places = (at(weight), bias.map(at));
        let id = c.plan.gradients[x.value];
        let mut dx = std::mem::take(&mut slots[id]);
        let values = &slots[c.plan.values[x.value]];
        self.packed.get().backward(values, (x, c.stride(x)), dy, &mut dx, (d_params, places), |row| c.is_padding(row));
        slots[id] = dx;
        Ok(())
    }

    fn sibling(&self, _: &NetworkPlan) -> Result<Option<Box<dyn Twin<T>>>> {
        Ok(Some(Box::new(Self { of: self.of.clone(), packed: self.packed.sibling() })))
    }

    fn hold(&mut self, held: bool) {
        if held { self.packed.hold() } else { self.packed.release() }
    }

    fn set_params(&mut self, plan: &NetworkPlan, params: &[T]) -> Result<()> {
        self.packed.put(pack(&self.of, plan, params));
        Ok(())
    }
}

impl<T: Real> PackedLinear<T> {
    fn new(weight: &[T], inputs: usize, bias: Option<&[T]>, train: bool) -> Self {
        let outputs = weight.len() / inputs;
        let back = train.then(|| pack_columns(weight, outputs, inputs));
        Self {
            inputs,
            outputs,
            forward: pack_rows(weight, outputs, inputs, WeightFormat::F32),
            back,
            bias: bias.map(<[T]>::to_vec),
        }
    }

    /// y = x·Wᵀ + b
    fn forward(&self, x: &[T], (part, stride): (Part, usize), y: &mut [T]) {
        let operand = Rows { values: &x[part.first..], stride };
        rows_times(&self.forward, operand, y, (self.inputs, self.outputs), self.bias.as_deref());
    }

    /// dx += dy·W, dW += dyᵀ·x, db += Σ dy; `places`: where W and b begin among all parameters.
    fn backward(
        &self,
        x: &[T],
        (part, stride): (Part, usize),
        dy: &[T],
        dx: &mut [T],
        (d_params, places): (&mut [T], (usize, Option<usize>)),
        padding: impl Fn(usize) -> bool,
    ) {
        let (inputs, outputs) = (self.inputs, self.outputs);
        let rows = dy.len() / outputs;
        if let Some(back) = &self.back {
            let mut part_dx = vec![T::default(); rows * inputs];
            rows_times(back, Rows { values: dy, stride: outputs }, &mut part_dx, (outputs, inputs), None);
            for (to, from) in dx.chunks_exact_mut(stride).zip(part_dx.chunks_exact(inputs)) {
                to[part.first..][..inputs].iter_mut().zip(from).for_each(|(t, f)| *t = *t + *f);
            }
        }
        let mut gathered: Vec<T> =
            x.chunks_exact(stride).flat_map(|row| &row[part.first..][..inputs]).copied().collect();
        let mut dy = dy.to_vec();
        for row in (0..rows).filter(|&row| padding(row)) {
            // 0 times what may be no number.
            gathered[row * inputs..][..inputs].fill(T::default());
            dy[row * outputs..][..outputs].fill(T::default());
        }
        let dw = &mut d_params[places.0..][..inputs * outputs];
        product(&dy, &gathered, dw, (outputs, rows, inputs), (inputs, true));
        if let Some(at) = places.1 {
            for row in dy.chunks_exact(outputs) {
                d_params[at..][..outputs].iter_mut().zip(row).for_each(|(d, v)| *d = *d + *v);
            }
        }
    }
}

/// `out[row]` = `packed` · `operand[row]` + bias; the bits of a row depend on nothing but that row.
fn rows_times<T: Real>(
    packed: &Packed<T>,
    operand: Rows<'_, T>,
    out: &mut [T],
    (k, n): (usize, usize),
    bias: Option<&[T]>,
) {
    let rows = out.len() / n;
    let threads = if rows * k * n < PARALLEL_WORK { 1 } else { rayon::current_num_threads() };
    let out = Shared::new(out);
    for_each(rows.div_ceil(ROWS), threads, |part| {
        let (first, count) = (part * ROWS, ROWS.min(rows - part * ROWS));
        // SAFETY: whole rows of this part alone.
        let out = unsafe { out.part(first * n, count * n) };
        let operand = Rows { values: &operand.values[first * operand.stride..], stride: operand.stride };
        multiply(packed, operand, (out, n), n, bias);
    });
}
