//! A layer as an ONNX model of one node.

use super::operator::OnnxOp;
use super::order::{OnnxTensors, Order};
use super::proto::{self, data_type, kind};
use prost::Message;
use prost::bytes::Bytes;
use std::path::Path;
use wgpu_rnn::num::Real;
use wgpu_rnn::weights::Weights;
use wgpu_rnn::{Activation, Direction, Error, Layout, Result, RnnConfig, Zoneout, cells};

/// The opset that is written.
const OPSET: i64 = 22;
/// The IR version that came with it (ONNX 1.17).
const IR_VERSION: i64 = 10;
/// What protobuf takes at most.
const MAX_BYTES: u64 = (1 << 31) - 1;

/// Which optional inputs an exported model has beside X, to be fed on every run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Export {
    /// `initial_h` `[D, B, H]` and, of an LSTM, `initial_c`; without: zeros.
    pub states: bool,
    /// `sequence_lens` `[B]`, int32; without: all of T.
    pub lengths: bool,
}

/// Writes the layer as an ONNX model whose only input is X; see [`Export::write`].
///
/// # Errors
/// As [`Export::write`].
pub fn export<T: Real>(config: &RnnConfig, weights: &Weights<T>, path: impl AsRef<Path>) -> Result<()> {
    Export::default().write(config, weights, path)
}

