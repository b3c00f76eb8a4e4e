//! A graph becoming a network: node by node, with what is known of every value.

use super::super::OnnxFile;
use super::super::constant::Constant;
use super::super::fold::{Attributes, Budget, Call, evaluate};
use super::super::graph::{Bound, is_onnx};
use super::super::operator::shortened;
use super::super::{proto, within};
use super::ops;
use super::value::{Axis, Column, Kind, Laid, Value};
use crate::element::Element;
use prost::Message;
use std::collections::{HashMap, HashSet};
use wgpu_rnn::network::{Builder, Part, Rows};
use wgpu_rnn::{Error, Result, RnnConfig, Shape};

/// Why a lowering ends before its end.
pub enum Stop {
    /// It is known now what an axis of an input counts, and it was taken for something else: begin again.
    Learn(Vec<(Place, Kind)>),
    Fail(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Fail(error)
    }
}

pub type Made<T> = std::result::Result<T, Stop>;

/// An axis of an input.
pub type Place = (usize, usize);

/// What axes of inputs are known to count.
pub type Facts = HashMap<Place, Kind>;

/// An input of the model.
#[derive(Clone, Debug)]
pub struct Input {
    pub name: String,
    pub element: Element,
    pub axes: Vec<Axis>,
}

/// Where columns come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// An input of the model.
    Input(usize),
    /// A value of the network.
    Made(Part),
    /// A constant with values of its own for steps or sequences, which every run is fed.
    Fixed(usize),
    /// An input or such a constant that has a row per sequence, fed once more with that row at every step.
    Spread(u32),
    /// The state of a recurrent node after the run, `[B, size]`: which state. Of its columns those of h are the last steps of y.
    State { state: usize, y: Part, config: Box<RnnConfig> },
}

/// What a state begins with.
#[derive(Clone, Debug)]
pub struct Begin {
    /// Values of a sequence.
    pub size: usize,
    /// Where each is from; `None`: zeros.
    pub columns: Option<Vec<Column>>,
}

/// A constant that is fed.
#[derive(Clone, Debug)]
pub struct Fixed {
    pub tensor: Constant,
    pub laid: Laid,
}

/// A node on its way into the network.
pub struct Op<'a> {
    pub name: String,
    pub kind: String,
    pub node: &'a proto::Node,
    pub values: Vec<Option<Value>>,
}

/// The state of a lowering.
pub struct Lowering<'a> {
    pub file: &'a OnnxFile,
    pub facts: &'a Facts,
    pub shape: Shape,
    pub builder: Builder,
    /// Values of the parameters, in the builder's order.
    pub params: Vec<f64>,
    pub inputs: Vec<Input>,
    pub sources: Vec<Source>,
    pub fixed: Vec<Fixed>,
    /// Of the operations that carry one, in order.
    pub states: Vec<Begin>,
    /// The input that recurrent nodes take the sequences' lengths from; `None` inside: all steps. `None`: no such node yet.
    pub lengths: Option<Option<usize>>,
    /// A node that reads all steps of a sequence, whatever its length.
    pub over_all_steps: Option<String>,
    /// Network values of inputs and fixed constants that something reads.
    parts: HashMap<u32, Part>,
    known: HashMap<(usize, String), Value>,
    names: HashSet<String>,
    pub budget: Budget,
}

impl<'a> Lowering<'a> {
    pub fn new(file: &'a OnnxFile, inputs: Vec<Input>, facts: &'a Facts, shape: Shape) -> Self {
        let mut budget = Budget::of_file(file.size);
        // Constants follow the shapes of a run too: states, masks, positions.
        budget.earn(inputs.iter().map(|i| i.axes.iter().map(|a| a.size).product::<usize>()).sum());
        let mut lowering = Self {
            file,
            facts,
            shape,
            builder: Builder::new(),
            params: Vec::new(),
            inputs: Vec::new(),
            sources: Vec::new(),
            fixed: Vec::new(),
            states: Vec::new(),
            lengths: None,
            over_all_steps: None,
            parts: HashMap::new(),
            known: HashMap::new(),
            names: HashSet::new(),
            budget,
        };
        for (n, input) in inputs.into_iter().enumerate() {
            let columns: usize = input.axes.iter().filter(|a| a.kind == Kind::Columns).map(|a| a.size).product();
            let source = lowering.source(Source::Input(n));
            let laid = Laid {
                element: input.element,
                axes: input.axes.clone(),
                columns: (0..columns as u32).map(|at| Column::Of(source, at)).collect(),
                rows: lowering.rows_of(&input.axes),
                sorted: false,
                reversed: false,
            };
            lowering.known.insert((0, input.name.clone()), Value::Laid(laid));
            lowering.inputs.push(input);
        }
        lowering
    }

