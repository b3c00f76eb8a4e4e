//! Networks: every operation against central differences of itself, whole and in pieces.

mod costs;
mod edges;
mod gpu;
mod gradients;
mod layers;
mod naive;
mod networks;
mod options;
mod pieces;
mod shaders;
mod siblings;
mod strategies;
mod streams;
mod training;
#[path = "../harness/translate.rs"]
mod translate;
