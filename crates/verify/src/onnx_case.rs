//! ONNX's own test cases of RNN, LSTM and GRU, and of LinearAttention and CausalConvWithState, as goldens: folders of `model.onnx` and `test_data_set_N/{input,output}_M.pb`
//! (protobuf tensors, in the order of the model's inputs and outputs), and the same as safetensors: `in.<name>`, `out.<name>`,
//! and metadata `op`, `opset`, and, as JSON, `attributes`, `inputs` and `outputs` (names in the operator's order, "" for one left
//! out).

use super::golden::{Case, Golden, Truth};
use super::layers::Layers;
use super::recurrence::RecordedNode;
use super::tolerance::{Measure, Recorded};
use safetensors::Dtype;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use wgpu_rnn::io::safetensors::TensorFile;
use wgpu_rnn::{Error, Layout, Result, Shape, Tensor};
use wgpu_rnn_formats::onnx::parts::{
    AttributeValue, Constant, Element, NodeTensors, Operator, Order, Parameters, outputs, states, within,
};
use wgpu_rnn_formats::onnx::{OnnxFile, OnnxLabel, OnnxNode, OnnxOp, Recurrence, RecurrenceOp, Source};

/// Metadata of a safetensors file that make it a case.
const OP: &str = "op";

/// A node, its X, and what another implementation made of it.
pub(super) struct Recording {
    pub name: String,
    pub node: OnnxNode,
    /// `[T, B, I]`, with `layout` = 1 `[B, T, I]`.
    pub x: Constant,
    /// Y, Y_h, Y_c, with the node's axes.
    pub outputs: [Option<Constant>; 3],
}

impl Recording {
    /// The same with this crate's axes, checked.
    pub fn golden(self) -> Result<Golden> {
        let Self { name, node, x, outputs: recorded } = self;
        let OnnxNode { config, weights, h0, c0, lengths, .. } = node;
        let (layout, i) = (config.layout, config.input_size);
        let [outer, inner, _] = x.sizes("X", "[T, B, I]")?;
        x.expect("X", "[T, B, I]", &[outer, inner, i])?;
        let shape = match layout {
            Layout::TimeMajor => Shape { time: outer, batch: inner },
            Layout::BatchFirst => Shape { time: inner, batch: outer },
        };
        shape.validate()?;
        let lengths = lengths.constant("sequence_lens")?.cloned();
        lengths.as_ref().map_or(Ok(()), |lengths| shape.validate_lengths(lengths))?;
        let state_shape = [config.directions(), shape.batch, config.hidden_size];
        let (h0, c0) = (h0.constant("initial_h")?.cloned(), c0.constant("initial_c")?.cloned());
        for (what, state) in [("initial_h", &h0), ("initial_c", &c0)] {
            state.as_ref().map_or(Ok(()), |s| s.view().check(what, &["D", "B", "H"], &state_shape))?;
        }
        let sequence = [outer, inner, config.output_size()];
        let mut truths = Vec::new();
        for (n, ((what, as_named), recorded)) in
            [("Y", "out.y"), ("Y_h", "out.hn"), ("Y_c", "out.cn")].into_iter().zip(&recorded).enumerate()
        {
            let Some(recorded) = recorded else { continue };
            let tensor = if n == 0 { outputs(what, &config, recorded)? } else { states(what, &config, recorded)? };
            let expected = if n == 0 { sequence } else { state_shape };
            tensor.view().check(what, &["·", "·", "·"], &expected)?;
            truths.push(truth(what, as_named, tensor, recorded.element)?);
        }
        if truths.is_empty() {
            return Err(Error::mismatch("outputs", "Y, Y_h or Y_c", "none recorded"));
        }
        let x = Tensor { data: x.reals("X")?.to_vec(), shape: x.shape };
        let layers = Layers { config, shape, weights, x, lengths, h0, c0, upstream: None };
        Ok(Golden { name, case: Case::Layers(layers), truths })
    }
}

pub(super) fn truth(what: &str, name: &str, tensor: Tensor<f64>, element: Element) -> Result<Truth> {
    // As for goldens: an infinite truth would make every bound infinite, a NaN would compare with nothing.
    if let Some(at) = tensor.data.iter().position(|v| !v.is_finite()) {
        return Err(Error::mismatch(what, "finite numbers", format!("{} at index {at}", tensor.data[at])));
    }
    let recorded = match element {
        Element::F64 => Recorded::F64,
        Element::F32 => Recorded::F32,
        Element::F16 => Recorded::F16,
        other => return Err(Error::mismatch(what, "a truth in F64, F32 or F16", format!("{other:?}"))),
    };
    let measure = Measure::Largest;
    Ok(Truth { name: name.into(), scale: measure.scale(&tensor.data), tensor, measure, recorded })
}

/// Whether a folder is a case.
pub(super) fn is_folder(path: &Path) -> bool {
    path.join("model.onnx").is_file()
}

