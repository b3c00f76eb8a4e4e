//! ONNX: published test cases, nodes against the operators' own equations, files from anywhere, and models that are written.

mod cases;
mod export;
mod exported;
mod hostile;
mod nodes;
mod recurrence;
mod torch;
#[path = "../harness/watching.rs"]
mod watching;
mod wire;
