//! How fast a pass could be at best on a machine of given rates: the roofline of its dispatches.

use super::work::{Amount, PassWork};
use crate::error::{Error, Result};

/// What a machine does in a second. `None` bounds nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Floating-point operations per second (a multiply-add is two).
    pub flops: Option<f64>,
    /// Bytes per second from and to device memory, together.
    pub bytes: Option<f64>,
    /// Seconds that a dispatch takes beside its work: those of an empty one in a chain where each waits for the one before.
    pub dispatch: Option<f64>,
}

/// Seconds that something takes at least.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Floor {
    /// For the products alone.
    pub compute: f64,
    /// For the bytes alone.
    pub memory: f64,
    /// For starting dispatches alone.
    pub dispatch: f64,
    /// For all: dispatch by dispatch the longer of products and bytes, plus its start. Dispatches of a pass wait for one another.
    pub total: f64,
}

impl Rates {
    /// Refuses rates that are not numbers above 0 (a dispatch may take 0 s).
    ///
    /// # Errors
    /// [`Error::Mismatch`] naming the rate.
    pub fn validate(&self) -> Result<()> {
        for (what, rate) in [("flops per second", self.flops), ("bytes per second", self.bytes)] {
            if let Some(rate) = rate.filter(|r| !(r.is_finite() && *r > 0.0)) {
                return Err(Error::mismatch(what, "a finite number above 0", rate));
            }
        }
        match self.dispatch {
            Some(time) if !(time.is_finite() && time >= 0.0) => {
                Err(Error::mismatch("seconds per dispatch", "a finite number, at least 0", time))
            }
            _ => Ok(()),
        }
    }

    /// Of `runs` dispatches with so much work each.
    pub fn floor(&self, each: Amount, runs: u64) -> Floor {
        let runs = runs as f64;
        let over = |amount: u64, rate: Option<f64>| rate.map_or(0.0, |rate| amount as f64 / rate);
        let (compute, memory) = (over(each.flops, self.flops), over(each.read + each.written, self.bytes));
        let dispatch = self.dispatch.unwrap_or(0.0);
        let total = (compute.max(memory) + dispatch) * runs;
        Floor { compute: compute * runs, memory: memory * runs, dispatch: dispatch * runs, total }
    }
}

impl std::iter::Sum for Floor {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), |a, b| Self {
            compute: a.compute + b.compute,
            memory: a.memory + b.memory,
            dispatch: a.dispatch + b.dispatch,
            total: a.total + b.total,
        })
    }
}

impl PassWork {
    /// The floor of the pass.
    pub fn floor(&self, rates: &Rates) -> Floor {
        self.dispatches.iter().map(|d| rates.floor(d.each, d.runs)).sum()
    }
}
