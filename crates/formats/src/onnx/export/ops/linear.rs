//! Products with a matrix: MatMul and Add.

use crate::onnx::export::network::Lowering;
use wgpu_rnn::Result;
use wgpu_rnn::network::Linear;

/// The matrix keeps its shape `[out, in]`, so that an embedding may share it.
pub fn write(to: &mut Lowering<'_>, name: &str, op: &Linear) -> Result<String> {
    let (x, weight) = (to.part(op.x)?, to.param(op.weight)?);
    // Without an attribute it turns all axes around.
    let weight = to.to.call("Transpose", &[&weight], &weight);
    let product = to.to.call("MatMul", &[&x, &weight], name);
    let Some(bias) = op.bias else { return Ok(product) };
    let bias = to.flat(bias)?;
    Ok(to.to.call("Add", &[&product, &bias], name))
}