    /// What a value with those axes has a row for; of a single step nothing is per sequence.
    pub fn rows_of(&self, axes: &[Axis]) -> Rows {
        let steps = axes.iter().any(|axis| matches!(axis.kind, Kind::Time | Kind::Both { .. }));
        if steps || self.shape.time == 1 { Rows::Steps } else { Rows::Sequences }
    }

    pub fn source(&mut self, source: Source) -> u32 {
        self.sources.push(source);
        self.sources.len() as u32 - 1
    }

    /// A name that nothing of the network has.
    pub fn fresh(&mut self, base: &str) -> String {
        let base = if base.is_empty() { "value" } else { base };
        let numbered = (1..).map(|n| format!("{base}.{n}"));
        let free = [base.to_string()].into_iter().chain(numbered).find(|name| !self.names.contains(name));
        let name = free.unwrap_or_default();
        self.names.insert(name.clone());
        name
    }

    /// A parameter with its values.
    pub fn param(&mut self, name: &str, shape: &[usize], values: &[f64]) -> Result<usize> {
        let name = self.fresh(name);
        let id = self.builder.param(&name, shape)?;
        self.params.extend_from_slice(values);
        Ok(id)
    }

    /// The values of a new part of the network: columns of that shape, rows as of `like`.
    pub fn laid(&mut self, part: Part, axes: Vec<Axis>, like: &Laid) -> Laid {
        let source = self.source(Source::Made(part));
        let columns = (0..part.width as u32).map(|at| Column::Of(source, at)).collect();
        Laid { axes, columns, ..like.clone() }
    }

    /// The value that a node of a graph sees under a name.
    pub fn value(&mut self, scope: usize, name: &str) -> Made<Value> {
        let unknown = || Error::mismatch(format!("value {}", shortened(name)), "one that a node before makes", "none");
        let (scope, bound) = self.file.resolve(scope, name).ok_or_else(unknown)?;
        if let Some(value) = self.known.get(&(scope, name.to_string())) {
            return Ok(value.clone());
        }
        let Bound::Constant(bytes) = bound else { return Err(unknown().into()) };
        let value = Constant::decode_in(&self.file.folder, &shortened(name), bytes.clone())?;
        self.budget.earn(value.len());
        self.known.insert((scope, name.to_string()), Value::Constant(value.clone()));
        Ok(Value::Constant(value))
    }

    /// What is known before the first node.
    pub fn know(&mut self, values: &HashMap<(usize, String), Value>) {
        self.known.extend(values.iter().map(|(name, value)| (name.clone(), value.clone())));
    }

