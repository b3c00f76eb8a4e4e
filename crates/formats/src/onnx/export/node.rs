//! A layer as one recurrent node.

use super::wire::{Size, Writer, float, int, size_of_axis, text};
use crate::onnx::operator::OnnxOp;
use crate::onnx::order::{OnnxTensors, Order};
use crate::onnx::proto::{self, data_type, kind};
use prost::bytes::Bytes;
use wgpu_rnn::num::Real;
use wgpu_rnn::weights::Weights;
use wgpu_rnn::{Activation, Direction, Error, Layout, Result, RnnConfig, Zoneout, cells};

/// A layer with its tensors in ONNX's order.
pub struct Layer {
    config: RnnConfig,
    op: OnnxOp,
    tensors: OnnxTensors,
}

/// What a node reads, by name; empty for what it does not.
#[derive(Clone, Copy, Default)]
pub struct Reads<'a> {
    pub x: &'a str,
    pub lengths: &'a str,
    pub h0: &'a str,
    pub c0: &'a str,
}

impl Layer {
    /// Of one layer, without embedding and head, whose weights are dense.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for what no node can be.
    pub fn new<T: Real>(config: RnnConfig, weights: &Weights<T>) -> Result<Self> {
        let op = operator(&config)?;
        let tensors = OnnxTensors::new(&config, &weights.cast(), Order::onnx(op));
        Ok(Self { config, op, tensors })
    }

    /// Whether it has a cell state.
    pub fn has_cell_state(&self) -> bool {
        self.op == OnnxOp::Lstm
    }

    /// Adds the node and its constants, whose names begin with `prefix`. `gives`: the names of Y, Y_h and, of an LSTM, Y_c.
    ///
    /// # Errors
    /// [`Error::Limit`] for more than a protobuf message holds.
    pub fn add(&self, to: &mut Writer, prefix: &str, name: &str, reads: Reads<'_>, gives: &[&str]) -> Result<()> {
        let (config, tensors) = (&self.config, &self.tensors);
        let (d, h, i) = (config.directions(), config.hidden_size, config.input_size);
        let rows = self.op.gates() * h;
        let mut constant = |name: &str, shape: &[usize], values: &[f64]| match values.is_empty() {
            true => Ok(String::new()),
            false => to.tensor(&format!("{prefix}{name}"), shape, values),
        };
        let (w, r) = (constant("W", &[d, rows, i], &tensors.w)?, constant("R", &[d, rows, h], &tensors.r)?);
        let (b, p) = (constant("B", &[d, 2 * rows], &tensors.b)?, constant("P", &[d, 3 * h], &tensors.p)?);
        let mut inputs = vec![reads.x, &w, &r, &b, reads.lengths, reads.h0];
        if self.has_cell_state() {
            inputs.extend([reads.c0, &p]);
        }
        to.node(self.op.name(), name, &inputs, gives, &attributes(config, self.op));
        Ok(())
    }

    /// A model of this node alone: inputs X and, as asked for, `sequence_lens`, `initial_h` and `initial_c`; outputs Y, Y_h and Y_c.
    ///
    /// # Errors
    /// [`Error::Limit`] for more than a protobuf message holds.
    pub fn model<T: Real>(&self, states: bool, lengths: bool) -> Result<Vec<u8>> {
        let config = &self.config;
        let (d, h, i) = (config.directions(), config.hidden_size, config.input_size);
        let (x, y, state) = match config.layout {
            Layout::TimeMajor => (
                [Size::T, Size::B, Size::Of(i)],
                [Size::T, Size::Of(d), Size::B, Size::Of(h)],
                [Size::Of(d), Size::B, Size::Of(h)],
            ),
            Layout::BatchFirst => (
                [Size::B, Size::T, Size::Of(i)],
                [Size::B, Size::T, Size::Of(d), Size::Of(h)],
                [Size::B, Size::Of(d), Size::Of(h)],
            ),
        };
        let mut to = Writer::new::<T>("layer");
        let numbers = to.element();
        let mut reads = Reads { x: "X", ..Reads::default() };
        to.input("X", numbers, &x)?;
        if lengths {
            reads.lengths = "sequence_lens";
            to.input(reads.lengths, data_type::INT32, &[Size::B])?;
        }
        if states {
            reads.h0 = "initial_h";
            to.input(reads.h0, numbers, &state)?;
        }
        if states && self.has_cell_state() {
            reads.c0 = "initial_c";
            to.input(reads.c0, numbers, &state)?;
        }
        let gives = if self.has_cell_state() { &["Y", "Y_h", "Y_c"][..] } else { &["Y", "Y_h"] };
        for (n, name) in gives.iter().enumerate() {
            to.output(name, numbers, if n == 0 { &y } else { &state });
        }
        self.add(&mut to, "", config.cell.name, reads, gives)?;
        to.finish()
    }
}

/// The operator of a layer, refusing what one node cannot be. **Which of this crate's variants ONNX has** is said here and in
/// [`attributes`].
pub fn operator(config: &RnnConfig) -> Result<OnnxOp> {
    let around = config.vocabulary.is_some() || config.head.is_some();
    let refusal = if config.num_layers > 1 {
        Some((
            format!("{} layers as one ONNX node", config.num_layers),
            "a node is one layer; Export::stack writes a model of several",
        ))
    } else if config.proj_size > 0 {
        Some((format!("proj_size {} in ONNX", config.proj_size), "its LSTM has no projection"))
    } else if config.cell_clip.is_some() {
        Some(("cell_clip in ONNX".into(), "its clip is on the activations' arguments"))
    } else if config.zoneout != Zoneout::default() {
        Some(("zoneout in ONNX".into(), "its operators do not keep units from the step before"))
    } else if around {
        Some(("an embedding or a head in a recurrent ONNX node".into(), "Export::stack writes a model with them"))
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
    let mut list = vec![int("hidden_size", size_of_axis(config.hidden_size))];
    let direction = match config.direction {
        Direction::Forward => None,
        Direction::Reverse => Some("reverse"),
        Direction::Bidirectional => Some("bidirectional"),
    };
    list.extend(direction.map(|name| text("direction", name)));
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
    list.extend(config.clip.filter(|clip| clip.is_finite()).map(|clip| float("clip", clip)));
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
