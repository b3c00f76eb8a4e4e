//! What goes between the arena and buffers of the host's own.

use super::kernel::{Job, Kernel};
use super::{NetworkPlanData, Program};
use crate::error::{Error, Result};
use crate::model::network::Part;

const EXCHANGE: &str = include_str!("../../../shaders/network/exchange.wgsl");

impl NetworkPlanData {
    /// The dispatch that takes a part's rows from a buffer (`inward`), or gives them to it.
    ///
    /// # Errors
    /// [`Error::Gpu`] for a kernel whose words are not those that its text names.
    pub(crate) fn exchange(&self, program: &Program, part: Part, inward: bool) -> Result<Job> {
        let kernel = Kernel::new("network.exchange", &[EXCHANGE], self.rows_of(part.value) * part.width)
            .flag("IN", inward)
            .word("width", part.width)
            .word("stride", self.network.values[part.value].width)
            .word("place", program.slots[self.values[part.value]] + part.first);
        let job = kernel.job([self.shape.time, self.shape.batch], self.caps.max_workgroups);
        job.map_err(|reason| Error::Gpu { what: "making network.exchange".into(), reason })
    }
}
