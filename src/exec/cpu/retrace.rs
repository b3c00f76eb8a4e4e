//! The pointwise part of a stage again, from the pre-activations that training keeps: forward over the states only
//! ([`advance`]), and its adjoint ([`backward`]).

use super::packed::{Packed, register_width};
use super::zoneout::Zone;
use crate::model::cell::Functions;
use crate::model::pointwise::{Area, Gradients, Site};
use crate::model::stack::StageShape;
use crate::num::{Real, Shared};

/// One stage of one time step for `rows` sequences of one direction.
pub(crate) struct Retrace<'a, T: Real> {
    pub(crate) shape: StageShape,
    pub(crate) act: &'a Functions,
    pub(crate) packed: &'a Packed<T>,
    pub(crate) rows: usize,
    /// `[rows, pre_stride]`: pre-activations; `backward` leaves their gradients there.
    pub(crate) pre: &'a mut [T],
    pub(crate) pre_stride: usize,
    pub(crate) pre_at: (usize, usize),
    /// Zoneout of the stage.
    pub(crate) zone: Option<&'a Zone<T>>,
}

impl<T: Real> Retrace<'_, T> {
    /// Where the pointwise part finds what it works on.
    fn site<'a>(&'a self, pre: &'a Shared<'_, T>, state: &'a Shared<'_, T>) -> Site<'a, T> {
        let shape = &self.shape;
        Site {
            act: self.act,
            units: shape.units,
            normalise: shape.stage.normalise,
            pre: pre.within(0, pre.len()),
            pre_stride: self.pre_stride,
            pre_at: self.pre_at,
            keep: false,
            unit: &self.packed.unit,
            padded: self.packed.padded,
            own: shape.unit_params() - shape.params,
            state: state.within(0, state.len()),
            states: shape.states,
            state_stride: shape.state_stride,
            out: None,
            out_stride: shape.units,
        }
    }

    /// All of it.
    fn area(&self) -> Area {
        Area { rows: 0..self.rows, panels: 0..self.shape.units.div_ceil(register_width::<T>()) }
    }
}

/// Takes `state` `[rows, states, H]` through the stage, and leaves in `out` `[rows, N]`, where it is not empty, the stage's.
pub(crate) fn advance<T: Real>(mut args: Retrace<'_, T>, state: &mut [T], out: &mut [T]) {
    let pre = std::mem::take(&mut args.pre);
    let (pre, state, to) = (Shared::new(pre), Shared::new(state), Shared::new(out));
    let units = 0..args.shape.units;
    let mut before = Vec::new();
    if let Some(zone) = args.zone {
        zone.keep(&mut before, args.rows, &units, &state);
    }
    let out = (to.len() > 0).then(|| to.within(0, to.len()));
    let site = Site { out, ..args.site(&pre, &state) };
    args.shape.stage.compiled().forward(&site, &args.area(), None);
    if let Some(zone) = args.zone {
        zone.mix(&before, args.rows, &units, &state, site.out.as_ref().map(|out| (out, units.end)));
    }
}

/// The gradients that [`backward`] works on.
pub(crate) struct Back<'a, T> {
    /// `[rows, N]`: the gradient of `out`.
    pub(crate) d_out: &'a mut [T],
    /// `[rows, states, H]`: in: the gradient of the states after the stage; out: of those before it.
    pub(crate) d_state: &'a mut [T],
    /// `[rows, sums, N]`: the unit parameters' gradients are added here, and those of a normalising stage's gains and biases.
    pub(crate) d_unit: &'a mut [T],
    pub(crate) sums: usize,
    /// Of a normalising stage, `[rows, d_normal_stride]`: the gradients of its normalised values `[gates, N]`, in place of those of
    /// the pre-activations.
    pub(crate) d_normal: &'a mut [T],
    pub(crate) d_normal_stride: usize,
}

/// Gradients of the pre-activations, states and unit parameters. `state` `[rows, states, H]`: the states before the stage.
pub(crate) fn backward<T: Real>(mut args: Retrace<'_, T>, state: &mut [T], back: Back<'_, T>) {
    let pre = std::mem::take(&mut args.pre);
    let (pre, state) = (Shared::new(pre), Shared::new(state));
    let Back { d_out, d_state, d_unit, sums, d_normal, d_normal_stride } = back;
    let (d_state, d_unit, d_normal) = (Shared::new(d_state), Shared::new(d_unit), Shared::new(d_normal));
    let kept = args.zone.map(|zone| (zone, zone.split(args.rows, d_out, &d_state)));
    let inputs = args.shape.stage.input_gates() * args.shape.units;
    let (d_pre, d_pre_stride, d_pre_at) = match args.shape.stage.normalise {
        true => (&d_normal, d_normal_stride, (0, inputs)),
        false => (&pre, args.pre_stride, args.pre_at),
    };
    let gradients = Gradients {
        d_out,
        d_state: d_state.within(0, d_state.len()),
        d_unit: d_unit.within(0, d_unit.len()),
        sums,
        d_pre: d_pre.within(0, d_pre.len()),
        d_pre_stride,
        d_pre_at,
    };
    args.shape.stage.compiled().backward(&args.site(&pre, &state), &args.area(), &gradients);
    if args.shape.stage.normalise {
        gains(&args, &pre, (&d_unit, sums), (&d_normal, d_normal_stride));
    }
    if let Some((zone, kept)) = kept {
        zone.join(args.rows, &kept, &d_state);
    }
}

/// Of a normalising stage: the gradients of gains and biases, and from those of what the cell saw those of the normalised values.
fn gains<T: Real>(
    args: &Retrace<'_, T>,
    pre: &Shared<'_, T>,
    (d_unit, sums): (&Shared<'_, T>, usize),
    (d_normal, stride): (&Shared<'_, T>, usize),
) {
    let (shape, n) = (&args.shape, args.shape.units);
    let (inputs, only, gates) = (shape.stage.input_gates(), shape.stage.recurrent_only_gates(), shape.stage.gains());
    for (row, g) in (0..args.rows).flat_map(|row| (0..gates).map(move |g| (row, g))) {
        let at =
            row * args.pre_stride + if g < inputs { args.pre_at.0 + g * n } else { args.pre_at.1 + (g - inputs) * n };
        let sum = |p: usize| (row * sums + shape.sums_at + p) * n;
        let gain = &args.packed.unit[(only + g) * args.packed.padded..][..n];
        // SAFETY: these slices are of other memory each, or of other sums of one row, and nobody else has any while this function runs.
        let (kept, gains, biases, d) = unsafe {
            (
                pre.seen(at, n),
                d_unit.part(sum(g), n),
                d_unit.part(sum(gates + g), n),
                d_normal.part(row * stride + g * n, n),
            )
        };
        for ((((d, &kept), &gain), to_gain), to_bias) in d.iter_mut().zip(kept).zip(gain).zip(gains).zip(biases) {
            *to_gain = *to_gain + *d * kept;
            *to_bias = *to_bias + *d;
            *d = *d * gain;
        }
    }
}
