//! The cell contract: what a recurrent cell is, as plain data. A newcomer starts here; "Adding a cell" is in [`crate::cells`].
//!
//! ```text
//! one time step = a chain of stages; one stage =
//!
//!   operand[K] ──R──> product ──(LN)──┐
//!                                     ├──> pre ──> forward(pre, state, unit) ──> state', out[N]
//!            x[I] ──W──> product ──(LN)──┘  (+ b)
//!
//!   the first stage's operand is h[t-1]; the next stage's operand is this stage's `out`; the last stage's `out` is h[t].
//! ```
//!
//! A **gate** is one pre-activation of a hidden unit. It sees x (has a row in W), the stage's operand (has a row in R), or
//! both. That general description leaves no special cases: a reset-after GRU is one stage of four gates (`r`, `z` see both,
//! `n` sees x only, `hn` sees h only); a reset-before GRU is two stages (the first one's `out` is r∘h); a projection is one
//! more stage whose pointwise part is the identity; layer normalisation is a flag that puts a row statistic between each of the
//! two products and the pointwise part (the gates of such a stage see x only or the operand only, and its pointwise part adds
//! them: each part has a place of its own to be normalised in).
//!
//! A cell is written twice, once as [`Pointwise`] in Rust and once in WGSL with the same names; the two executors are
//! compared slot by slot. All counts (`PRE`, `STATES`, …) live here, in the Rust data: the WGSL side gets them as generated
//! constants. Kernels never name a cell.

use super::pointwise::{Calls, Compiled, Signature};
use crate::error::{Error, Result};
pub use crate::model::activation::{Activation, Function, Functions};
use crate::num::Real;
use crate::num::{Lanes, Pair};

/// One pre-activation of every unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gate {
    /// The field's name for it (`i`, `f`, `g`, `o`; `r`, `z`, `n`).
    pub name: &'static str,
    /// It sees x: it has a row block in W (and in the input bias).
    pub input: bool,
    /// It sees the stage's operand: it has a row block in R (and in the recurrent bias).
    pub recurrent: bool,
}

impl Gate {
    /// A gate that sees x and the operand.
    pub const fn both(name: &'static str) -> Self {
        Self { name, input: true, recurrent: true }
    }
    /// A gate that sees x only.
    pub const fn input(name: &'static str) -> Self {
        Self { name, input: true, recurrent: false }
    }
    /// A gate that sees the operand only.
    pub const fn recurrent(name: &'static str) -> Self {
        Self { name, input: false, recurrent: true }
    }
}

/// What the recurrent gates of a stage are made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Product {
    /// R · operand: a full matrix, or its blocks ([`crate::RnnConfig::recurrence`]).
    Dense,
    /// The operand itself, unit by unit (one recurrent gate, no weights): a stage that only normalises.
    Identity,
}

/// One link of a step's chain: product, optional row statistic, pointwise part.
#[derive(Clone, Copy, Debug)]
pub struct Stage {
    /// Gates in this order: those that see both, then x only, then the operand only.
    pub gates: &'static [Gate],
    /// Where the recurrent part comes from.
    pub product: Product,
    /// Layer normalisation of W x and of the product, each on its own: (p − mean) / √(var + 1e-5) over all its gates × units of
    /// a sequence's step, times a gain per gate and unit, plus the gate's bias. No gate of such a stage sees both.
    pub normalise: bool,
    /// The CPU side of the pointwise part and its adjoint, made by [`StageFn::of`].
    pub pointwise: StageFn,
}

impl Stage {
    /// The CPU kernels of the stage in precision `T`.
    pub(crate) fn compiled<T: Real>(&self) -> Compiled<T> {
        *T::of(&self.pointwise.calls)
    }
    /// Number of gates that see x.
    pub fn input_gates(&self) -> usize {
        self.gates.iter().filter(|g| g.input).count()
    }
    /// Number of gates that see the operand.
    pub fn recurrent_gates(&self) -> usize {
        self.gates.iter().filter(|g| g.recurrent).count()
    }
    /// Number of gates that see both.
    pub fn both_gates(&self) -> usize {
        self.gates.iter().filter(|g| g.input && g.recurrent).count()
    }
    /// Number of gates that see the operand only; each carries its recurrent bias as a unit parameter.
    pub fn recurrent_only_gates(&self) -> usize {
        self.recurrent_gates() - self.both_gates()
    }
    /// Number of gates with a gain: all of a normalising stage, in their order.
    pub fn gains(&self) -> usize {
        if self.normalise { self.gates.len() } else { 0 }
    }
    /// Whether its W x is normalised before the recurrence.
    pub(crate) fn normalises_input(&self) -> bool {
        self.normalise && self.input_gates() > 0
    }
    /// Whether the gates come in the order the kernels rely on: both, x only, operand only.
    pub fn is_ordered(&self) -> bool {
        let rank = |g: &Gate| match (g.input, g.recurrent) {
            (true, true) => 0,
            (true, false) => 1,
            (false, true) => 2,
            (false, false) => 3,
        };
        self.gates.windows(2).all(|w| rank(&w[0]) <= rank(&w[1])) && self.gates.iter().all(|g| rank(g) < 3)
    }
}

