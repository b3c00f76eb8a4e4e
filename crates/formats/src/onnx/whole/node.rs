//! A node of a graph becoming operations of a network: by the operators' table, by working it out, or by the branch that it takes.

use super::super::OnnxFile;
use super::super::constant::Constant;
use super::super::fold::{Attributes, Budget, Call, evaluate};
use super::super::graph::is_onnx;
use super::super::operator::shortened;
use super::super::{proto, within};
use super::axes::{Made, Stop};
use super::lower::Lowering;
use super::ops;
use super::value::{Kind, Laid, Value};
use prost::Message;
use prost::bytes::Bytes;
use std::collections::HashMap;
use wgpu_rnn::{Error, Result};

/// A node on its way into the network.
pub struct Op<'a> {
    pub name: String,
    pub kind: String,
    pub node: &'a proto::Node,
    pub values: Vec<Option<Value>>,
}

impl Lowering<'_> {
    /// Puts a graph inside a node into the network.
    fn graph(&mut self, scope: usize) -> Made<()> {
        let file = self.file;
        for bytes in &file.scopes[scope].nodes {
            let node = proto::Node::decode(bytes.clone()).map_err(|e| Error::mismatch("node", "a NodeProto", e))?;
            self.node(scope, &node)?;
        }
        Ok(())
    }

    /// Puts a node of a graph into the network.
    pub fn node(&mut self, scope: usize, node: &proto::Node) -> Made<()> {
        let first = node.output.iter().find(|name| !name.is_empty()).cloned().unwrap_or_default();
        let name = if node.name.is_empty() { first } else { node.name.clone() };
        let domain = if is_onnx(&node.domain) { String::new() } else { format!("{}.", node.domain) };
        let kind = format!("{domain}{}", node.op_type);
        let what = format!("{kind} {}", shortened(&name));
        let made = self.made(scope, node, kind, name).map_err(|stop| match stop {
            Stop::Fail(error) => Stop::Fail(self.up_to(scope, node, within(&what, error))),
            learn => learn,
        })?;
        for (output, value) in node.output.iter().zip(made).filter(|(output, _)| !output.is_empty()) {
            if let Value::Laid(laid) = &value {
                let sizes = laid.axes.iter().filter(|axis| axis.kind == Kind::Columns).map(|axis| axis.size);
                let columns = sizes.product::<usize>();
                if columns == 0 || columns != laid.columns.len() {
                    let got = format!("{} values of {columns}", laid.columns.len());
                    return Err(Error::mismatch(
                        format!("{what}: its value"),
                        "as many as its shape says, at least 1",
                        got,
                    )
                    .into());
                }
            }
            self.known.insert((scope, output.clone()), value);
        }
        Ok(())
    }

    fn made(&mut self, scope: usize, node: &proto::Node, kind: String, name: String) -> Made<Vec<Value>> {
        if kind == "If" {
            return self.branch(scope, node);
        }
        let row = ops::find(&kind);
        let values = node.input.iter().map(|input| match input.as_str() {
            "" => Ok(None),
            input => self.value(scope, input).map(Some),
        });
        let values = values.collect::<Made<Vec<_>>>()?;
        let constant = |value: &Option<Value>| !matches!(value, Some(Value::Laid(_) | Value::Order { .. }));
        let op = Op { name, kind, node, values };
        if op.values.iter().all(constant) && is_onnx(&node.domain) {
            let file = self.file;
            if let Some(made) = evaluate(&mut op.call(file, &mut self.budget))? {
                return Ok(made.into_iter().map(Value::Constant).collect());
            }
        }
        let Some(row) = row else {
            let reason = match op.kind.as_str() {
                "Loop" | "Scan" => "networks have no loops but those of their recurrent operations",
                "Attention" | "MultiHeadAttention" | "com.microsoft.Attention" | "com.microsoft.MultiHeadAttention" => {
                    "networks multiply by constant matrices, and have no attention"
                }
                _ => "this build has no such operator for whole models",
            };
            return Err(Error::Unsupported { what: "the operator".into(), reason: reason.into() }.into());
        };
        if let Some(n) = (row.reads..op.values.len()).find(|&n| !constant(&op.values[n])) {
            let reason = format!("a network has its sizes when it is made{}", self.deciding());
            return Err(Error::Unsupported { what: format!("input {n} that only a run knows"), reason }.into());
        }
        (row.run)(self, &op)
    }

    /// An If whose condition is known.
    fn branch(&mut self, scope: usize, node: &proto::Node) -> Made<Vec<Value>> {
        let condition = node.input.first().map_or("", String::as_str);
        let Value::Constant(condition) = self.value(scope, condition)? else {
            let reason = format!("a network takes the same way in every run{}", self.deciding());
            return Err(Error::Unsupported { what: "a condition that only a run knows".into(), reason }.into());
        };
        let missing = || Error::mismatch("branch", "a graph", "none");
        let inner = self.file.branch(scope, node, !condition.is_zero()).ok_or_else(missing)?;
        let outputs = self.file.scopes[inner].outputs.clone();
        self.graph(inner)?;
        outputs.iter().map(|output| self.value(inner, output)).collect()
    }

    /// What helps where a value must be known that inputs of integers make.
    fn deciding(&self) -> String {
        match &self.file.deciding()[..] {
            [] => String::new(),
            names => {
                let names: Vec<String> = names.iter().map(|name| shortened(name)).collect();
                format!("; the values of {} decide it: OnnxFile::decided takes them", names.join(", "))
            }
        }
    }

    /// Says up to where a model runs whose node does not.
    fn up_to(&self, scope: usize, node: &proto::Node, error: Error) -> Error {
        let Error::Unsupported { what, reason } = error else { return error };
        let inside = read_inside(self.file, scope, node);
        let laid = |name: &&String| self.known.iter().any(|((_, n), v)| n == *name && matches!(v, Value::Laid(_)));
        let read = node.input.iter().chain(inside.iter().filter(|name| !node.input.contains(name)));
        let names: Vec<String> = read.filter(laid).take(3).map(|name| shortened(name)).collect();
        let reason = match &names[..] {
            [] => reason,
            names => format!("{reason}; the model runs up to {}", names.join(", ")),
        };
        Error::Unsupported { what, reason }
    }
}

