//! The update of a network's own parameters on a GPU: one dispatch. Stacks of layers have updates in plans of their own.

use crate::model::optimiser::{Hyper, Optimiser};
use std::fmt::Write as _;

const UPDATE: &str = include_str!("../../../shaders/network/update.wgsl");

/// Workgroups of 64 lanes at most; lanes go over the rest.
const GROUPS: usize = 1024;

/// Its text.
pub(crate) fn update_text(optimiser: Optimiser) -> String {
    let mut text =
        format!("const MOMENTS: u32 = {}u;\nconst HYPER_COUNT: u32 = {}u;\n", optimiser.moments(), Hyper::COUNT);
    for (hyper, name) in Hyper::NAMES {
        let _ = writeln!(text, "const {name}: u32 = {}u;", hyper as usize);
    }
    text + UPDATE
}

/// Workgroups for so many parameters.
pub(crate) fn update_groups(params: usize) -> u32 {
    params.div_ceil(64).clamp(1, GROUPS) as u32
}