/// Where a state's value before the first step comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initial {
    /// h0: the state is the unit's own copy of the hidden state.
    Hidden,
    /// c0, and its last value is cn. The first stage gives its new value (zoneout mixes it with the old one there). Where a cell
    /// has several, each has its part of c0 and cn, in their order.
    Cell,
    /// Nowhere: it only carries a value from one stage to a later one of the same step.
    Scratch,
}

/// Something a unit remembers about itself (elementwise; what the *other* units see of it is the operand).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct State {
    /// Its name in the equations.
    pub name: &'static str,
    /// Its initial value.
    pub initial: Initial,
}

/// A field of [`crate::RnnConfig`] that a cell's equations must heed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellOption {
    /// [`crate::RnnConfig::cell_clip`]: the cell passes c' through [`Functions::clip_cell`].
    CellClip,
    /// [`crate::RnnConfig::input_forget`]: the cell takes f = 1 − i where [`Functions::input_forget`] says so.
    InputForget,
}

/// A recurrent cell: plain data. `{:?}` prints its name.
#[derive(Clone, Copy)]
pub struct Cell {
    /// The name on the command line, e.g. `gru-reset-before`.
    pub name: &'static str,
    /// The chain of one step.
    pub stages: &'static [Stage],
    /// Per-unit memory.
    pub states: &'static [State],
    /// Per-unit parameter vectors `[H]` beside W, R, b and gains (peepholes), available to every stage.
    pub params: &'static [&'static str],
    /// The activations the cell uses, with their defaults; [`crate::RnnConfig::activations`] replaces them.
    pub activations: &'static [(&'static str, Activation)],
    /// The fields of [`crate::RnnConfig`] that only some cells have equations for, and this one has.
    pub options: &'static [CellOption],
    /// The WGSL text with `forward_0`, `forward_1`, … one per stage.
    pub wgsl: &'static str,
}

impl std::fmt::Debug for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Cell {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Cell {
    /// Refuses what no executor can run: a cell from outside may be anything.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a cell without stages, with more values than [`MAX_VALUES`] or more recurrent gates in a stage than
    /// [`MAX_RECURRENT_GATES`], with gates out of order, with a pointwise part for other gates, states or parameters, with an identity product of other than one recurrent gate, or with a
    /// normalising stage whose gates see both x and the operand.
    pub fn validate(&self) -> Result<()> {
        let (name, count) = (self.name, |most: usize| format!("at most {most}"));
        if self.stages.is_empty() {
            return Err(Error::mismatch(format!("stages of {name}"), "at least one", 0));
        }
        let of_cell = [("states", self.states.len()), ("unit parameters", self.params.len())];
        if let Some((what, got)) = of_cell.into_iter().find(|(_, got)| *got > MAX_VALUES) {
            return Err(Error::mismatch(format!("{what} of {name}"), count(MAX_VALUES), got));
        }
        for (n, stage) in self.stages.iter().enumerate() {
            let of_stage = [
                ("gates", stage.gates.len(), MAX_VALUES),
                ("recurrent gates", stage.recurrent_gates(), MAX_RECURRENT_GATES),
            ];
            if let Some((what, got, most)) = of_stage.into_iter().find(|(_, got, most)| got > most) {
                return Err(Error::mismatch(format!("{what} of stage {n} of {name}"), count(most), got));
            }
            if stage.product == Product::Identity && stage.recurrent_gates() != 1 {
                let what = format!("recurrent gates of stage {n} of {name}, which has no matrix");
                return Err(Error::mismatch(what, 1, stage.recurrent_gates()));
            }
            let made_for = stage.pointwise.signature;
            if made_for.gates != stage.gates || made_for.states != self.states || made_for.params != self.params {
                let all = |gates: &[Gate], states: &[State], params: &[&str]| {
                    let names = gates.iter().map(|g| g.name).chain(states.iter().map(|s| s.name));
                    names.chain(params.iter().copied()).collect::<Vec<_>>().join(" ")
                };
                return Err(Error::mismatch(
                    format!("gates, states and parameters of the pointwise part of stage {n} of {name}"),
                    all(stage.gates, self.states, self.params),
                    all(made_for.gates, made_for.states, made_for.params),
                ));
            }
            if !stage.is_ordered() {
                return Err(Error::mismatch(
                    format!("gates of stage {n} of {name}"),
                    "those that see both, then x only, then the operand only",
                    stage.gates.iter().map(|g| g.name).collect::<Vec<_>>().join(" "),
                ));
            }
            if stage.normalise && stage.both_gates() > 0 {
                return Err(Error::mismatch(
                    format!("gates of the normalising stage {n} of {name}"),
                    "gates that see x only or the operand only",
                    format!("{} that see both", stage.both_gates()),
                ));
            }
        }
        Ok(())
    }

