//! The stage that `proj_size` appends to a cell: `h' = W_p m`, m the `out` of the stage before (Sak et al. 2014, LSTMP).
//!
//! PyTorch `nn.LSTM(proj_size=P)`, cuDNN `projSize`. Its pointwise part is the identity.

use crate::model::cell::{Adjoint, Functions, Gate, Pointwise, Product, Stage, StageFn};
use crate::num::Lanes;

struct Projection;

impl Pointwise for Projection {
    const GATES: &'static [Gate] = &[Gate::recurrent("m")];

    #[inline(always)]
    fn forward<V: Lanes>(_act: &Functions, pre: &[V], _state: &mut [V], _unit: &[V]) -> V {
        pre[0]
    }

    #[inline(always)]
    fn backward<V: Lanes>(_act: &Functions, _pre: &[V], _state: &[V], _unit: &[V], d: &mut Adjoint<V>) {
        d.pre[0] = d.out;
    }
}

/// The projection stage. Its `forward_<stage>` in WGSL is generated ([`crate::kernels`]): it returns `pre[0]`.
pub(crate) static PROJECTION: Stage = Stage {
    gates: Projection::GATES,
    product: Product::Dense,
    normalise: false,
    pointwise: StageFn::of::<Projection>(),
};
