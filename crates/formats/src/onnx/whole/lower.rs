//! A graph becoming a network: node by node, with what is known of every value.

use super::super::OnnxFile;
use super::super::constant::Constant;
use super::super::fold::Budget;
use super::super::graph::Bound;
use super::super::operator::shortened;
use super::axes::{Facts, Made, Stop};
use super::stack::{Place, Readable, Stack, StatePlaces};
use super::value::{Axis, Column, Kind, Laid, Value};
use crate::element::Element;
use std::collections::{HashMap, HashSet};
use wgpu_rnn::network::{Builder, Part, Rows};
use wgpu_rnn::{Error, Result, Shape};

/// Elements of all matrices that are not in a file but made for its nodes (a convolution's kernel laid out, columns in another order), at
/// most, of a whole model.
pub const MOST_LAID_OUT: usize = 1 << 26;

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
    /// The y of a layer whose stack may still grow.
    Layer(Place),
    /// The state of such a layer.
    Last(Place),
    /// The y of a layer inside a stack; the node of that name is the layer above it.
    Inside(String),
    /// The state of an operation after the run, `[B, size]`.
    State(StatePlaces, Readable),
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
    /// Recurrent nodes that are layers.
    pub stacks: Vec<Stack>,
    /// The input that recurrent nodes take the sequences' lengths from; `None` inside: all steps. `None`: no such node yet.
    pub lengths: Option<Option<usize>>,
    /// A node that reads all steps of a sequence, whatever its length.
    pub over_all_steps: Option<String>,
    /// Network values of inputs and fixed constants that something reads.
    parts: HashMap<u32, Part>,
    pub(super) known: HashMap<(usize, String), Value>,
    names: HashSet<String>,
    pub budget: Budget,
    /// How many of [`MOST_LAID_OUT`] there are, of the networks before too.
    pub laid_out: usize,
}

impl<'a> Lowering<'a> {
    pub fn new(file: &'a OnnxFile, inputs: Vec<Input>, facts: &'a Facts, shape: Shape, laid_out: usize) -> Self {
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
            stacks: Vec::new(),
            lengths: None,
            over_all_steps: None,
            parts: HashMap::new(),
            known: HashMap::new(),
            names: HashSet::new(),
            budget,
            laid_out,
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

    /// A matrix of zeros to be filled.
    ///
    /// # Errors
    /// [`Error::Limit`] where the model has too many such numbers.
    pub fn matrix(&mut self, rows: usize, columns: usize) -> Result<Vec<f64>> {
        let all = rows.saturating_mul(columns).saturating_add(self.laid_out);
        if all > MOST_LAID_OUT {
            return Err(Error::Limit {
                what: format!("a matrix of {rows} x {columns}"),
                needs: all as u64,
                limit: MOST_LAID_OUT as u64,
                unit: "numbers laid out for nodes",
                limit_name: "this reader's limit",
                hint: String::new(),
            });
        }
        self.laid_out = all;
        Ok(vec![0.0; rows * columns])
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

    /// The network's value with all of a source's columns.
    pub fn part_of(&mut self, source: u32) -> Made<Part> {
        if let Some(part) = self.parts.get(&source) {
            return Ok(*part);
        }
        self.settle(source)?;
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
            // After one step the state is what that step gave.
            Source::State(_, Readable::Last(y, _)) if self.shape.time == 1 => y,
            Source::State(_, Readable::Last(y, config)) => {
                let name = self.fresh("last");
                self.builder.last_of(&name, y, &config)?
            }
            Source::State(_, Readable::Below(above)) | Source::Inside(above) => return Err(Stop::Apart(above)),
            Source::State(_, Readable::Nothing(_)) => return Err(Stop::from_state()),
            Source::Layer(_) | Source::Last(_) => return Err(Stop::from_state()),
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
