//! An ONNX model on its way to bytes: nodes, constants, inputs and outputs, each name once.

use crate::onnx::proto::{self, data_type, kind};
use prost::Message;
use prost::bytes::Bytes;
use std::collections::{HashMap, HashSet};
use wgpu_rnn::num::Real;
use wgpu_rnn::{Error, Result};

/// The opset that is written.
const OPSET: i64 = 22;
/// The IR version that came with it (ONNX 1.17).
const IR_VERSION: i64 = 10;
/// What protobuf takes at most.
const MAX_BYTES: u64 = (1 << 31) - 1;
/// Bytes of a message beside its tensors' values.
const AROUND: u64 = 256;

/// One dimension of an input or output.
#[derive(Clone, Copy)]
pub enum Size {
    T,
    B,
    Of(usize),
}

/// A graph that grows.
pub struct Writer {
    graph: proto::Graph,
    /// The element type of its numbers.
    element: i32,
    taken: HashSet<String>,
    /// Nodes that have no attributes: one for each operator over the same inputs.
    made: HashMap<(&'static str, Vec<String>), String>,
    /// Constants of one number or a list of whole ones.
    constants: HashMap<Constant, String>,
    bytes: u64,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Constant {
    /// The bits of a number.
    Number(u64),
    /// Of a type, with one axis or, of one value, none.
    Integers(i32, bool, Vec<i64>),
}

impl Writer {
    /// Of numbers of type `T`.
    pub fn new<T: Real>(name: &str) -> Self {
        Self {
            graph: proto::Graph { name: name.into(), ..Default::default() },
            element: element::<T>(),
            taken: HashSet::new(),
            made: HashMap::new(),
            constants: HashMap::new(),
            bytes: 0,
        }
    }

    /// The element type of its numbers.
    pub fn element(&self) -> i32 {
        self.element
    }

    /// A name that nothing else has: this one, if it is free.
    pub fn name(&mut self, wanted: &str) -> String {
        let numbered = (1..).map(|n| format!("{wanted}.{n}"));
        let free = std::iter::once(wanted.to_string()).chain(numbered).find(|name| self.taken.insert(name.clone()));
        free.unwrap_or_default()
    }

    /// Exactly that name.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if it is taken.
    fn own(&mut self, what: &str, name: &str) -> Result<()> {
        if name.is_empty() || !self.taken.insert(name.into()) {
            return Err(Error::mismatch(
                format!("{what} {name} of an ONNX model"),
                "a name of its own",
                "one that is taken",
            ));
        }
        Ok(())
    }

    /// An input of that name.
    pub fn input(&mut self, name: &str, element: i32, shape: &[Size]) -> Result<()> {
        self.own("input", name)?;
        self.graph.input.push(encoded(&value(name, element, shape)));
        Ok(())
    }

    /// An output, whose name a node will give or has given.
    pub fn output(&mut self, name: &str, element: i32, shape: &[Size]) {
        self.graph.output.push(encoded(&value(name, element, shape)));
    }

    /// Reserves the name of an output, before anything else takes it.
    pub fn output_name(&mut self, name: &str) -> Result<()> {
        self.own("output", name)
    }

    /// A node that gives these values, whose names are its caller's.
    pub fn node(&mut self, op: &str, name: &str, inputs: &[&str], outputs: &[&str], attributes: &[proto::Attribute]) {
        let mut input: Vec<String> = inputs.iter().map(ToString::to_string).collect();
        while input.last().is_some_and(String::is_empty) {
            input.pop();
        }
        let node = proto::Node {
            input,
            output: outputs.iter().map(ToString::to_string).collect(),
            name: name.into(),
            op_type: op.into(),
            attribute: attributes.iter().map(encoded).collect(),
            domain: String::new(),
        };
        self.graph.node.push(encoded(&node));
    }

    /// What an operator without attributes makes of its inputs; the same again, if it is asked for again. `of`: for whom.
    pub fn call(&mut self, op: &'static str, inputs: &[&str], of: &str) -> String {
        let key = (op, inputs.iter().map(ToString::to_string).collect::<Vec<_>>());
        if let Some(name) = self.made.get(&key) {
            return name.clone();
        }
        let name = self.call_with(op, inputs, &[], of);
        self.made.insert(key, name.clone());
        name
    }

    /// What an operator makes of its inputs.
    pub fn call_with(&mut self, op: &str, inputs: &[&str], attributes: &[proto::Attribute], of: &str) -> String {
        let name = self.name(&format!("{of}.{op}"));
        self.node(op, &name, inputs, &[&name], attributes);
        name
    }

    /// A value in another element type; the same again, if it is asked for again.
    pub fn cast(&mut self, value: &str, to: i32, of: &str) -> String {
        let kind = match to {
            data_type::INT32 => "Cast to int32",
            data_type::INT64 => "Cast to int64",
            _ => "Cast to numbers",
        };
        let key = (kind, vec![value.to_string()]);
        if let Some(name) = self.made.get(&key) {
            return name.clone();
        }
        let name = self.call_with("Cast", &[value], &[int("to", to.into())], of);
        self.made.insert(key, name.clone());
        name
    }

    /// A constant of numbers.
    ///
    /// # Errors
    /// [`Error::Limit`] where the model grows beyond what a protobuf message holds.
    pub fn tensor(&mut self, wanted: &str, shape: &[usize], values: &[f64]) -> Result<String> {
        let size = if self.element == data_type::DOUBLE { 8 } else { 4 };
        self.bytes = self.bytes.saturating_add(values.len() as u64 * size + AROUND);
        within_protobuf(self.bytes)?;
        let name = self.name(wanted);
        self.graph.initializer.push(encoded(&tensor(self.element, &name, shape, values)));
        Ok(name)
    }

    /// A number.
    pub fn number(&mut self, value: f64) -> String {
        let key = Constant::Number(value.to_bits());
        if let Some(name) = self.constants.get(&key) {
            return name.clone();
        }
        let name = self.name(&format!("number.{value}"));
        self.graph.initializer.push(encoded(&tensor(self.element, &name, &[], &[value])));
        self.constants.insert(key, name.clone());
        name
    }

    /// A list of whole numbers, int64.
    pub fn integers(&mut self, values: &[i64]) -> String {
        self.whole(data_type::INT64, true, values)
    }

    /// A whole number without axes, of that type: int64 or int32.
    pub fn integer(&mut self, element: i32, value: i64) -> String {
        self.whole(element, false, &[value])
    }

    fn whole(&mut self, element: i32, list: bool, values: &[i64]) -> String {
        let key = Constant::Integers(element, list, values.to_vec());
        if let Some(name) = self.constants.get(&key) {
            return name.clone();
        }
        let name = self.name(if list { "sizes" } else { "integer" });
        let raw: Vec<u8> = match element {
            data_type::INT32 => values.iter().flat_map(|&v| (v as i32).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        };
        let dims = if list { vec![size_of_axis(values.len())] } else { Vec::new() };
        let tensor = proto::Tensor {
            dims,
            data_type: element,
            name: name.clone(),
            raw_data: Some(raw.into()),
            ..Default::default()
        };
        self.graph.initializer.push(encoded(&tensor));
        self.constants.insert(key, name.clone());
        name
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// [`Error::Limit`] for more than a protobuf message holds.
    pub fn finish(self) -> Result<Vec<u8>> {
        model(&self.graph)
    }
}

/// A model of this graph.
///
/// # Errors
/// [`Error::Limit`] for more than a protobuf message holds.
pub fn model(graph: &proto::Graph) -> Result<Vec<u8>> {
    within_protobuf(graph.encoded_len() as u64 + AROUND)?;
    let model = proto::Model {
        ir_version: IR_VERSION,
        producer_name: "wgpu-rnn".into(),
        graph: Some(encoded(graph)),
        opset_import: vec![proto::OperatorSet { domain: String::new(), version: OPSET }],
        functions: Vec::new(),
    };
    Ok(model.encode_to_vec())
}

/// Refuses more bytes than a protobuf message holds.
pub fn within_protobuf(needs: u64) -> Result<()> {
    match needs <= MAX_BYTES {
        true => Ok(()),
        false => Err(Error::Limit {
            what: "an ONNX model in one file".into(),
            needs,
            limit: MAX_BYTES,
            unit: "bytes",
            limit_name: "protobuf's limit",
            hint: String::new(),
        }),
    }
}

/// What an input or output is.
pub fn value(name: &str, elem_type: i32, shape: &[Size]) -> proto::ValueInfo {
    let named = |name: &str| proto::Dimension { value: None, name: Some(name.into()) };
    let dimension = |size: &Size| match *size {
        Size::T => named("T"),
        Size::B => named("B"),
        Size::Of(n) => proto::Dimension { value: i64::try_from(n).ok(), name: None },
    };
    let shape = Some(proto::Shape { dim: shape.iter().map(dimension).collect() });
    let kind = Some(proto::Type { tensor: Some(proto::TensorType { elem_type, shape }) });
    proto::ValueInfo { name: name.into(), kind }
}

/// ONNX's number for `T`.
pub fn element<T: Real>() -> i32 {
    if size_of::<T>() == 8 { data_type::DOUBLE } else { data_type::FLOAT }
}

/// A constant of numbers of that type.
pub fn tensor(element: i32, name: &str, shape: &[usize], values: &[f64]) -> proto::Tensor {
    let raw: Vec<u8> = if element == data_type::DOUBLE {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    } else {
        values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect()
    };
    proto::Tensor {
        dims: shape.iter().map(|&n| size_of_axis(n)).collect(),
        data_type: element,
        name: name.into(),
        raw_data: Some(raw.into()),
        ..Default::default()
    }
}

/// Sizes are at most 2^30, see `RnnConfig::validate`.
pub fn size_of_axis(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// An attribute that is a whole number.
pub fn int(name: &str, i: i64) -> proto::Attribute {
    proto::Attribute { name: name.into(), kind: kind::INT, i: Some(i), ..Default::default() }
}

/// An attribute that is a list of whole numbers.
pub fn ints(name: &str, ints: &[i64]) -> proto::Attribute {
    proto::Attribute { name: name.into(), kind: kind::INTS, ints: ints.to_vec(), ..Default::default() }
}

/// An attribute that is a number.
pub fn float(name: &str, f: f32) -> proto::Attribute {
    proto::Attribute { name: name.into(), kind: kind::FLOAT, f: Some(f), ..Default::default() }
}

/// An attribute that is a text.
pub fn text(name: &str, text: &'static str) -> proto::Attribute {
    let s = Some(Bytes::from_static(text.as_bytes()));
    proto::Attribute { name: name.into(), kind: kind::STRING, s, ..Default::default() }
}

pub fn encoded(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}
