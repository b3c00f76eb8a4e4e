//! The contract of linear recurrences: what one is, as plain data. A newcomer starts here; "Adding a rule" is in [`crate::rules`].
//!
//! ```text
//! per head, a state S [K, V]; at every step
//!
//!   u  = Sᵀ a                                  what the step erases along         only rules with `erase`
//!   S' = diag(d) S + b uᵀ + k vᵀ               decay, rank-one correction, write
//!   y  = S'ᵀ q + r v                           Read::After
//!   y  = Sᵀ q  + r v                           Read::Before: r is what the step itself adds (RWKV's bonus)
//! ```
//!
//! That one recurrence is the whole family. Elementwise rules (minGRU, minLSTM, SRU, QRNN, RG-LRU) have K = V = 1 and a head per
//! channel; Mamba has K = d_state, V = 1 and a head per channel; Mamba-2, retention, gated linear attention, RWKV-5 and -6 have a
//! matrix per head; the delta rules and RWKV-7 have the correction. Rules that divide by what they have summed (RWKV-4, mLSTM) have
//! one more column of values, v ≡ 1, whose sum is the divisor, and gates in log space under a running maximum m, so that no gate
//! overflows: the state holds S·e^−m, and `d` and `k` are e^(log d + m_before − m), e^(log i − m) times what they were.
//!
//! A rule says only how d, a, b, k, q, r (per head and key index) and v (per head and value index) come from its inputs and
//! parameters: pointwise expressions ([`crate::expr`]), which the kernels of both executors evaluate where they load, and whose
//! derivatives they evaluate on the way back. The state is always f32 (f64 on the oracle), and nothing is ever divided by a decay:
//! decays of 0 and products of thousands of them are exact.
//!
//! The way back is the same recurrence in reverse: Λ = ∂L/∂S obeys Λ_before = diag(d) Λ + a (Λᵀ b)ᵀ + (q dyᵀ of the step before),
//! and with u and g = Λᵀ b the gradients are ∂v = Λᵀ k + r dy, ∂k = Λ v, ∂b = Λ u, ∂a = S g, ∂d = Σ_V Λ ∘ S, ∂q = S' dy.

use crate::expr::Expr;

/// What a port holds one value per.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Extent {
    /// One per head.
    Head,
    /// K per head: one per row of the state.
    Key,
    /// V per head: one per column of the state.
    Value,
}

impl Extent {
    /// Values of all heads, of as many keys and values; no less where there are more than can be counted.
    pub fn width(self, [heads, keys, values]: [usize; 3]) -> usize {
        match self {
            Self::Head => heads,
            Self::Key => heads.saturating_mul(keys),
            Self::Value => heads.saturating_mul(values),
        }
    }
}

/// A named input or parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Port {
    /// The field's name for it (`q`, `k`, `v`, `dt`, `w`).
    pub name: &'static str,
    /// How many values a head has of it.
    pub extent: Extent,
}

impl Port {
    /// One value per head.
    pub const fn head(name: &'static str) -> Self {
        Self { name, extent: Extent::Head }
    }
    /// K values per head.
    pub const fn key(name: &'static str) -> Self {
        Self { name, extent: Extent::Key }
    }
    /// V values per head.
    pub const fn value(name: &'static str) -> Self {
        Self { name, extent: Extent::Value }
    }
}

/// Which state a step reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Read {
    /// The one it has written.
    After,
    /// The one before.
    Before,
}

/// What the sums are divided by, of rules that divide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Divisor {
    /// The sum of weights: y = num / den (RWKV-4).
    Sum,
    /// No less than one, before scaling by e^−m: y = num / max(|den|, e^−m) (mLSTM).
    AtLeastOne,
}

/// Gates in log space under a running maximum: m = max(m_before + `decay`, `input`).
#[derive(Clone, Debug, PartialEq)]
pub struct Stabiliser {
    /// The logarithm of the decay, per head.
    pub decay: Expr,
    /// The logarithm of the input gate, per head.
    pub input: Expr,
    /// What the outputs are divided by.
    pub divisor: Divisor,
}

/// m before the first step: e^(m + anything) is 0, and it may be subtracted.
pub const EMPTY_MAXIMUM: f64 = -1e30;

/// How a step's coefficients come from the rule's ports: expressions over [`Rule::ports`]. Expressions of `key`s may use ports of
/// extents Head and Key, those of values Head and Value.
#[derive(Clone, Debug, PartialEq)]
pub struct Form {
    /// d; `None`: 1.
    pub decay: Option<Expr>,
    /// a and b; `None`: 0.
    pub erase: Option<(Expr, Expr)>,
    /// k
    pub write: Expr,
    /// q
    pub query: Expr,
    /// r, summed over the key indices where it uses a port that has them; `None`: 0.
    pub through: Option<Expr>,
    /// v
    pub value: Expr,
    /// Which state is read.
    pub read: Read,
    /// Gates in log space, and a division.
    pub stabiliser: Option<Stabiliser>,
}

/// How many rows (K) and columns (V) a head's state may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeadState {
    /// One of each: elementwise rules, whose heads are channels.
    Scalar,
    /// One column: Mamba's, whose heads are channels.
    Vector,
    /// Any.
    Matrix,
}

impl HeadState {
    /// Heads, K and V, with 1 for what there can only be one of.
    pub fn sizes(self, [heads, keys, values]: [usize; 3]) -> [usize; 3] {
        match self {
            Self::Scalar => [heads, 1, 1],
            Self::Vector => [heads, keys, 1],
            Self::Matrix => [heads, keys, values],
        }
    }
}

/// A linear recurrence: plain data.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The name on the command line, e.g. `gated-delta`.
    pub name: &'static str,
    /// What every step has.
    pub inputs: &'static [Port],
    /// What all steps share.
    pub params: &'static [Port],
    /// How many rows and columns a head's state may have.
    pub state: HeadState,
    /// The coefficients.
    pub form: fn() -> Form,
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Rule {
    /// Its ports, in the order in which expressions number them: inputs, parameters, and with a stabiliser m before the step and m
    /// after it (per head).
    pub fn ports(&self) -> Vec<Port> {
        let maximum = [Port::head("m_before"), Port::head("m")];
        let maximum = maximum.into_iter().filter(|_| (self.form)().stabiliser.is_some());
        self.inputs.iter().chain(self.params).copied().chain(maximum).collect()
    }

    /// The number of a port in expressions.
    ///
    /// # Panics
    /// If there is none of that name: a rule that names a port it does not have is no rule.
    pub fn port(&self, name: &str) -> usize {
        let all = [self.inputs, self.params, &[Port::head("m_before"), Port::head("m")]].concat();
        all.iter().position(|p| p.name == name).unwrap_or_else(|| panic!("rule {}: no port {name}", self.name))
    }
}

/// The expressions of a [`Form`] by what they are per head: all that a kernel must evaluate at one key index, and at one value
/// index.
impl Form {
    /// d, a, b, k, q, r: at one key index.
    pub fn of_key(&self) -> [Option<&Expr>; 6] {
        let (a, b) = self.erase.as_ref().map_or((None, None), |(a, b)| (Some(a), Some(b)));
        [self.decay.as_ref(), a, b, Some(&self.write), Some(&self.query), self.through.as_ref()]
    }
}
