//! How far the input at hand has come: what may be asked of a session, of a stack's or a network's, follows from it.

/// Of the input written last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing was written.
    Empty,
    /// There is an input that has not run; `targets`: and what it is to be compared with (always, where a network has a loss).
    Written { targets: bool },
    /// It has run, and its outputs can be read. `tape`: what was kept for the way back is there, which can be taken once. `loss`: the
    /// run was compared with targets.
    Ran { tape: bool, loss: bool },
}

impl Phase {
    /// Whether there is an input to run.
    pub fn is_written(self) -> bool {
        self != Self::Empty
    }
    /// Whether it has run.
    pub fn has_run(self) -> bool {
        matches!(self, Self::Ran { .. })
    }
    /// Whether the run can be gone back through.
    pub fn has_tape(self) -> bool {
        matches!(self, Self::Ran { tape: true, .. })
    }
    /// Whether the run has a loss.
    pub fn has_loss(self) -> bool {
        matches!(self, Self::Ran { loss: true, .. })
    }
    /// After a run; `train`: of a plan that keeps a tape.
    pub fn ran(self, train: bool) -> Self {
        let loss = match self {
            Self::Empty => false,
            Self::Written { targets } => targets,
            Self::Ran { loss, .. } => loss,
        };
        Self::Ran { tape: train, loss }
    }
    /// Where the tape was used, or belongs to other parameters by now.
    pub fn without_tape(self) -> Self {
        match self {
            Self::Ran { loss, .. } => Self::Ran { tape: false, loss },
            other => other,
        }
    }
    /// The same input, to be run anew: with other lengths (then targets are none for it), or over other buffers.
    pub fn to_run_again(self, targets: bool) -> Self {
        match self {
            Self::Empty => Self::Empty,
            _ => Self::Written { targets },
        }
    }
}
