//! The update of a network's parameters on a GPU. Those of its own operations take one dispatch; stacks of layers have updates in plans
//! of their own.
//!
//! ```text
//! stacks         gather_gradient, square_sum: up to `clip`, which a network has in place of theirs
//! squares, clip  only where gradients are clipped: sums of squares of all gradients -> norm, and what every update multiplies by
//! stacks         update_*, pack
//! update         gradient, moments -> the parameters of the network's own operations
//! ```

use crate::kernels::{NORM_GROUPS, NORM_WIDTH};
use crate::model::optimiser::{Hyper, Optimiser};
use std::fmt::Write as _;

const UPDATE: &str = include_str!("../../../shaders/network/update.wgsl");
const SQUARES: &str = include_str!("../../../shaders/network/update_squares.wgsl");
const CLIP: &str = include_str!("../../../shaders/network/update_clip.wgsl");

/// Workgroups of 64 lanes at most; lanes go over the rest.
const GROUPS: usize = 1024;

/// The text of the update of a network's own parameters.
pub(crate) fn update_text(optimiser: Optimiser) -> String {
    format!("const MOMENTS: u32 = {}u;\n{}{UPDATE}", optimiser.moments(), hyper_constants())
}

/// The text of the sums of squares of their gradients, [`NORM_GROUPS`] of them.
pub(crate) fn squares_text() -> String {
    format!(
        "const NORM_WIDTH: u32 = {NORM_WIDTH}u;\nconst NORM_GROUPS: u32 = {NORM_GROUPS}u;\n{}{SQUARES}",
        hyper_constants()
    )
}

/// The text of the norm over so many sums.
pub(crate) fn clip_text(sums: usize) -> String {
    format!("const SUMS: u32 = {sums}u;\n{}{CLIP}", hyper_constants())
}

fn hyper_constants() -> String {
    let mut text = format!("const HYPER_COUNT: u32 = {}u;\n", Hyper::COUNT);
    for (hyper, name) in Hyper::NAMES {
        let _ = writeln!(text, "const {name}: u32 = {}u;", hyper as usize);
    }
    text
}

/// Workgroups of the update of so many parameters.
pub(crate) fn update_groups(params: usize) -> u32 {
    params.div_ceil(64).clamp(1, GROUPS) as u32
}
