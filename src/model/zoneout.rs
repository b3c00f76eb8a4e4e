//! Zoneout: where its mix is done, and what it needs beside the cell.
//!
//! ```text
//! first stage:  c' = m_c∘c + (1 − m_c)∘cell(c)          what later stages of the step get as operand is made of the cell's own c'
//! last stage:   h' = m_h∘h + (1 − m_h)∘out              y, the next step, hn, and the cell's own copy of h where it has one
//! ```
//!
//! Cells know nothing of it: both executors wrap their functions (`src/kernels/zoneout.rs`, `src/cpu/zoneout.rs`). The adjoint hands
//! (1 − m)∘d to the cell and m∘d to the value before. For h that is elementwise, where the way through R is not: a cell whose state
//! does not hold h already gets one more that does ([`RnnConfig::states`]), with h0 as its start. States, their history,
//! checkpoints and gradients then carry it like any other.

use crate::error::{Error, Result};
use crate::model::cell::{Initial, State};
use crate::model::stack::RnnConfig;

/// Zoneout (Krueger et al. 2017, arXiv:1606.01305): probabilities, each from 0 to 1, that a unit keeps its value of the step before,
///
/// ```text
/// c[t] = m_c∘c[t-1] + (1 − m_c)∘ĉ[t]        ĉ[t], ĥ[t]: what the cell makes of c[t-1] and h[t-1]
/// h[t] = m_h∘h[t-1] + (1 − m_h)∘ĥ[t]        an LSTM's ĥ[t] is made of ĉ[t], as in the paper
/// ```
///
/// Plans that train draw m_h and m_c of 0 and 1 anew in every run for every layer, direction, sequence, step and unit, from the
/// seed of [`crate::Session::set_seed`] ([`crate::num::random`] tells which bits they are made of). Plans that do not train, and
/// training ones after [`crate::Session::set_dropout`]`(false)`, take the expectation: m_h = `hidden` and m_c = `cell`
/// everywhere. h\[t\] is what y, hn, the next step and the next layer see; with a projection h is the projected one (P values). At
/// a sequence's or an episode's first step the value before is what it starts from. 0 is bit for bit a network without.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Zoneout {
    /// Of h.
    pub hidden: f32,
    /// Of c; only for cells with one cell state (the LSTMs).
    pub cell: f32,
}

impl Zoneout {
    pub(crate) fn validate(&self, config: &RnnConfig) -> Result<()> {
        for (what, p) in [("zoneout.hidden", self.hidden), ("zoneout.cell", self.cell)] {
            if !(0.0..=1.0).contains(&p) {
                return Err(Error::mismatch(what, "a probability from 0 to 1", p));
            }
        }
        if self.cell > 0.0 && !config.cell.has_cell_state() {
            let what = format!("zoneout.cell with {}", config.cell.name);
            return Err(Error::Unsupported { what, reason: "it has no cell state".into() });
        }
        if self.cell > 0.0 && config.cell.cell_states() > 1 {
            let what = format!("zoneout.cell with {}", config.cell.name);
            let reason = "the parts of its cell state belong together, and their means do not".into();
            return Err(Error::Unsupported { what, reason });
        }
        Ok(())
    }
}

impl RnnConfig {
    /// Whether any unit may keep its value.
    pub(crate) fn zones(&self) -> bool {
        self.zoneout != Zoneout::default()
    }

    /// What a unit remembers about itself: the cell's states and, where zoneout of h needs it and the cell has none, h.
    pub(crate) fn states(&self) -> Vec<State> {
        let mut states = self.cell.states.to_vec();
        let has_h = states.iter().any(|s| s.initial == Initial::Hidden);
        if self.zoneout.hidden > 0.0 && !has_h {
            states.push(State { name: "h", initial: Initial::Hidden });
        }
        states
    }

    /// How many of them the projection's stage sees: all where it zones h, else none.
    pub(crate) fn projection_states(&self) -> usize {
        if self.zoneout.hidden > 0.0 { self.states().len() } else { 0 }
    }
}
