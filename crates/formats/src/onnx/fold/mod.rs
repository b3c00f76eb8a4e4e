//! Constants computed: what a graph's nodes make of initialisers alone, worked out when the model is read.
//!
//! Exporters leave operations around weights (slices of a matrix, joined in another order) and make states at run time (zeros of a shape
//! that the batch gives). A value is one of three ([`Folded`]): known; known but for how often it is repeated, where only a run gives the
//! shape; or a run's own.
//!
//! The operators are rows of the tables in the files of this folder. Versions of an operator differ in where they have their parameters:
//! what an input gives counts before what an attribute says.

mod axes;
mod call;
mod make;
mod matrix;
mod order;
mod pointwise;
mod quantised;
mod reduce;
mod select;

pub(super) use axes::{Places, broadcast, normal_axis, strides};
pub(super) use call::{Attributes, Budget, Call};
pub(super) use order::{flattened, order, reshaped, sizes_of, squeezed, unsqueezed};
pub(super) use pointwise::bounds;
pub(super) use quantised::scaled;
pub(super) use reduce::Reduced;
pub(super) use select::{Cut, cut, cuts, indices, parts};

use super::OnnxFile;
use super::constant::Constant;
use super::graph::Bound;
use super::operator::shortened;
use super::proto;
use prost::Message;
use std::collections::{HashMap, HashSet};
use wgpu_rnn::{Error, Result};

/// What is known of a value when a model is read.
#[derive(Clone, Debug)]
pub(super) enum Folded {
    /// All of it.
    Constant(Constant),
    /// It is this, repeated to a shape that only a run gives: along axes of size 1, and along more axes before the first.
    Repeated(Constant),
    /// Nothing.
    Runtime,
}

impl Folded {
    /// The one value that all of it has.
    fn uniform(&self) -> Option<Constant> {
        match self {
            Self::Constant(value) | Self::Repeated(value) => value.uniform(),
            Self::Runtime => None,
        }
    }
}

/// An operator that can be worked out.
pub(super) struct Row {
    /// Its `op_type`.
    name: &'static str,
    /// Its outputs of inputs that are all known.
    run: fn(&mut Call<'_>) -> Result<Vec<Constant>>,
    /// What it makes of a first input that is [`Folded::Repeated`].
    keeps: Keeps,
}

/// What an operator makes of a value of which only the repetition is unknown.
#[derive(Clone, Copy, PartialEq)]
enum Keeps {
    /// Something that only a run knows.
    Nothing,
    /// If all of the first input is one value, all of the output is.
    Uniform,
    /// The same of all inputs together.
    UniformOfAll,
    /// The operator's output for the value that is repeated, repeated.
    Repeated,
    /// The first input, repeated once more.
    Repeats,
}

const fn row(name: &'static str, keeps: Keeps, run: fn(&mut Call<'_>) -> Result<Vec<Constant>>) -> Row {
    Row { name, run, keeps }
}

/// The row of an operator of ONNX's own domain.
fn find(op: &str) -> Option<&'static Row> {
    let tables: [&[Row]; 7] =
        [&order::ROWS, &select::ROWS, &make::ROWS, &pointwise::ROWS, &reduce::ROWS, &matrix::ROWS, &quantised::ROWS];
    tables.into_iter().flatten().find(|row| row.name == op)
}

/// Whether an operator is worked out where its inputs are known.
pub(super) fn works_out(op: &str) -> bool {
    find(op).is_some()
}

/// The outputs of a node whose inputs are all known; `None` for an operator that is not worked out.
///
/// # Errors
/// [`Error::Mismatch`] for inputs or attributes that do not fit, [`Error::Limit`] for a result out of proportion.
pub(super) fn evaluate(call: &mut Call<'_>) -> Result<Option<Vec<Constant>>> {
    find(call.op).map(|row| (row.run)(call)).transpose()
}

/// Works out the values of a file's names, each once.
pub(super) struct Folding<'a> {
    file: &'a OnnxFile,
    /// Values for names that the file leaves to its user.
    given: &'a HashMap<&'a str, &'a Constant>,
    known: HashMap<Name, Folded>,
    budget: Budget,
}