    /// Gates that see x, over all stages: row blocks of W, in canonical (PyTorch) order.
    pub fn input_gates(&self) -> usize {
        self.stages.iter().map(Stage::input_gates).sum()
    }
    /// Gates that are normalised, over all stages: rows of the gains.
    pub fn gains(&self) -> usize {
        self.stages.iter().map(Stage::gains).sum()
    }
    /// Rows of the sums over time that gradients of a unit's own parameters are made of: the cell's parameters, then per
    /// normalising stage its gains and its biases, gate by gate.
    pub(crate) fn unit_sums(&self) -> usize {
        self.params.len() + 2 * self.gains()
    }
    /// Gates of the widest normalising stage.
    pub(crate) fn normal_gates(&self) -> usize {
        self.stages.iter().map(Stage::gains).max().unwrap_or(0)
    }
    /// Whether any stage normalises.
    pub fn normalises(&self) -> bool {
        self.gains() > 0
    }
    /// Gates that see an operand through a matrix, over all stages: row blocks of R, in canonical (PyTorch) order.
    pub fn recurrent_gates(&self) -> usize {
        self.stages.iter().filter(|s| s.product == Product::Dense).map(Stage::recurrent_gates).sum()
    }
    /// Whether the cell has a user-visible cell state (c0, cn).
    pub fn has_cell_state(&self) -> bool {
        self.cell_states() > 0
    }
    /// S: parts that c0 and cn `[L·D, B, S·H]` have: 1 for the LSTMs, 3 for sLSTM (c, n, m), 0 without a cell state.
    pub fn cell_states(&self) -> usize {
        self.states.iter().filter(|s| s.initial == Initial::Cell).count()
    }
}

/// The arithmetic of one stage for one unit, on the CPU; the twin of `forward_<stage>` in the cell's WGSL file. Best without
/// closures over registers (`map`, `from_fn`): they are compiled for the plainest instruction set, and called.
pub trait Pointwise {
    /// The stage's gates, in the order of `pre`: [`Stage::gates`].
    const GATES: &'static [Gate];
    /// The cell's states: [`Cell::states`].
    const STATES: &'static [State] = &[];
    /// The cell's per-unit parameters: [`Cell::params`].
    const PARAMS: &'static [&'static str] = &[];

    /// `act`: the cell's activations, by index; `pre`: the stage's gates; `state`: the cell's states, updated in place; `unit`: the
    /// cell's per-unit parameters. Returns `out`.
    fn forward<V: Lanes>(act: &Functions, pre: &[V], state: &mut [V], unit: &[V]) -> V;

    /// The adjoint of `forward`, from `pre` and the states *before* the stage: nothing else is kept, values are computed
    /// again.
    fn backward<V: Lanes>(act: &Functions, pre: &[V], state: &[V], unit: &[V], d: &mut Adjoint<V>);
}

/// At most so many pre-activations of a stage, states of a cell or unit parameters of a cell (the size of register arrays).
pub const MAX_VALUES: usize = 8;

/// At most so many recurrent gates of a stage (registers of a tile of the CPU executor's products).
pub const MAX_RECURRENT_GATES: usize = 4;

/// Gradients of one stage of one unit.
#[derive(Clone, Copy, Debug)]
pub struct Adjoint<V> {
    /// In: of `out`.
    pub out: V,
    /// In: of the states after the stage; out: of the states before it.
    pub state: [V; MAX_VALUES],
    /// Out: of every pre-activation.
    pub pre: [V; MAX_VALUES],
    /// Out: of every unit parameter.
    pub unit: [V; MAX_VALUES],
}

/// The CPU side of a stage: the recurrent step of many rows and units with the pointwise part fused in, in f32 and f64.
#[derive(Clone, Copy)]
pub struct StageFn {
    calls: Pair<Calls>,
    signature: Signature,
}

impl StageFn {
    /// Compiles `P` into the CPU executor's stage kernel.
    pub const fn of<P: Pointwise>() -> Self {
        Self { calls: Pair { f32: Compiled::of::<P>(), f64: Compiled::of::<P>() }, signature: Signature::of::<P>() }
    }
}

impl std::fmt::Debug for StageFn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StageFn")
    }
}
