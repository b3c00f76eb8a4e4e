//! A model's graphs, by name: what binds each name, what lies in which graph, which nodes are recurrent. Calls of functions that the
//! model defines are put in place of themselves.

use super::operator::OnnxOp;
use super::proto;
use super::recurrence::RecurrenceOp;
use super::{Found, OnnxFile, OnnxLabel};
use prost::Message;
use prost::bytes::Bytes;
use std::collections::HashMap;

/// Graphs inside nodes inside graphs, and functions inside functions, at most.
const MAX_DEPTH: usize = 64;
/// Bytes that functions may unfold to, of any file and per byte of it.
const UNFOLDED: (usize, usize) = (1 << 16, 8);
/// ONNX Runtime's own operators.
pub(super) const MICROSOFT: &str = "com.microsoft";

/// The names of a graph.
#[derive(Clone, Default)]
pub(super) struct Scope {
    /// The graph around it.
    pub outer: Option<usize>,
    /// The node of that graph that it belongs to, by its place, and as which attribute.
    pub owner: (usize, String),
    /// Initialisers by name, each a `TensorProto`.
    pub constants: HashMap<String, Bytes>,
    /// Nodes by the names of their outputs, by their place.
    producers: HashMap<String, usize>,
    /// Each a `ValueInfoProto`.
    pub values: [Vec<Bytes>; 2],
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    /// In order, each a `NodeProto`.
    pub nodes: Vec<Bytes>,
}

