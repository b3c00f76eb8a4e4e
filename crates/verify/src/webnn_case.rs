//! WebNN's test cases of `lstm`, `lstmCell`, `gru` and `gruCell` as goldens: JSON lists, as webnn-baseline has them (`op`, `name`,
//! `args`, `options`, `outputs`, computed in float64) or flat with `expected` `h`, `c`, `y` (web-platform-tests, float32).
//!
//! Every tensor is `{"shape": [..], "data": [..]}`. Gates are in `layout`'s order (`iofg`, ONNX's, or `ifgo`; `zrn`, ONNX's, or
//! `rzn`), peepholes i, o, f, axes ONNX's; a cell is a layer of one step. `resetAfter` is true unless said otherwise.
//! Source: Web Neural Network API, "lstm", "lstmCell", "gru", "gruCell".

use super::golden::Golden;
use super::onnx_case::Recording;
use serde_json::{Map, Value};
use std::path::Path;
use wgpu_rnn::{Direction, Error, Result};
use wgpu_rnn_formats::onnx::parts::{
    AttributeValue, Constant, Element, NodeTensors, Operator, Order, Parameters, within,
};
use wgpu_rnn_formats::onnx::{OnnxLabel, OnnxNode, OnnxOp, Source};

/// Every field that says something; another one would go unread.
const KNOWN: [&str; 25] = [
    "op",
    "name",
    "note",
    "args",
    "options",
    "outputs",
    "expected",
    "input",
    "weight",
    "recurrentWeight",
    "steps",
    "hiddenSize",
    "bias",
    "recurrentBias",
    "peepholeWeight",
    "initialHiddenState",
    "initialCellState",
    "hiddenState",
    "cellState",
    "returnSequence",
    "activations",
    "direction",
    "layout",
    "resetAfter",
    "label",
];

/// The list of a file that is one of cases, `None` for any other JSON.
///
/// # Errors
/// [`Error::File`] if it cannot be read or is no JSON.
pub(super) fn list(path: &Path) -> Result<Option<Vec<Value>>> {
    let bytes = std::fs::read(path).map_err(|e| Error::file(path, e))?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|e| Error::file(path, format!("not JSON: {e}")))?;
    let is_case = |v: &Value| v.get("op").and_then(Value::as_str).is_some_and(|op| operator(op).is_some());
    match value {
        Value::Array(cases) if cases.first().is_some_and(is_case) => Ok(Some(cases)),
        _ => Ok(None),
    }
}

/// A case and its name.
pub(super) fn read(path: &Path, case: &Value) -> (String, Result<Golden>) {
    let said = case.get("name").and_then(Value::as_str).unwrap_or("without a name");
    let name = format!("{}: {said:.100}", super::onnx_case::stem(path));
    let golden = Case::new(case).and_then(|case| case.recording(&name)).and_then(Recording::golden);
    let golden = golden.map_err(|e| within(&format!("{}: {said:.100}", path.display()), e));
    (name, golden)
}

/// The ONNX operator, and whether it is a single step.
fn operator(name: &str) -> Option<(OnnxOp, bool)> {
    match name {
        "lstm" => Some((OnnxOp::Lstm, false)),
        "lstmCell" => Some((OnnxOp::Lstm, true)),
        "gru" => Some((OnnxOp::Gru, false)),
        "gruCell" => Some((OnnxOp::Gru, true)),
        _ => None,
    }
}

/// A case, not yet believed.
struct Case<'a> {
    op: OnnxOp,
    /// One step: tensors have no direction, X no time.
    step: bool,
    /// The case's own fields, its arguments, its options.
    fields: [Option<&'a Map<String, Value>>; 3],
    /// What the numbers were recorded in.
    element: Element,
}

impl<'a> Case<'a> {
    fn new(case: &'a Value) -> Result<Self> {
        let fields = [Some(case), case.get("args"), case.get("options")].map(|v| v.and_then(Value::as_object));
        for name in fields.into_iter().flatten().flat_map(Map::keys) {
            if !KNOWN.contains(&name.as_str()) {
                let reason = "this build does not know it".into();
                return Err(Error::Unsupported { what: format!("option {name:.80}"), reason });
            }
        }
        let op = case.get("op").and_then(Value::as_str).unwrap_or_default();
        let Some((op, step)) = operator(op) else {
            return Err(Error::mismatch("op", "lstm, lstmCell, gru or gruCell", format!("{op:.80}")));
        };
        let element = if case.get("expected").is_some() { Element::F32 } else { Element::F64 };
        Ok(Self { op, step, fields, element })
    }