impl Op<'_> {
    /// Its constants as the operators that are worked out see them; `None` in place of what a run gives.
    pub fn call<'c>(&'c self, file: &'c OnnxFile, budget: &'c mut Budget) -> Call<'c> {
        let known = |value: &Option<Value>| match value {
            Some(Value::Constant(constant)) => Some(constant.clone()),
            _ => None,
        };
        Call {
            op: &self.node.op_type,
            attributes: Attributes::new(self.node, &file.folder),
            inputs: self.values.iter().map(known).collect(),
            outputs: self.node.output.len(),
            budget,
        }
    }

    pub fn attributes<'c>(&'c self, file: &'c OnnxFile) -> Attributes<'c> {
        Attributes::new(self.node, &file.folder)
    }

    /// An input that there must be.
    pub fn value(&self, n: usize) -> Result<&Value> {
        let value = self.values.get(n).and_then(Option::as_ref);
        value.ok_or_else(|| Error::mismatch(format!("input {n}"), "a value", "none"))
    }

    /// The same of one that a run gives.
    pub fn laid(&self, n: usize) -> Result<&Laid> {
        match self.value(n)? {
            Value::Laid(laid) => Ok(laid),
            Value::Constant(_) => {
                let reason = "it is read from a value of a run".into();
                Err(Error::Unsupported { what: format!("input {n} as a constant"), reason })
            }
            Value::Order { .. } => Err(ops::order_as_numbers()),
        }
    }

    /// The same of a constant, if there is one.
    pub fn constant(&self, n: usize) -> Option<&Constant> {
        match self.values.get(n) {
            Some(Some(Value::Constant(constant))) => Some(constant),
            _ => None,
        }
    }
}

/// Names that graphs inside the nodes of a graph read, by node.
pub fn captured(file: &OnnxFile, scope: usize) -> HashMap<usize, Vec<String>> {
    let mut captured: HashMap<usize, Vec<String>> = HashMap::new();
    for n in 0..file.scopes.len() {
        // Which node of `scope` it is in, however deep.
        let (mut at, mut place) = (n, None);
        while let Some(outer) = file.scopes[at].outer.filter(|_| place.is_none()) {
            if outer == scope {
                place = Some(file.scopes[at].owner.0);
            }
            at = outer;
        }
        let Some(place) = place else { continue };
        let inner = &file.scopes[n];
        let nodes = inner.nodes.iter().filter_map(|bytes| proto::Node::decode(bytes.clone()).ok());
        let names = nodes.flat_map(|node| node.input).chain(inner.outputs.iter().cloned());
        captured.entry(place).or_default().extend(names);
    }
    captured
}

/// Names that graphs inside a node read.
fn read_inside(file: &OnnxFile, scope: usize, node: &proto::Node) -> Vec<String> {
    let made = |bytes: &Bytes| proto::Node::decode(bytes.clone()).is_ok_and(|n| n.output == node.output);
    let place = file.scopes[scope].nodes.iter().position(made);
    place.and_then(|place| captured(file, scope).remove(&place)).unwrap_or_default()
}
