//! ONNX models: constants that their nodes compute, nodes as exporters write them, whole models, and files from anywhere.

mod convolution;
mod deciding;
mod fold;
mod hostile;
mod int8;
mod nodes;
mod recorded;
mod recurrence;
mod stacks;
mod whole;
mod wire;
