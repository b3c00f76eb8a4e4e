//! Networks: every operation against central differences of itself, whole and in pieces.

mod gradients;
mod networks;
mod pieces;
