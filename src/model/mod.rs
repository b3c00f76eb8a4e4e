//! What runs, as plain data: cells and rules, stacks of layers ([`RnnConfig`](crate::RnnConfig)), networks of operations, and their
//! parameters. Nothing here knows of plans, devices or sessions.

pub(crate) mod activation;
pub(crate) mod activation_format;
pub mod blocks;
pub mod cell;
pub mod cells;
pub mod network;
pub(crate) mod optimiser;
pub(crate) mod pointwise;
pub(crate) mod recurrence;
pub mod rule;
pub mod rules;
pub(crate) mod stack;
pub mod weights;
pub(crate) mod zoneout;