impl Export {
    /// Writes the layer as an ONNX model (opset 22) of one node, with weights of type `T`. Inputs X `[T, B, I]` and those
    /// asked for, outputs Y `[T, D, B, H]`, Y_h `[D, B, H]` and, of an LSTM, Y_c; T and B are left open. A batch-first layer has
    /// `layout` = 1 and ONNX's axes for it, which ONNX Runtime 1.31's CPU provider does not run. A single bias becomes two, one
    /// of zeros; R of a layer with heads ([`wgpu_rnn::Recurrence`]) becomes a full matrix with zeros between its blocks; a layer
    /// without W ([`wgpu_rnn::InputMode::Skip`]) has one of identities.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for what one node cannot be: several layers, a projection, an embedding, a head, zoneout, a cell that
    /// ONNX does not have; [`Error::Mismatch`] for weights that do not fit; [`Error::Limit`] for more than a protobuf message
    /// holds; [`Error::File`] if the file cannot be written.
    pub fn write<T: Real>(&self, config: &RnnConfig, weights: &Weights<T>, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        std::fs::write(path, self.bytes(config, weights)?).map_err(|e| Error::file(path, e))
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// As [`Export::write`].
    pub fn bytes<T: Real>(&self, config: &RnnConfig, weights: &Weights<T>) -> Result<Vec<u8>> {
        let op = operator(config)?;
        // ONNX knows no heads.
        let (config, weights) = &weights.to_dense(config)?;
        let needs = config.parameter_count().saturating_mul(size_of::<T>() as u64).saturating_add(1 << 16);
        if needs > MAX_BYTES {
            return Err(Error::Limit {
                what: "an ONNX model in one file".into(),
                needs,
                limit: MAX_BYTES,
                unit: "bytes",
                limit_name: "protobuf's limit",
                hint: String::new(),
            });
        }
        let graph = self.graph::<T>(config, op, &OnnxTensors::new(config, &weights.cast(), Order::onnx(op)));
        let model = proto::Model {
            ir_version: IR_VERSION,
            producer_name: "wgpu-rnn".into(),
            graph: Some(encoded(&graph)),
            opset_import: vec![proto::OperatorSet { domain: String::new(), version: OPSET }],
            functions: Vec::new(),
        };
        Ok(model.encode_to_vec())
    }

    fn graph<T: Real>(self, config: &RnnConfig, op: OnnxOp, tensors: &OnnxTensors) -> proto::Graph {
        let (d, h, i) = (config.directions(), config.hidden_size, config.input_size);
        let rows = op.gates() * h;
        let batch_first = config.layout == Layout::BatchFirst;
        let parameters = [
            ("W", vec![d, rows, i], &tensors.w),
            ("R", vec![d, rows, h], &tensors.r),
            ("B", vec![d, 2 * rows], &tensors.b),
            ("P", vec![d, 3 * h], &tensors.p),
        ];
        let there = parameters.iter().filter(|(_, _, values)| !values.is_empty());
        let initializer = there.map(|(name, shape, values)| encoded(&tensor::<T>(name, shape, values))).collect();

        let lstm = op == OnnxOp::Lstm;
        let state = if batch_first { [Size::B, Size::Of(d), Size::Of(h)] } else { [Size::Of(d), Size::B, Size::Of(h)] };
        let x = if batch_first { [Size::B, Size::T, Size::Of(i)] } else { [Size::T, Size::B, Size::Of(i)] };
        let y = if batch_first {
            [Size::B, Size::T, Size::Of(d), Size::Of(h)]
        } else {
            [Size::T, Size::Of(d), Size::B, Size::Of(h)]
        };
        let mut input = vec![encoded(&value("X", element::<T>(), &x))];
        let mut names = vec!["X", "W", "R", if tensors.b.is_empty() { "" } else { "B" }];
        names.push(if self.lengths { "sequence_lens" } else { "" });
        names.push(if self.states { "initial_h" } else { "" });
        if lstm {
            names.push(if self.states { "initial_c" } else { "" });
            names.push(if tensors.p.is_empty() { "" } else { "P" });
        }
        if self.lengths {
            input.push(encoded(&value("sequence_lens", data_type::INT32, &[Size::B])));
        }
        for name in ["initial_h", "initial_c"].into_iter().filter(|name| names.contains(name)) {
            input.push(encoded(&value(name, element::<T>(), &state)));
        }
        while names.last() == Some(&"") {
            names.pop();
        }
        let mut output = vec![encoded(&value("Y", element::<T>(), &y)), encoded(&value("Y_h", element::<T>(), &state))];
        if lstm {
            output.push(encoded(&value("Y_c", element::<T>(), &state)));
        }
        let outputs = ["Y", "Y_h", "Y_c"];
        let node = proto::Node {
            input: names.into_iter().map(String::from).collect(),
            output: outputs[..output.len()].iter().map(ToString::to_string).collect(),
            name: config.cell.name.into(),
            op_type: op.name().into(),
            attribute: attributes(config, op).iter().map(encoded).collect(),
            domain: String::new(),
        };
        proto::Graph { node: vec![encoded(&node)], name: "layer".into(), initializer, input, output }
    }
}

/// The operator of a layer, refusing what one node cannot be. **Which of this crate's variants ONNX has** is said here and in
/// [`attributes`].
fn operator(config: &RnnConfig) -> Result<OnnxOp> {
    let around = config.vocabulary.is_some() || config.head.is_some();
    let refusal = if config.num_layers > 1 {
        Some((format!("{} layers as one ONNX node", config.num_layers), "a node is one layer; export them one by one"))
    } else if config.proj_size > 0 {
        Some((format!("proj_size {} in ONNX", config.proj_size), "its LSTM has no projection"))
    } else if config.cell_clip.is_some() {
        Some(("cell_clip in ONNX".into(), "its clip is on the activations' arguments"))
    } else if config.zoneout != Zoneout::default() {
        Some(("zoneout in ONNX".into(), "its operators do not keep units from the step before"))
    } else if around {
        Some(("an embedding or a head in a recurrent ONNX node".into(), "export the layer without them"))
    } else {
        None
    };
    if let Some((what, reason)) = refusal {
        return Err(Error::Unsupported { what, reason: reason.into() });
    }
    let cell = config.cell;
    if *cell == cells::LSTM || *cell == cells::LSTM_PEEPHOLE {
        Ok(OnnxOp::Lstm)
    } else if *cell == cells::GRU || *cell == cells::GRU_RESET_BEFORE {
        Ok(OnnxOp::Gru)
    } else if *cell == cells::RNN_TANH || *cell == cells::RNN_RELU {
        Ok(OnnxOp::Rnn)
    } else {
        let what = format!("{} in ONNX", cell.name);
        Err(Error::Unsupported { what, reason: "it has RNN, LSTM and GRU".into() })
    }
}

fn attributes(config: &RnnConfig, op: OnnxOp) -> Vec<proto::Attribute> {
    let int =
        |name: &str, i: i64| proto::Attribute { name: name.into(), kind: kind::INT, i: Some(i), ..Default::default() };
    // Sizes are at most 2^30, see RnnConfig::validate.
    let mut list = vec![int("hidden_size", i64::try_from(config.hidden_size).unwrap_or(i64::MAX))];
    let direction = match config.direction {
        Direction::Forward => None,
        Direction::Reverse => Some("reverse"),
        Direction::Bidirectional => Some("bidirectional"),
    };
    list.extend(direction.map(|text| proto::Attribute {
        name: "direction".into(),
        kind: kind::STRING,
        s: Some(Bytes::from_static(text.as_bytes())),
        ..Default::default()
    }));
    if *config.cell == cells::GRU {
        list.push(int("linear_before_reset", 1));
    }
    if config.layout == Layout::BatchFirst {
        list.push(int("layout", 1));
    }
    if config.input_forget {
        list.push(int("input_forget", 1));
    }
    // Infinity clips nothing, and need not be a number that a reader takes.
    list.extend(config.clip.filter(|clip| clip.is_finite()).map(|clip| proto::Attribute {
        name: "clip".into(),
        kind: kind::FLOAT,
        f: Some(clip),
        ..Default::default()
    }));
    list.extend(activations(config, op));
    list
}

/// The activations of all directions where they are not the operator's own, and their parameters: each list holds those of the
/// functions that have one, in order.
fn activations(config: &RnnConfig, op: OnnxOp) -> Vec<proto::Attribute> {
    let sets: Vec<Vec<Activation>> = (0..config.directions()).map(|d| config.activations_of(d)).collect();
    if sets.iter().all(|set| set.iter().map(|a| a.name()).eq(op.activations().iter().copied())) {
        return Vec::new();
    }
    let all = sets.concat();
    let strings = all.iter().map(|a| Bytes::copy_from_slice(a.name().as_bytes())).collect();
    let names = proto::Attribute { name: "activations".into(), kind: kind::STRINGS, strings, ..Default::default() };
    let parameters = ["activation_alpha", "activation_beta"].into_iter().enumerate().map(|(n, name)| {
        let floats = all.iter().filter_map(|a| a.parameters().get(n).copied()).collect();
        proto::Attribute { name: name.into(), kind: kind::FLOATS, floats, ..Default::default() }
    });
    [names].into_iter().chain(parameters.filter(|p| !p.floats.is_empty())).collect()
}

/// One dimension of an input or output.
#[derive(Clone, Copy)]
enum Size {
    T,
    B,
    Of(usize),
}

fn value(name: &str, elem_type: i32, shape: &[Size]) -> proto::ValueInfo {
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

fn element<T: Real>() -> i32 {
    if size_of::<T>() == 8 { data_type::DOUBLE } else { data_type::FLOAT }
}

fn tensor<T: Real>(name: &str, shape: &[usize], values: &[f64]) -> proto::Tensor {
    let raw: Vec<u8> = if size_of::<T>() == 8 {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    } else {
        values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect()
    };
    proto::Tensor {
        dims: shape.iter().map(|&n| i64::try_from(n).unwrap_or(i64::MAX)).collect(),
        data_type: element::<T>(),
        name: name.into(),
        raw_data: Some(raw.into()),
        ..Default::default()
    }
}

fn encoded(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}
