//! Columns put together, added up, and looked up: Concat, ReduceSum and Gather.

use crate::onnx::export::network::Lowering;
use crate::onnx::export::wire::{int, size_of_axis};
use wgpu_rnn::Result;
use wgpu_rnn::network::{Concat, Embedding, Sum};

pub fn concat(to: &mut Lowering<'_>, name: &str, op: &Concat) -> Result<String> {
    let parts = op.parts.iter().map(|part| to.part(*part)).collect::<Result<Vec<_>>>()?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    Ok(to.to.call_with("Concat", &parts, &[int("axis", -1)], name))
}

pub fn sum(to: &mut Lowering<'_>, name: &str, op: &Sum) -> Result<String> {
    let x = to.part(op.x)?;
    let grouped = grouped(to, &x, op.x.value, op.groups, op.x.width, name);
    let axis = to.to.integers(&[-1]);
    Ok(to.to.call_with("ReduceSum", &[&grouped, &axis], &[int("keepdims", 0)], name))
}

pub fn embedding(to: &mut Lowering<'_>, name: &str, op: &Embedding) -> Result<String> {
    let (table, ids) = (to.param(op.table)?, to.ids(op.ids)?);
    Ok(to.to.call("Gather", &[&table, &ids], name))
}

/// A value with its columns as `[groups, width / groups]`.
pub fn grouped(to: &mut Lowering<'_>, x: &str, value: usize, groups: usize, width: usize, name: &str) -> String {
    let mut sizes = vec![0; if to.is_steps(value) { 2 } else { 1 }];
    sizes.extend([groups, width / groups].map(size_of_axis));
    let sizes = to.to.integers(&sizes);
    to.to.call("Reshape", &[x, &sizes], name)
}

/// The other way.
pub fn ungrouped(to: &mut Lowering<'_>, x: &str, value: usize, width: usize, name: &str) -> String {
    let mut sizes = vec![0; if to.is_steps(value) { 2 } else { 1 }];
    sizes.push(size_of_axis(width));
    let sizes = to.to.integers(&sizes);
    to.to.call("Reshape", &[x, &sizes], name)
}