    fn recording(&self, name: &str) -> Result<Recording> {
        let (operator, order) = self.operator()?;
        let needed = |what: &str| self.tensor(what)?.ok_or_else(|| Error::mismatch(what, "a tensor", "none"));
        let state = |sequence: &str, step: &str| {
            Ok::<_, Error>(
                self.tensor(if self.step { step } else { sequence })?.map_or(Source::Absent, Source::Constant),
            )
        };
        let parameters = Parameters {
            w: needed("weight")?,
            r: needed("recurrentWeight")?,
            b: self.biases()?,
            p: self.tensor("peepholeWeight")?,
        };
        let tensors = NodeTensors {
            parameters,
            lengths: Source::Absent,
            h0: state("initialHiddenState", "hiddenState")?,
            c0: state("initialCellState", "cellState")?,
        };
        let x = needed("input")?;
        let [time, batch, _] = x.sizes("input", "[T, B, I]")?;
        let steps = self.field("steps").filter(|_| !self.step);
        if let Some(steps) = steps.filter(|steps| steps.as_u64() != u64::try_from(time).ok()) {
            return Err(Error::mismatch("steps", time, steps));
        }
        let node = OnnxNode::new(OnnxLabel { name: name.into(), op: self.op }, &operator, order, tensors)?;
        let (d, h) = (node.config.directions(), node.config.hidden_size);
        let outputs = self.outputs([time, d, batch, h])?;
        Ok(Recording { name: name.into(), node, x, outputs })
    }