/// Which graph binds it, and what it is called there.
type Name = (usize, String);

/// What a step over a name needs before it can be taken.
enum Step {
    Done(Vec<(Name, Folded)>),
    Needs(Vec<Name>),
}

impl<'a> Folding<'a> {
    pub fn new(file: &'a OnnxFile, given: &'a HashMap<&'a str, &'a Constant>) -> Self {
        Self { file, given, known: HashMap::new(), budget: Budget::of_file(file.size) }
    }

    /// The value that a name has for a node of that graph.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a node whose constants do not fit, or values that depend on themselves; [`Error::Limit`]; those of
    /// [`Constant::decode_in`].
    pub fn value(&mut self, scope: usize, name: &str) -> Result<Folded> {
        let Some(wanted) = self.key(scope, name) else { return Ok(Folded::Runtime) };
        // A list, not recursion: a file's depth must not cost stack.
        let mut waiting = vec![wanted.clone()];
        let mut open = HashSet::new();
        while let Some(name) = waiting.last().cloned() {
            if self.known.contains_key(&name) {
                waiting.pop();
                continue;
            }
            match self.step(&name)? {
                Step::Done(values) => self.known.extend(values),
                Step::Needs(_) if open.contains(&name) => {
                    let what = format!("value {}", shortened(&name.1));
                    return Err(Error::mismatch(what, "one that depends on others", "one that depends on itself"));
                }
                Step::Needs(more) => {
                    open.insert(name);
                    waiting.extend(more);
                }
            }
        }
        Ok(self.known.get(&wanted).cloned().unwrap_or(Folded::Runtime))
    }

    /// Where a name is bound; `None`: nowhere.
    fn key(&self, scope: usize, name: &str) -> Option<Name> {
        self.file.resolve(scope, name).map(|(scope, _)| (scope, name.to_string()))
    }

    fn step(&mut self, name: &Name) -> Result<Step> {
        let done = |value| Ok(Step::Done(vec![(name.clone(), value)]));
        if let Some(given) = self.given.get(name.1.as_str()) {
            return done(Folded::Constant((*given).clone()));
        }
        let bytes = match self.file.resolve(name.0, &name.1) {
            Some((_, Bound::Constant(bytes))) => {
                let value = Constant::decode_in(&self.file.folder, &shortened(&name.1), bytes.clone())?;
                self.budget.earn(value.len());
                return done(Folded::Constant(value));
            }
            Some((_, Bound::Node(bytes))) => bytes.clone(),
            Some((_, Bound::Input)) | None => return done(Folded::Runtime),
        };
        let node = proto::Node::decode(bytes).map_err(|e| Error::mismatch("node", "a NodeProto", e))?;
        if !super::graph::is_onnx(&node.domain) {
            return done(Folded::Runtime);
        }
        if node.op_type == "If" {
            return self.branch(name, &node);
        }
        let Some(row) = find(&node.op_type) else { return done(Folded::Runtime) };
        let keys: Vec<Option<Name>> = node.input.iter().map(|input| self.key(name.0, input)).collect();
        let mut missing: Vec<Name> =
            keys.iter().flatten().filter(|key| !self.known.contains_key(key)).cloned().collect();
        if !missing.is_empty() {
            missing.sort_unstable();
            missing.dedup();
            return Ok(Step::Needs(missing));
        }
        let values = keys.iter().zip(&node.input).map(|(key, input)| match key {
            _ if input.is_empty() => None,
            Some(key) => Some(self.known.get(key).cloned().unwrap_or(Folded::Runtime)),
            None => Some(Folded::Runtime),
        });
        let values: Vec<Option<Folded>> = values.collect();
        let what = || format!("{} {}", node.op_type, shortened(node.output.first().map_or("", String::as_str)));
        let made = self.made(row, &node, &values).map_err(|e| super::within(&what(), e))?;
        let named = node.output.iter().enumerate().filter(|(_, output)| !output.is_empty());
        let of = |n: usize| made.get(n).cloned().unwrap_or(Folded::Runtime);
        Ok(Step::Done(named.map(|(n, output)| ((name.0, output.clone()), of(n))).collect()))
    }