    /// What is known to be constant.
    pub fn constants(&self) -> HashMap<(usize, String), Value> {
        let constant = self.known.iter().filter(|(_, value)| matches!(value, Value::Constant(_)));
        constant.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

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
            Stop::Fail(error) => Stop::Fail(self.up_to(node, within(&what, error))),
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
            let reason = "this build has no such operator for whole models".to_string();
            return Err(Error::Unsupported { what: "the operator".into(), reason }.into());
        };
        if let Some(n) = (row.reads..op.values.len()).find(|&n| !constant(&op.values[n])) {
            let reason = "a network has its sizes when it is made".into();
            return Err(Error::Unsupported { what: format!("input {n} that only a run knows"), reason }.into());
        }
        (row.run)(self, &op)
    }

    /// An If whose condition is known.
    fn branch(&mut self, scope: usize, node: &proto::Node) -> Made<Vec<Value>> {
        let condition = node.input.first().map_or("", String::as_str);
        let Value::Constant(condition) = self.value(scope, condition)? else {
            let reason = "a network takes the same way in every run".into();
            return Err(Error::Unsupported { what: "a condition that only a run knows".into(), reason }.into());
        };
        let missing = || Error::mismatch("branch", "a graph", "none");
        let inner = self.file.branch(scope, node, !condition.is_zero()).ok_or_else(missing)?;
        let outputs = self.file.scopes[inner].outputs.clone();
        self.graph(inner)?;
        outputs.iter().map(|output| self.value(inner, output)).collect()
    }

    /// Says up to where a model runs whose node does not.
    fn up_to(&self, node: &proto::Node, error: Error) -> Error {
        let Error::Unsupported { what, reason } = error else { return error };
        let laid = |name: &&String| self.known.iter().any(|((_, n), v)| n == *name && matches!(v, Value::Laid(_)));
        let names: Vec<String> = node.input.iter().filter(laid).take(3).map(|name| shortened(name)).collect();
        let reason = match &names[..] {
            [] => reason,
            names => format!("{reason}; the model runs up to {}", names.join(", ")),
        };
        Error::Unsupported { what, reason }
    }

    /// Takes an axis for what it must be, if that can be.
    ///
    /// # Errors
    /// [`Stop::Learn`] where it is an input's that was taken for something else.
    pub fn want(&self, laid: &Laid, wanted: &[(usize, Kind)]) -> Made<()> {
        let mut learned = Vec::new();
        let mut refused = None;
        for &(n, kind) in wanted {
            let axis = laid.axes[n];
            let all = match kind {
                Kind::Time => self.shape.time,
                Kind::Batch => self.shape.batch,
                _ => axis.size,
            };
            let fits = axis.size == all && (axis.kind == kind || axis.size == 1);
            // What is known of one axis holds for all: a network has one T and one B.
            let settled = axis.size != all && self.facts.values().any(|known| *known == kind);
            match axis.from {
                _ if fits => {}
                Some(place) if !settled && !self.facts.contains_key(&place) && axis.size != 1 => {
                    learned.push((place, kind))
                }
                _ => {
                    let reason = format!("it must count {kind:?}, and the value is {}", laid.axes_in_words());
                    refused.get_or_insert(Error::Unsupported { what: format!("axis {n}"), reason });
                }
            }
        }
        // What is learned of one axis may make another fit.
        match refused {
            _ if !learned.is_empty() => Err(Stop::Learn(learned)),
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// The network's value with all of a source's columns.
    pub fn part_of(&mut self, source: u32) -> Made<Part> {
        if let Some(part) = self.parts.get(&source) {
            return Ok(*part);
        }
        let part = match self.sources[source as usize].clone() {
            Source::Made(part) => part,
            Source::Input(n) => {
                let Input { name, axes, .. } = self.inputs[n].clone();
                let (rows, width) = (self.rows_of(&axes), self.width_of(source));
                let name = self.fresh(&name);
                self.input(&name, width, rows)?
            }
            Source::Fixed(n) => {
                let (rows, width) = (self.fixed[n].laid.rows, self.width_of(source));
                let name = self.fresh(&format!("constant.{n}"));
                self.input(&name, width, rows)?
            }
            Source::Spread(of) => {
                let width = self.width_of(of);
                let name = self.fresh(&format!("spread.{source}"));
                self.builder.input(&name, width)?
            }
            Source::State { y, config, .. } => {
                let name = self.fresh("last");
                self.builder.last_of(&name, y, &config)?
            }
        };
        self.parts.insert(source, part);
        Ok(part)
    }

    /// Columns of an input or a fed constant.
    fn width_of(&self, source: u32) -> usize {
        match &self.sources[source as usize] {
            Source::Input(n) => {
                let axes = self.inputs[*n].axes.iter();
                axes.filter(|axis| axis.kind == Kind::Columns).map(|axis| axis.size).product()
            }
            Source::Fixed(n) => self.fixed[*n].laid.columns.len(),
            _ => 0,
        }
    }

    fn input(&mut self, name: &str, width: usize, rows: Rows) -> Result<Part> {
        match rows {
            Rows::Steps => self.builder.input(name, width),
            Rows::Sequences => self.builder.sequence_input(name, width),
        }
    }

    /// Which of the network's inputs has which source, for those who feed it.
    pub fn fed(&self) -> HashMap<usize, Source> {
        let fed = self.parts.iter().filter_map(|(&source, part)| match &self.sources[source as usize] {
            from @ (Source::Input(_) | Source::Fixed(_) | Source::Spread(_)) => Some((part.value, from.clone())),
            _ => None,
        });
        fed.collect()
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
