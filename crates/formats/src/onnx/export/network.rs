//! A network as an ONNX graph: inputs, what its operations become ([`super::ops`]), outputs.

use super::wire::{Size, Writer, ints};
use super::{Export, ops};
use crate::onnx::proto::data_type;
use wgpu_rnn::network::{Network, Node, Op, ParamId, Part, Rows, ValueId};
use wgpu_rnn::num::Real;
use wgpu_rnn::{Error, Result};

/// The input of sequences' lengths.
const LENGTHS: &str = "sequence_lens";

/// The bytes of its model, see [`Export::network`].
pub fn bytes<T: Real>(export: Export, network: &Network, params: &[T], outputs: &[&str]) -> Result<Vec<u8>> {
    if params.len() != network.parameter_count() {
        return Err(Error::mismatch("parameters", network.parameter_count(), params.len()));
    }
    let outputs = match outputs.is_empty() {
        true => network.outputs.clone(),
        false => outputs.iter().map(|name| Ok((name.to_string(), named(network, name)?))).collect::<Result<_>>()?,
    };
    Lowering::new(export, Ends::default(), network, params, outputs)?.bytes()
}

/// The output of that name, or the value.
fn named(network: &Network, name: &str) -> Result<Part> {
    let output = network.outputs.iter().find(|(output, _)| output == name).map(|(_, part)| *part);
    let value = || {
        let value = network.values.iter().position(|value| value.name == name)?;
        Some(Part { value, first: 0, width: network.values[value].width })
    };
    output.or_else(value).ok_or_else(|| {
        let outputs = network.outputs.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        Error::mismatch("output", format!("a value of the network, or one of its outputs {outputs}"), name)
    })
}

/// What is around a network.
#[derive(Clone, Copy, Default)]
pub struct Ends {
    /// What has a row per step is `[B, T, ·]` outside.
    pub batch_first: bool,
    /// It is a stack with its embedding and head: states are `h0`, `c0`, `hn`, `cn` without a name before them, and the last ones
    /// are always outputs.
    pub one_stack: bool,
}

/// A network on its way into a graph.
pub struct Lowering<'a> {
    pub network: &'a Network,
    pub to: Writer,
    pub export: Export,
    pub ends: Ends,
    outputs: Vec<(String, Part)>,
    /// Values of elements of the parameters.
    read: Box<dyn Fn(usize, usize) -> Vec<f64> + 'a>,
    /// The names of values and parameters that are in the graph.
    values: Vec<Option<String>>,
    params: Vec<Option<String>>,
    /// Inputs of token ids, which have no axis of columns in the graph.
    ids: Vec<bool>,
    /// A value with a row per step, from which T is taken.
    steps: Option<String>,
    /// The last states of stacks: names and shapes.
    states: Vec<(String, [Size; 3])>,
}

impl<'a> Lowering<'a> {
    /// With its inputs.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a name that two inputs or outputs would have.
    pub fn new<T: Real>(
        export: Export,
        ends: Ends,
        network: &'a Network,
        params: &'a [T],
        outputs: Vec<(String, Part)>,
    ) -> Result<Self> {
        let mut new = Self {
            network,
            to: Writer::new::<T>(if ends.one_stack { "stack" } else { "network" }),
            export,
            ends,
            outputs,
            read: Box::new(move |first, count| params[first..][..count].iter().map(|v| v.to_f64()).collect()),
            values: vec![None; network.values.len()],
            params: vec![None; network.params.len()],
            ids: vec![false; network.values.len()],
            steps: None,
            states: Vec::new(),
        };
        new.inputs()?;
        for (name, _) in new.outputs.clone() {
            new.to.output_name(&name)?;
        }
        Ok(new)
    }

