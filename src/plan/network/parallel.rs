//! How scans go over time: the choice.

use super::NetworkOptions;
use super::ops::pair_rounds;
use super::program::STRETCH;
use crate::model::network::{Network, ScanShape};
use crate::model::rule::HeadState;
use crate::model::stack::Shape;
use crate::plan::{Caps, DeviceClass};

/// How scans go over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parallel {
    /// One step after the other; a lane per column of a state.
    Recurrent,
    /// Chunks of steps side by side, in three passes: what every chunk does to any state before it, the states before all chunks
    /// one after the other, then the chunks from those states. More work, less of it in a row: for few columns on wide devices. The
    /// order of additions is another than [`Parallel::Recurrent`]'s.
    Chunked,
    /// The same where states are matrices (K x V), by matrix products inside a chunk instead of going over its steps twice: for
    /// wide states. Scans whose states are scalars or vectors go as [`Parallel::Chunked`], and so do those of chunks of more than
    /// 256 steps (with a correction 32) or of states of very many rows: [`super::NetworkPlanData::products`] and the plan's text tell. The
    /// order of additions is another again.
    Products,
}

/// Columns that keep a GPU busy: with fewer, time is cut into chunks. 64 workgroups of 64 lanes, as `Caps::parallel_groups`.
const LANES: usize = 4096;

/// Columns of every matrix state from which products gain on a GPU over going over chunks twice (`wgpu-rnn bench --scan`).
const WIDE: usize = 32;
/// Steps of a chunk up to which corrections are products: within a chunk what was written and what was corrected are summed apart,
/// and digits that cancel are lost, more the longer it is. `tests/rules/values.rs` holds so many to the bound.
const CORRECTED: usize = 32;
/// Of other chunks: what pairs of steps have of one another would take more than what is read of the state.
const LONGEST: usize = 256;

/// Whether a scan's chunks of so many steps can be matrix products.
pub(super) fn fits_products(scan: &ScanShape, chunk: usize) -> bool {
    let most = if scan.form().erase.is_some() { CORRECTED } else { LONGEST };
    scan.rule.state == HeadState::Matrix && scan.value_size > 1 && chunk <= most && pair_rounds(scan, chunk) <= STRETCH
}

/// Steps of a scan's chunk, where T is long enough.
pub(super) fn chunk_of(scan: &ScanShape, options: &NetworkOptions) -> usize {
    options.chunk.unwrap_or(if scan.rule.state == HeadState::Scalar { 64 } else { 32 })
}

/// Bytes of workgroup memory that carrying states from chunk to chunk takes: with a correction four columns of one.
pub(super) fn carried_bytes(network: &Network) -> u64 {
    16 * network.scans().filter(|s| s.form().erase.is_some()).map(|s| s.key_size as u64).max().unwrap_or(0)
}

/// The way over time, and why.
pub(super) fn choose(network: &Network, shape: Shape, caps: &Caps, options: &NetworkOptions) -> (Parallel, String) {
    if let Some(parallel) = options.parallel {
        return (parallel, "forced".into());
    }
    // Those of several chunks: of a single one (decoding above all) nothing can go side by side.
    let scans: Vec<&ScanShape> = network.scans().filter(|s| shape.time > chunk_of(s, options)).collect();
    if scans.is_empty() && network.scans().next().is_some() {
        return (Parallel::Recurrent, format!("T={} is no more than a chunk", shape.time));
    }
    if caps.class != DeviceClass::Cpu && carried_bytes(network) > caps.max_workgroup_memory as u64 {
        return (Parallel::Recurrent, "states of more rows than workgroup memory holds in chunks".into());
    }
    let columns = scans.iter().map(|s| s.heads * s.columns()).min();
    let mut matrices = scans.iter().filter(|s| s.rule.state == HeadState::Matrix).peekable();
    let wide =
        matrices.peek().is_some() && matrices.all(|s| s.value_size >= WIDE && fits_products(s, chunk_of(s, options)));
    match (caps.class, columns) {
        (DeviceClass::Gpu, Some(columns)) if columns < LANES => {
            let (parallel, of) = if wide { (Parallel::Products, ", of wide states") } else { (Parallel::Chunked, "") };
            (parallel, format!("{columns} columns of state are fewer than the {LANES} lanes of a GPU{of}"))
        }
        (_, None) => (Parallel::Recurrent, "no scans".into()),
        (DeviceClass::Gpu, _) => (Parallel::Recurrent, "columns of state enough for a GPU".into()),
        (class, _) => (Parallel::Recurrent, format!("{class:?}: as many lanes as columns, or fewer")),
    }
}
