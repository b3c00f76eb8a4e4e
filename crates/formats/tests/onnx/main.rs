//! ONNX models: constants that their nodes compute, nodes as exporters write them, whole models, and files from anywhere.

mod fold;
mod hostile;
mod nodes;
mod recorded;
mod whole;
mod wire;