    /// The nodes that the outputs need.
    fn needed(&self) -> Vec<&'a Node> {
        let mut wanted = vec![false; self.network.values.len()];
        self.outputs.iter().for_each(|(_, part)| wanted[part.value] = true);
        let mut needed = Vec::new();
        for node in self.network.nodes.iter().rev() {
            if wanted[node.value] {
                ops::reads(&node.op).into_iter().for_each(|part| wanted[part.value] = true);
                needed.push(node);
            }
        }
        needed.reverse();
        needed
    }

    /// The inputs that the outputs need, the lengths, and the states.
    fn inputs(&mut self) -> Result<()> {
        let needed = self.needed();
        let network = self.network;
        for &value in &network.inputs {
            let shown = self.outputs.iter().any(|(_, part)| part.value == value);
            let mut readers = needed.iter().filter(|node| ops::reads(&node.op).iter().any(|part| part.value == value));
            if !shown && readers.clone().next().is_none() {
                continue;
            }
            self.ids[value] =
                !shown && network.values[value].width == 1 && readers.all(|node| matches!(node.op, Op::Embedding(_)));
            let element = if self.ids[value] { data_type::INT64 } else { self.to.element() };
            let (name, shape) = (&network.values[value].name, self.shape(value, network.values[value].width));
            let shape = if self.ids[value] { &shape[..shape.len() - 1] } else { &shape[..] };
            self.to.input(name, element, shape)?;
            let name = match network.values[value].rows {
                Rows::Steps => {
                    let name = self.turned(name, self.ids[value]);
                    self.steps.get_or_insert_with(|| name.clone());
                    name
                }
                Rows::Sequences => name.clone(),
            };
            self.values[value] = Some(name);
        }
        if self.export.lengths {
            self.to.input(LENGTHS, data_type::INT32, &[Size::B])?;
        }
        match self.export.states {
            true => needed.into_iter().try_for_each(|node| ops::declare_states(self, node)),
            false => Ok(()),
        }
    }

    /// The axes of a value outside.
    fn shape(&self, value: ValueId, width: usize) -> Vec<Size> {
        match self.network.values[value].rows {
            Rows::Sequences => vec![Size::B, Size::Of(width)],
            Rows::Steps if self.ends.batch_first => vec![Size::B, Size::T, Size::Of(width)],
            Rows::Steps => vec![Size::T, Size::B, Size::Of(width)],
        }
    }

    /// A value of steps from the order of axes outside to that inside.
    fn turned(&mut self, name: &str, without_columns: bool) -> String {
        match (self.ends.batch_first, without_columns) {
            (false, _) => name.to_string(),
            (true, true) => self.to.call_with("Transpose", &[name], &[ints("perm", &[1, 0])], name),
            (true, false) => self.to.call_with("Transpose", &[name], &[ints("perm", &[1, 0, 2])], name),
        }
    }

    /// The model's bytes.
    ///
    /// # Errors
    /// As [`Export::network`].
    pub fn bytes(mut self) -> Result<Vec<u8>> {
        for node in self.needed() {
            let name = ops::write(&mut self, node)?;
            self.values[node.value] = Some(name);
        }
        for (name, part) in self.outputs.clone() {
            self.output(&name, part)?;
        }
        let element = self.to.element();
        for (name, shape) in std::mem::take(&mut self.states) {
            self.to.output(&name, element, &shape);
        }
        self.to.finish()
    }

    fn output(&mut self, name: &str, part: Part) -> Result<()> {
        let mut value = self.part(part)?;
        let steps = self.network.values[part.value].rows == Rows::Steps;
        value = match steps {
            true => self.within(part, &value, name)?,
            false => self.there(&value, name),
        };
        match steps && self.ends.batch_first {
            true => self.to.node("Transpose", name, &[&value], &[name], &[ints("perm", &[1, 0, 2])]),
            false => self.to.node("Identity", name, &[&value], &[name], &[]),
        }
        let (element, shape) = (self.to.element(), self.shape(part.value, part.width));
        self.to.output(name, element, &shape);
        Ok(())
    }

    /// Gives the last states of a stack as an output of that name.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a name that is taken.
    pub fn give_state(&mut self, name: &str, shape: [Size; 3]) -> Result<()> {
        self.to.output_name(name)?;
        self.states.push((name.to_string(), shape));
        Ok(())
    }

    /// What stands before the names of a stack's own states and constants.
    pub fn prefix(&self, node: &Node) -> String {
        if self.ends.one_stack { String::new() } else { format!("{}.", node.name) }
    }

    /// The name of a part of a value, `[T, B, width]` or `[B, width]`.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a value that is not there yet.
    pub fn part(&mut self, part: Part) -> Result<String> {
        let value = &self.network.values[part.value];
        let name = self.values[part.value].clone();
        let name = name.ok_or_else(|| Error::mismatch(&value.name, "a value made before it is read", "none"))?;
        if part.width == value.width {
            return Ok(name);
        }
        let (first, end) = (part.first as i64, (part.first + part.width) as i64);
        let [first, end, axis] = [first, end, -1].map(|n| self.to.integers(&[n]));
        Ok(self.to.call("Slice", &[&name, &first, &end, &axis], &value.name))
    }

    /// Token ids as whole numbers, `[T, B]` or `[B]`.
    ///
    /// # Errors
    /// As [`Lowering::part`].
    pub fn ids(&mut self, part: Part) -> Result<String> {
        let name = self.part(part)?;
        if self.ids[part.value] {
            return Ok(name);
        }
        let (axis, of) = (self.to.integers(&[-1]), self.network.values[part.value].name.clone());
        let row = self.to.call("Squeeze", &[&name, &axis], &of);
        Ok(self.to.cast(&row, data_type::INT64, &of))
    }

    /// The name of a parameter, in its own shape.
    ///
    /// # Errors
    /// [`Error::Limit`] for more than a protobuf message holds.
    pub fn param(&mut self, param: ParamId) -> Result<String> {
        if let Some(name) = &self.params[param] {
            return Ok(name.clone());
        }
        let p = &self.network.params[param];
        let name = self.to.tensor(&p.name, &p.shape, &self.param_values(param))?;
        self.params[param] = Some(name.clone());
        Ok(name)
    }

    /// The name of all elements of a parameter side by side.
    ///
    /// # Errors
    /// As [`Lowering::param`].
    pub fn flat(&mut self, param: ParamId) -> Result<String> {
        let name = self.param(param)?;
        if self.network.params[param].shape.len() == 1 {
            return Ok(name);
        }
        let all = self.to.integers(&[-1]);
        Ok(self.to.call("Reshape", &[&name, &all], &name))
    }

    /// The elements of a parameter.
    pub fn param_values(&self, param: ParamId) -> Vec<f64> {
        (self.read)(self.network.param_offset(param), self.network.params[param].len())
    }

    /// Whether a value has a row per step.
    pub fn is_steps(&self, value: ValueId) -> bool {
        self.network.values[value].rows == Rows::Steps
    }

    /// The name of the lengths `[B]`, int32; empty if the model takes none.
    pub fn lengths(&self) -> &'static str {
        if self.export.lengths { LENGTHS } else { "" }
    }

    /// The numbers of the steps, `[T, 1]`, int32.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a network without a value of steps.
    pub fn numbers_of_steps(&mut self) -> Result<String> {
        let name = self.steps.clone().ok_or_else(|| Error::mismatch("inputs", "one with a row per step", "none"))?;
        let shape = self.to.call("Shape", &[&name], "steps");
        let (zero, whole) =
            (self.to.integer(data_type::INT64, 0), [0, 1].map(|n| self.to.integer(data_type::INT32, n)));
        let time = self.to.call("Gather", &[&shape, &zero], "steps");
        let time = self.to.cast(&time, data_type::INT32, "steps");
        let range = self.to.call("Range", &[&whole[0], &time, &whole[1]], "steps");
        let axis = self.to.integers(&[1]);
        Ok(self.to.call("Unsqueeze", &[&range, &axis], "steps"))
    }

    /// Columns of a value of steps, which have that name, with zeros past a sequence's end.
    ///
    /// # Errors
    /// As [`Lowering::numbers_of_steps`].
    pub fn within(&mut self, part: Part, name: &str, of: &str) -> Result<String> {
        let made = self.network.nodes.iter().find(|node| node.value == part.value);
        match made.map(|node| &node.op) {
            // It gives zeros there.
            Some(Op::Layers(_)) => Ok(name.to_string()),
            _ => self.masked(name, 0.0, of),
        }
    }

    /// The value, or `other` past a sequence's end.
    ///
    /// # Errors
    /// As [`Lowering::numbers_of_steps`].
    pub fn masked(&mut self, value: &str, other: f64, of: &str) -> Result<String> {
        if !self.export.lengths {
            return Ok(value.to_string());
        }
        let steps = self.numbers_of_steps()?;
        let within = self.to.call("Less", &[&steps, LENGTHS], "steps");
        let (axis, other) = (self.to.integers(&[-1]), self.to.number(other));
        let within = self.to.call("Unsqueeze", &[&within, &axis], "steps");
        Ok(self.to.call("Where", &[&within, value, &other], of))
    }

    /// Rows of sequences `[B, width]`, or zeros for those of length 0.
    pub fn there(&mut self, rows: &str, of: &str) -> String {
        if !self.export.lengths {
            return rows.to_string();
        }
        let none = self.to.integer(data_type::INT32, 0);
        let there = self.to.call("Greater", &[LENGTHS, &none], "steps");
        let (axis, zero) = (self.to.integers(&[-1]), self.to.number(0.0));
        let there = self.to.call("Unsqueeze", &[&there, &axis], "steps");
        self.to.call("Where", &[&there, rows, &zero], of)
    }
}