/// The data sets of a folder, each as a golden named after both.
pub(super) fn read_folder(folder: &Path) -> Result<Vec<(String, Result<Golden>)>> {
    let model = OnnxFile::open(folder.join("model.onnx"))?;
    let mut sets: Vec<PathBuf> = entries(folder)?;
    sets.retain(|set| set.is_dir() && stem(set).starts_with("test_data_set_"));
    if sets.is_empty() {
        return Err(Error::file(folder, "no test_data_set_*"));
    }
    let name = |set: &Path| match sets.len() {
        1 => stem(folder),
        _ => format!("{}/{}", stem(folder), stem(set)),
    };
    Ok(sets.iter().map(|set| (name(set), data_set(&model, set, &name(set)))).collect())
}

fn data_set(model: &OnnxFile, set: &Path, name: &str) -> Result<Golden> {
    let given = protobufs(set, "input")?;
    if model.nodes().next().is_none() && model.recurrences().next().is_some() {
        return network_set(model, set, name, &given);
    }
    let (node, x, names) = model.single(&given)?;
    let outputs = recorded(set, names, &node.outputs)?;
    let recording = Recording { name: name.into(), node, x, outputs };
    recording.golden().map_err(|e| within(&set.display().to_string(), e))
}

fn network_set(model: &OnnxFile, set: &Path, name: &str, given: &[Constant]) -> Result<Golden> {
    let (node, names) = model.single_recurrence(given)?;
    let outputs = recorded(set, names, &node.outputs)?;
    let constants = |(source, (what, _)): (&Source<Constant>, &(&str, &str))| Ok(source.constant(what)?.cloned());
    let inputs = node.inputs.iter().zip(node.recurrence.op().inputs()).map(constants).collect::<Result<_>>();
    let node = inputs.map(|inputs| RecordedNode { name: name.into(), recurrence: node.recurrence, inputs, outputs });
    node.and_then(RecordedNode::golden).map_err(|e| within(&set.display().to_string(), e))
}

/// The recorded outputs of a node, whose own names for them are `wanted` and the graph's `names`.
fn recorded<const N: usize>(
    set: &Path,
    names: &[String],
    wanted: &[Option<String>; N],
) -> Result<[Option<Constant>; N]> {
    let recorded = protobufs(set, "output")?;
    if recorded.len() != names.len() {
        let what = format!("{}: recorded outputs", set.display());
        return Err(Error::mismatch(what, names.len(), recorded.len()));
    }
    let mut by_name: HashMap<&str, Constant> = names.iter().map(String::as_str).zip(recorded).collect();
    Ok(wanted.each_ref().map(|name| name.as_ref().and_then(|n| by_name.remove(n.as_str()))))
}

/// `<kind>_0.pb`, `<kind>_1.pb`, ... as long as there are any.
fn protobufs(set: &Path, kind: &str) -> Result<Vec<Constant>> {
    let files = (0..).map(|n| set.join(format!("{kind}_{n}.pb"))).take_while(|file| file.is_file());
    let read = |file: PathBuf| {
        let bytes = std::fs::read(&file).map_err(|e| Error::file(&file, e))?;
        Constant::decode(&file.display().to_string(), bytes.into())
    };
    files.map(read).collect()
}

/// What is in a folder, sorted.
pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = std::fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let mut paths: Vec<PathBuf> = read.map_err(|e| Error::file(folder, e))?.into_iter().map(|e| e.path()).collect();
    paths.sort();
    Ok(paths)
}

/// A path's last part without its extension.
pub(super) fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Whether a safetensors file is a case.
pub(super) fn is_case(file: &TensorFile) -> bool {
    let metadata = file.metadata();
    metadata.contains_key(OP) && !metadata.contains_key("config")
}

/// The case of a safetensors file.
pub(super) fn read_file(file: &TensorFile) -> Result<Golden> {
    let case = TensorCase { file, metadata: file.metadata() };
    case.golden().map_err(|e| within(&file.path().display().to_string(), e))
}

/// A safetensors file, not yet believed.
struct TensorCase<'a> {
    file: &'a TensorFile,
    metadata: HashMap<String, String>,
}

