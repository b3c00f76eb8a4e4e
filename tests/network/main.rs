//! Networks: every operation against central differences of itself, whole and in pieces.

mod costs;
mod dropout;
mod edges;
mod gpu;
mod gradients;
mod host;
mod layers;
mod lowering;
mod naive;
mod networks;
mod options;
mod pieces;
mod shaders;
mod siblings;
mod strategies;
mod streams;
mod tokens;
mod trace;
mod training;
#[path = "../harness/translate.rs"]
mod translate;