/// What a name stands for.
pub(super) enum Bound<'a> {
    /// An initialiser.
    Constant(&'a Bytes),
    /// An output of a node.
    Node(&'a Bytes),
    /// What a graph is given: by the model's user, by a step of a Loop.
    Input,
}

/// Whether a domain is ONNX's own.
pub(super) fn is_onnx(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

/// What is in a file's graphs.
#[derive(Default)]
pub(super) struct Index {
    pub scopes: Vec<Scope>,
    pub found: Vec<Found>,
    pub recurrences: Vec<Found<RecurrenceOp>>,
}

/// A graph that waits to be indexed.
struct Waiting {
    graph: Bytes,
    outer: Option<usize>,
    owner: (usize, String),
    depth: usize,
}

impl Index {
    /// The names and recurrent nodes of `graph` and of the graphs inside it; `size`: bytes of the file.
    pub fn new(graph: Bytes, functions: &Functions, size: usize) -> Result<Self, String> {
        let mut index = Self::default();
        let mut room = size.saturating_mul(UNFOLDED.1).saturating_add(UNFOLDED.0);
        // A list, not recursion: a file's nesting must not cost stack.
        let mut waiting = vec![Waiting { graph, outer: None, owner: (0, String::new()), depth: 0 }];
        while let Some(next) = waiting.pop() {
            if next.depth > MAX_DEPTH {
                return Err(format!("graphs nested over {MAX_DEPTH} deep"));
            }
            index.graph(next, functions, &mut room, &mut waiting)?;
        }
        Ok(index)
    }

    fn graph(
        &mut self,
        Waiting { graph, outer, owner, depth }: Waiting,
        functions: &Functions,
        room: &mut usize,
        waiting: &mut Vec<Waiting>,
    ) -> Result<(), String> {
        let graph = proto::Graph::decode(graph).map_err(|e| e.to_string())?;
        let at = self.scopes.len();
        let mut scope = Scope { outer, owner, ..Default::default() };
        for bytes in graph.initializer {
            let name = proto::TensorName::decode(bytes.clone()).map_err(|e| e.to_string())?.name;
            scope.constants.insert(name, bytes);
        }
        for (values, names) in [(&graph.input, &mut scope.inputs), (&graph.output, &mut scope.outputs)] {
            for bytes in values {
                names.push(proto::ValueName::decode(bytes.clone()).map_err(|e| e.to_string())?.name);
            }
        }
        scope.values = [graph.input, graph.output];
        scope.nodes = functions.unfolded(graph.node, room)?;
        for (place, bytes) in scope.nodes.iter().enumerate() {
            let node = proto::Node::decode(bytes.clone()).map_err(|e| e.to_string())?;
            for attribute in &node.attribute {
                let attribute = proto::Attribute::decode(attribute.clone()).map_err(|e| e.to_string())?;
                let owner = (place, attribute.name);
                let graphs = attribute.g.into_iter().chain(attribute.graphs);
                waiting.extend(graphs.map(|graph| Waiting {
                    graph,
                    outer: Some(at),
                    owner: owner.clone(),
                    depth: depth + 1,
                }));
            }
            let named = node.output.iter().filter(|name| !name.is_empty());
            scope.producers.extend(named.clone().map(|name| (name.clone(), place)));
            let first = named.clone().next().cloned().unwrap_or_default();
            let name = if node.name.is_empty() { first } else { node.name };
            let (bytes, outputs) = (bytes.clone(), node.output);
            let own = is_onnx(&node.domain);
            let quantised = node.domain == MICROSOFT && node.op_type == "DynamicQuantizeLSTM";
            let layer = OnnxOp::by_name(&node.op_type).filter(|_| own).or(quantised.then_some(OnnxOp::Lstm));
            if let Some(op) = layer {
                self.found.push(Found { scope: at, label: OnnxLabel { name, op }, outputs, bytes, quantised });
            } else if let Some(op) = RecurrenceOp::by_name(&node.op_type).filter(|_| own) {
                self.recurrences.push(Found { scope: at, label: OnnxLabel { name, op }, outputs, bytes, quantised });
            }
        }
        self.scopes.push(scope);
        Ok(())
    }
}

impl OnnxFile {
    /// What a name stands for in a graph: what the graph itself binds, else what the graph around it does, and in which graph that is.
    pub(super) fn resolve(&self, scope: usize, name: &str) -> Option<(usize, Bound<'_>)> {
        let mut at = Some(scope).filter(|_| !name.is_empty());
        while let Some(n) = at {
            let scope = self.scopes.get(n)?;
            if let Some(bytes) = scope.constants.get(name) {
                return Some((n, Bound::Constant(bytes)));
            }
            if let Some(bytes) = scope.producers.get(name).and_then(|&place| scope.nodes.get(place)) {
                return Some((n, Bound::Node(bytes)));
            }
            if scope.inputs.iter().any(|input| input == name) {
                return Some((n, Bound::Input));
            }
            at = scope.outer;
        }
        None
    }

    /// The graph that an If of that graph takes; `condition`: what it asks.
    pub(super) fn branch(&self, scope: usize, node: &proto::Node, condition: bool) -> Option<usize> {
        let output = node.output.iter().find(|name| !name.is_empty())?;
        let place = *self.scopes.get(scope)?.producers.get(output)?;
        let wanted = if condition { "then_branch" } else { "else_branch" };
        let inside = |inner: &Scope| inner.outer == Some(scope) && inner.owner.0 == place && inner.owner.1 == wanted;
        self.scopes.iter().position(inside)
    }
}

/// The functions that a model defines, by domain and name.
#[derive(Default)]
pub(super) struct Functions(HashMap<(String, String), proto::Function>);

/// What an unfolding works on: a node, and how many calls it stands in.
type Pending = (Bytes, usize);

impl Functions {
    pub fn new(functions: Vec<Bytes>) -> Result<Self, String> {
        let read = |bytes| proto::Function::decode(bytes).map_err(|e| e.to_string());
        let named = functions.into_iter().map(|bytes| read(bytes).map(|f| ((f.domain.clone(), f.name.clone()), f)));
        Ok(Self(named.collect::<Result<_, _>>()?))
    }

    /// The nodes, with those of a function in place of every call.
    fn unfolded(&self, nodes: Vec<Bytes>, room: &mut usize) -> Result<Vec<Bytes>, String> {
        if self.0.is_empty() {
            return Ok(nodes);
        }
        let mut result = Vec::new();
        let mut calls = 0;
        // The next node last.
        let mut waiting: Vec<Pending> = nodes.into_iter().rev().map(|node| (node, 0)).collect();
        while let Some((bytes, depth)) = waiting.pop() {
            let node = proto::Node::decode(bytes.clone()).map_err(|e| e.to_string())?;
            let function = self.0.get(&(node.domain.clone(), node.op_type.clone()));
            let inside = function.map(|function| function.called(&node, calls)).transpose()?.flatten();
            let Some(inside) = inside else {
                result.push(bytes);
                continue;
            };
            let bytes: usize = inside.iter().map(Bytes::len).sum();
            *room = room.checked_sub(bytes).ok_or("functions that unfold to far more than the file")?;
            if depth >= MAX_DEPTH {
                return Err(format!("functions inside functions over {MAX_DEPTH} deep"));
            }
            calls += 1;
            waiting.extend(inside.into_iter().rev().map(|node| (node, depth + 1)));
        }
        Ok(result)
    }
}

impl proto::Function {
    /// Its nodes with the names that a call gives them: of inputs and outputs the call's, of all others new ones. `None` for a function
    /// with graphs inside its nodes, whose names lie deeper: its calls stay as they are.
    fn called(&self, call: &proto::Node, number: usize) -> Result<Option<Vec<Bytes>>, String> {
        let formal = self.input.iter().zip(call.input.iter().map(String::as_str).chain(std::iter::repeat("")));
        let outputs = self.output.iter().zip(call.output.iter().map(String::as_str).filter(|name| !name.is_empty()));
        let names: HashMap<&str, &str> = formal.chain(outputs).map(|(inner, outer)| (inner.as_str(), outer)).collect();
        let own = |name: &str| match names.get(name) {
            _ if name.is_empty() => String::new(),
            Some(outer) => (*outer).to_string(),
            // A name that no file has by accident.
            None => format!("{}#{number}/{name}", call.op_type),
        };
        let attribute = |bytes: &Bytes| proto::Attribute::decode(bytes.clone()).map_err(|e| e.to_string());
        let given = call.attribute.iter().chain(&self.defaults).map(attribute).collect::<Result<Vec<_>, _>>()?;
        let mut nodes = Vec::new();
        for bytes in &self.node {
            let mut node = proto::Node::decode(bytes.clone()).map_err(|e| e.to_string())?;
            let mut attributes = Vec::new();
            for bytes in &node.attribute {
                let inner = attribute(bytes)?;
                if inner.g.is_some() || !inner.graphs.is_empty() {
                    return Ok(None);
                }
                if inner.ref_attr_name.is_empty() {
                    attributes.push(bytes.clone());
                } else if let Some(outer) = given.iter().find(|given| given.name == inner.ref_attr_name) {
                    let named = proto::Attribute { name: inner.name, ..outer.clone() };
                    attributes.push(named.encode_to_vec().into());
                }
            }
            node.attribute = attributes;
            for name in node.input.iter_mut().chain(&mut node.output) {
                *name = own(name);
            }
            if !node.name.is_empty() {
                node.name = format!("{}/{}", if call.name.is_empty() { &call.op_type } else { &call.name }, node.name);
            }
            nodes.push(node.encode_to_vec().into());
        }
        Ok(Some(nodes))
    }
}