    fn operator(&self) -> Result<(Operator, Order)> {
        let mut operator = Operator::new(self.op);
        operator.direction = match self.text("direction")? {
            None | Some("forward") => Direction::Forward,
            Some("backward") => Direction::Reverse,
            Some("both") => Direction::Bidirectional,
            Some(other) => {
                return Err(Error::mismatch("direction", "forward, backward or both", format!("{other:.80}")));
            }
        };
        let size = self.field("hiddenSize").and_then(Value::as_i64);
        operator.set("hidden_size", AttributeValue::Int(size.unwrap_or(-1)))?;
        operator.linear_before_reset = match self.field("resetAfter") {
            None => self.op == OnnxOp::Gru,
            Some(Value::Bool(flag)) => *flag,
            Some(_) => return Err(Error::mismatch("resetAfter", "true or false", "another")),
        };
        if let Some(names) = self.field("activations") {
            let names = names.as_array().and_then(|names| names.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
            let names = names.ok_or_else(|| Error::mismatch("activations", "names", "another"))?;
            // `MLRecurrentNetworkActivation`; the operators of ONNX have more.
            if let Some(other) = names.iter().find(|name| !["relu", "sigmoid", "tanh"].contains(name)) {
                return Err(Error::mismatch("activations", "relu, sigmoid or tanh", format!("{other:.80}")));
            }
            let both = (0..operator.direction.count()).flat_map(|_| &names);
            operator.activations = both.map(ToString::to_string).collect();
        }
        let onnx = Order::onnx(self.op);
        let order = match (self.op, self.text("layout")?) {
            (OnnxOp::Lstm, None | Some("iofg")) | (OnnxOp::Gru, None | Some("zrn")) => onnx,
            (OnnxOp::Lstm, Some("ifgo")) => Order { gates: &[0, 1, 2, 3], ..onnx },
            (OnnxOp::Gru, Some("rzn")) => Order { gates: &[0, 1, 2], ..onnx },
            (_, other) => {
                let got = format!("{:.80}", other.unwrap_or("none"));
                return Err(Error::mismatch("layout", "iofg or ifgo (lstm), zrn or rzn (gru)", got));
            }
        };
        Ok((operator, order))
    }

    /// `[D, 2·G·H]` of both; one that is not given is zeros.
    fn biases(&self) -> Result<Option<Constant>> {
        let (b_w, b_r) = (self.tensor("bias")?, self.tensor("recurrentBias")?);
        let Some(shape) = b_w.as_ref().or(b_r.as_ref()).map(|b| b.shape.clone()) else { return Ok(None) };
        let &[d, rows] = &shape[..] else { return Err(Error::mismatch("bias", "[D, G·H]", format!("{shape:?}"))) };
        let values = |b: Option<Constant>, what: &str| match b {
            None => Ok(vec![0.0; d * rows]),
            Some(b) => b.expect(what, "[D, G·H]", &shape).and_then(|()| Ok(b.reals(what)?.to_vec())),
        };
        let (b_w, b_r) = (values(b_w, "bias")?, values(b_r, "recurrentBias")?);
        let mut both = Vec::new();
        // A chunk must not be empty; and no axis of a hollow tensor may count as a loop's length.
        for (b_w, b_r) in b_w.chunks(rows.max(1)).zip(b_r.chunks(rows.max(1))) {
            both.extend_from_slice(b_w);
            both.extend_from_slice(b_r);
        }
        Constant::from_reals("bias", vec![d, rows.saturating_mul(2)], self.element, both).map(Some)
    }

    /// Y, Y_h, Y_c, where `[T, D, B, H]` is the shape of Y.
    fn outputs(&self, y: [usize; 4]) -> Result<[Option<Constant>; 3]> {
        let state = &y[1..];
        if let Some(expected) = self.field("expected") {
            let read = |name: &str, shape: &[usize]| {
                let value = expected.get(name);
                value.map(|v| Constant::from_reals(name, shape.to_vec(), self.element, numbers(name, v)?)).transpose()
            };
            return Ok([read("y", &y)?, read("h", state)?, read("c", state)?]);
        }
        let outputs = self.field("outputs").and_then(Value::as_array);
        let outputs = outputs.ok_or_else(|| Error::mismatch("outputs", "a list", "none"))?;
        let read =
            |n: usize| outputs.get(n).map(|v| self.constant(&format!("outputs[{n}]"), v, "expected")).transpose();
        let (h, second, third) = (read(0)?, read(1)?, read(2)?);
        if outputs.len() > 3 || (self.op == OnnxOp::Gru && third.is_some()) {
            return Err(Error::mismatch("outputs", "hn, cn of an lstm, y", outputs.len()));
        }
        Ok(if self.op == OnnxOp::Lstm { [third, h, second] } else { [second, h, None] })
    }

    fn field(&self, name: &str) -> Option<&'a Value> {
        self.fields.into_iter().flatten().find_map(|fields| fields.get(name))
    }

    fn text(&self, name: &str) -> Result<Option<&'a str>> {
        let text = |v: &'a Value| v.as_str().ok_or_else(|| Error::mismatch(name, "a string", "another"));
        self.field(name).map(text).transpose()
    }

    fn tensor(&self, name: &str) -> Result<Option<Constant>> {
        self.field(name).map(|value| self.constant(name, value, "data")).transpose()
    }

    /// A tensor whose numbers are under `data`; of a single step, with an axis of 1 for the direction or time in front.
    fn constant(&self, what: &str, value: &Value, data: &str) -> Result<Constant> {
        let sizes = value.get("shape").and_then(Value::as_array);
        let size = |v: &Value| v.as_u64().and_then(|n| usize::try_from(n).ok());
        let sizes = sizes.and_then(|sizes| sizes.iter().map(size).collect::<Option<Vec<_>>>());
        let sizes = sizes.ok_or_else(|| Error::mismatch(what, "a shape", "none"))?;
        let values = numbers(what, value.get(data).unwrap_or(&Value::Null))?;
        let shape = self.step.then_some(1).into_iter().chain(sizes).collect();
        Constant::from_reals(what, shape, self.element, values)
    }
}

fn numbers(what: &str, value: &Value) -> Result<Vec<f64>> {
    let values = value.as_array().and_then(|list| list.iter().map(Value::as_f64).collect::<Option<_>>());
    values.ok_or_else(|| Error::mismatch(what, "a list of numbers", "another"))
}