impl TensorCase<'_> {
    fn golden(&self) -> Result<Golden> {
        let op = self.metadata.get(OP).map_or("none", String::as_str);
        if let Some(op) = RecurrenceOp::by_name(op) {
            return self.network(op)?.golden();
        }
        let reason = "this build has RNN, LSTM, GRU, LinearAttention and CausalConvWithState".into();
        let unknown = || Error::Unsupported { what: format!("op {op:.40}"), reason };
        self.recording(OnnxOp::by_name(op).ok_or_else(unknown)?)?.golden()
    }

    fn network(&self, op: RecurrenceOp) -> Result<RecordedNode> {
        let recurrence = Recurrence::new(op, &self.attributes()?)?;
        let (inputs, outputs) = (self.names("inputs")?, self.names("outputs")?);
        self.refuse_unused(&inputs, &outputs)?;
        for (what, names, known) in [("inputs", &inputs, op.inputs().len()), ("outputs", &outputs, op.outputs().len())]
        {
            if names.len() > known {
                return Err(Error::mismatch(what, format!("at most {known}"), names.len()));
            }
        }
        let read = |prefix: &'static str, names: &[String], n: usize| {
            names.get(n).filter(|name| !name.is_empty()).map(|name| self.tensor(prefix, name)).transpose()
        };
        let given = (0..op.inputs().len()).map(|n| read("in", &inputs, n)).collect::<Result<_>>()?;
        let outputs = [read("out", &outputs, 0)?, read("out", &outputs, 1)?];
        Ok(RecordedNode { name: stem(self.file.path()), recurrence, inputs: given, outputs })
    }

    fn attributes(&self) -> Result<Vec<(String, AttributeValue)>> {
        let attributes = self.json("attributes")?;
        let attributes = attributes.as_object().ok_or_else(|| Error::mismatch("attributes", "an object", "another"))?;
        let value = |(name, value): (&String, &Value)| {
            let value = attribute_value(value);
            Ok((name.clone(), value.ok_or_else(|| Error::mismatch(name, "an attribute's value", "another"))?))
        };
        attributes.iter().map(value).collect()
    }

    fn recording(&self, op: OnnxOp) -> Result<Recording> {
        let mut operator = Operator::new(op);
        for (name, value) in self.attributes()? {
            operator.set(&name, value)?;
        }
        let (inputs, outputs) = (self.names("inputs")?, self.names("outputs")?);
        self.refuse_unused(&inputs, &outputs)?;
        let input = |n: usize| inputs.get(n).filter(|n| !n.is_empty()).map(|n| self.tensor("in", n)).transpose();
        let needed = |n: usize, what: &str| input(n)?.ok_or_else(|| Error::mismatch(what, "an input", "none"));
        let optional = |n: usize| Ok::<_, Error>(input(n)?.map_or(Source::Absent, Source::Constant));
        let tensors = NodeTensors {
            parameters: Parameters { w: needed(1, "W")?, r: needed(2, "R")?, b: input(3)?, p: input(7)? },
            lengths: optional(4)?,
            h0: optional(5)?,
            c0: optional(6)?,
        };
        let output = |n: usize| outputs.get(n).filter(|n| !n.is_empty()).map(|n| self.tensor("out", n)).transpose();
        let name = stem(self.file.path());
        let node = OnnxNode::new(OnnxLabel { name: name.clone(), op }, &operator, Order::onnx(op), tensors)?;
        Ok(Recording { name, node, x: needed(0, "X")?, outputs: [output(0)?, output(1)?, output(2)?] })
    }

    fn json(&self, field: &str) -> Result<Value> {
        let text = self.metadata.get(field).ok_or_else(|| Error::mismatch(field, "metadata of that name", "none"))?;
        serde_json::from_str(text).map_err(|e| Error::mismatch(field, "JSON", e))
    }

    fn names(&self, field: &str) -> Result<Vec<String>> {
        let names = match self.json(field)? {
            Value::Array(names) => names.into_iter().map(|n| n.as_str().map(String::from)).collect::<Option<_>>(),
            _ => None,
        };
        names.ok_or_else(|| Error::mismatch(field, "a list of names", "another"))
    }

    fn tensor(&self, prefix: &str, name: &str) -> Result<Constant> {
        let name = format!("{prefix}.{name}");
        let missing = || Error::mismatch(&name, "a tensor", "none");
        let element = match self.file.dtype(&name).ok_or_else(missing)? {
            Dtype::I64 | Dtype::I32 => {
                let (shape, values) = self.file.integers(&name)?.ok_or_else(missing)?;
                return Constant::from_integers(&name, shape, values);
            }
            Dtype::F64 => Element::F64,
            Dtype::F32 => Element::F32,
            Dtype::F16 => Element::F16,
            _ => Element::Bf16,
        };
        let (shape, values) = self.file.real(&name)?.ok_or_else(missing)?;
        Constant::from_reals(&name, shape, element, values)
    }

    /// A tensor that would go unused means the file describes something else.
    fn refuse_unused(&self, inputs: &[String], outputs: &[String]) -> Result<()> {
        let used: HashSet<String> = [("in", inputs), ("out", outputs)]
            .into_iter()
            .flat_map(|(prefix, names)| names.iter().map(move |name| format!("{prefix}.{name}")))
            .collect();
        match self.file.names().into_iter().filter(|name| !used.contains(name)).min() {
            Some(name) => {
                Err(Error::mismatch(format!("{name:.80}"), "no such tensor with these inputs and outputs", "one"))
            }
            None => Ok(()),
        }
    }
}

fn attribute_value(value: &Value) -> Option<AttributeValue> {
    match value {
        Value::Number(n) => n.as_i64().map(AttributeValue::Int).or_else(|| n.as_f64().map(AttributeValue::Float)),
        Value::String(text) => Some(AttributeValue::Text(text.clone())),
        Value::Array(list) if list.iter().all(Value::is_string) => {
            Some(AttributeValue::Texts(list.iter().filter_map(|v| v.as_str().map(String::from)).collect()))
        }
        Value::Array(list) => list.iter().map(Value::as_f64).collect::<Option<_>>().map(AttributeValue::Floats),
        _ => None,
    }
}