    /// The value of an If whose condition is known: that of the branch.
    fn branch(&mut self, name: &Name, node: &proto::Node) -> Result<Step> {
        let runtime = Ok(Step::Done(vec![(name.clone(), Folded::Runtime)]));
        let Some(condition) = node.input.first().and_then(|input| self.key(name.0, input)) else { return runtime };
        let Some(value) = self.known.get(&condition) else { return Ok(Step::Needs(vec![condition])) };
        let Folded::Constant(value) = value else { return runtime };
        let Some(inner) = self.file.branch(name.0, node, !value.is_zero()) else { return runtime };
        let at = node.output.iter().position(|output| *output == name.1);
        let Some(output) = at.and_then(|at| self.file.scopes[inner].outputs.get(at)) else { return runtime };
        let Some(key) = self.key(inner, output) else { return runtime };
        match self.known.get(&key) {
            Some(value) => Ok(Step::Done(vec![(name.clone(), value.clone())])),
            None => Ok(Step::Needs(vec![key])),
        }
    }

    fn made(&mut self, row: &Row, node: &proto::Node, values: &[Option<Folded>]) -> Result<Vec<Folded>> {
        let run = |inputs: Vec<Option<Constant>>, budget: &mut Budget| {
            let attributes = Attributes::new(node, &self.file.folder);
            let outputs = node.output.len();
            (row.run)(&mut Call { op: row.name, attributes, inputs, outputs, budget })
        };
        let known = |value: &Option<Folded>| match value {
            None => Some(None),
            Some(Folded::Constant(value)) => Some(Some(value.clone())),
            Some(_) => None,
        };
        if let Some(inputs) = values.iter().map(known).collect::<Option<Vec<_>>>() {
            return Ok(run(inputs, &mut self.budget)?.into_iter().map(Folded::Constant).collect());
        }
        let first = values.first().cloned().flatten();
        let repeated = |value: Constant| vec![Folded::Repeated(value); node.output.len()];
        Ok(match (row.keeps, first) {
            (Keeps::Repeats, Some(Folded::Constant(value) | Folded::Repeated(value))) => {
                repeated(value.uniform().unwrap_or(value))
            }
            // A fill: its shape is the run's.
            (Keeps::Repeats, _) if row.name == "ConstantOfShape" => {
                let fill = Attributes::new(node, &self.file.folder).tensor("value")?;
                let zero = || Constant::from_reals("value", vec![], crate::element::Element::F32, vec![0.0]);
                repeated(fill.as_ref().and_then(Constant::uniform).map_or_else(zero, Ok)?)
            }
            (Keeps::Repeated, Some(Folded::Repeated(value))) => {
                let inputs = [Some(value)].into_iter().chain(values.iter().skip(1).map(|v| known(v).flatten()));
                run(inputs.collect(), &mut self.budget)?.into_iter().map(Folded::Repeated).collect()
            }
            (Keeps::Uniform, Some(first)) => match (first.uniform(), first) {
                (Some(value), _) => repeated(value),
                (None, Folded::Repeated(value)) if row.name == "Slice" => {
                    let rest = values.iter().skip(1).map(known).collect::<Option<Vec<_>>>();
                    match rest.and_then(|rest| select::slice_of_repeated(&value, rest, &mut self.budget)) {
                        Some(value) => repeated(value),
                        None => Vec::new(),
                    }
                }
                _ => Vec::new(),
            },
            (Keeps::UniformOfAll, Some(_)) => {
                let mut all = values.iter().map(|v| v.as_ref().and_then(Folded::uniform));
                let first = all.next().flatten();
                let same = |one: &Option<Constant>| match (one, &first) {
                    (Some(one), Some(first)) => one.element == first.element && one.numbers() == first.numbers(),
                    _ => false,
                };
                if all.all(|one| same(&one)) { first.map_or_else(Vec::new, repeated) } else { Vec::new() }
            }
            _ => Vec::new(),
        })
    }
}
