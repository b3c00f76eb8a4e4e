//! What a recurrent operator says beside its tensors, as an [`RnnConfig`].
//!
//! Source: the operators' pages of ONNX (RNN, GRU, LSTM: versions 7, 14, 22); what these leave open (case of names, how alphas
//! and betas are consumed, their defaults) as ONNX Runtime has it.

use super::node::attributes;
use super::proto;
use wgpu_rnn::{Activation, Bias, Cell, Direction, Error, Layout, Result, RnnConfig, cells};

/// A recurrent operator of ONNX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnnxOp {
    /// `RNN`
    Rnn,
    /// `LSTM`
    Lstm,
    /// `GRU`
    Gru,
}

impl OnnxOp {
    /// The operator of that `op_type`.
    pub fn by_name(name: &str) -> Option<Self> {
        [Self::Rnn, Self::Lstm, Self::Gru].into_iter().find(|op| op.name() == name)
    }
    /// Its `op_type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rnn => "RNN",
            Self::Lstm => "LSTM",
            Self::Gru => "GRU",
        }
    }
    /// Row blocks of W and R.
    pub(crate) fn gates(self) -> usize {
        match self {
            Self::Rnn => 1,
            Self::Lstm => 4,
            Self::Gru => 3,
        }
    }
    /// The activations without the attribute, for one direction: f, g, h.
    pub(crate) fn activations(self) -> &'static [&'static str] {
        match self {
            Self::Rnn => &["Tanh"],
            Self::Lstm => &["Sigmoid", "Tanh", "Tanh"],
            Self::Gru => &["Sigmoid", "Tanh"],
        }
    }
}

impl std::fmt::Display for OnnxOp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum AttributeValue {
    /// `INT`
    Int(i64),
    /// `FLOAT`
    Float(f64),
    /// `STRING`
    Text(String),
    /// `FLOATS`
    Floats(Vec<f64>),
    /// `STRINGS`
    Texts(Vec<String>),
}

/// An operator with its attributes, checked one by one; whether this crate has them is another question.
#[derive(Clone, Debug)]
pub struct Operator {
    /// Which one.
    pub op: OnnxOp,
    /// `hidden_size`, where it is given.
    pub hidden_size: Option<usize>,
    /// `direction`
    pub direction: Direction,
    /// Names of all directions; empty for the operator's own.
    pub activations: Vec<String>,
    /// Consumed by those activations that take one.
    pub alpha: Vec<f64>,
    /// The same of the second parameter.
    pub beta: Vec<f64>,
    /// `clip`, where it is given.
    pub clip: Option<f64>,
    /// `input_forget`
    pub input_forget: bool,
    /// `linear_before_reset`
    pub linear_before_reset: bool,
    /// `layout` = 1.
    pub batch_first: bool,
}

/// The activation of that name, whatever its case (as ONNX Runtime compares); `alpha` and `beta` give a parameter, of which
/// they are told the default, and are asked only where the activation has one.
fn activation(name: &str, mut alpha: impl FnMut(f64) -> f64, mut beta: impl FnMut(f64) -> f64) -> Result<Activation> {
    // Attributes are f32 in the file.
    let mut alpha = |default| alpha(default) as f32;
    let mut beta = |default| beta(default) as f32;
    Ok(match name.to_lowercase().as_str() {
        "sigmoid" => Activation::Sigmoid,
        "tanh" => Activation::Tanh,
        "relu" => Activation::Relu,
        "affine" => Activation::Affine { alpha: alpha(1.0), beta: beta(0.0) },
        "leakyrelu" => Activation::LeakyRelu { alpha: alpha(0.01) },
        "thresholdedrelu" => Activation::ThresholdedRelu { alpha: alpha(1.0) },
        "scaledtanh" => Activation::ScaledTanh { alpha: alpha(1.0), beta: beta(1.0) },
        "hardsigmoid" => Activation::HardSigmoid { alpha: alpha(0.2), beta: beta(0.5) },
        "elu" => Activation::Elu { alpha: alpha(1.0) },
        "softsign" => Activation::Softsign,
        "softplus" => Activation::Softplus,
        _ => return Err(Error::mismatch("activations", "one of ONNX's 11", shortened(name))),
    })
}

impl Operator {
    /// With no attribute given.
    pub fn new(op: OnnxOp) -> Self {
        Self {
            op,
            hidden_size: None,
            direction: Direction::Forward,
            activations: Vec::new(),
            alpha: Vec::new(),
            beta: Vec::new(),
            clip: None,
            input_forget: false,
            linear_before_reset: false,
            batch_first: false,
        }
    }

    /// With the attributes of a node.
    ///
    /// # Errors
    /// As [`Operator::set`].
    pub(super) fn of_node(op: OnnxOp, node: &proto::Node) -> Result<Self> {
        let mut operator = Self::new(op);
        for attribute in attributes(node) {
            let (name, value) = attribute?;
            operator.set(&name, value)?;
        }
        Ok(operator)
    }

    /// Takes an attribute.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a value of another type or range, [`Error::Unsupported`] for a name the operator does not have.
    pub fn set(&mut self, name: &str, value: AttributeValue) -> Result<()> {
        use AttributeValue::{Float, Floats, Int, Text, Texts};
        match (name, self.op, value) {
            ("hidden_size", _, Int(n)) => {
                let wrong = |_| Error::mismatch(name, "a size", n);
                self.hidden_size = Some(usize::try_from(n).map_err(wrong)?);
            }
            ("direction", _, Text(text)) => self.direction = direction(&text)?,
            ("activations", _, Texts(names)) => self.activations = names,
            ("activation_alpha", _, Floats(values)) => self.alpha = values,
            ("activation_beta", _, Floats(values)) => self.beta = values,
            // As ONNX Runtime (main of 2025) has it: below 0 RNN does not clip; at 0 it clips all to 0; LSTM and GRU take neither.
            ("clip", OnnxOp::Rnn, Float(clip)) if clip < 0.0 => self.clip = None,
            ("clip", _, Float(clip)) if clip > 0.0 => self.clip = Some(clip),
            ("input_forget", OnnxOp::Lstm, Int(flag @ (0 | 1))) => self.input_forget = flag == 1,
            // The equations ask whether it is 0.
            ("linear_before_reset", OnnxOp::Gru, Int(flag)) => self.linear_before_reset = flag != 0,
            ("layout", _, Int(layout @ (0 | 1))) => self.batch_first = layout == 1,
            (name, op, value) => return Err(refused(name, op, &value)),
        }
        Ok(())
    }

    /// The activations of every direction, one after the other. Alphas and betas go, in order, to those that take one.
    pub fn all_activations(&self) -> Result<Vec<Activation>> {
        let own = self.op.activations();
        let directions = self.direction.count();
        let names: Vec<&str> = match &self.activations[..] {
            [] => own.repeat(directions),
            names if names.len() == directions * own.len() => names.iter().map(String::as_str).collect(),
            names => {
                let expected = format!("{} names for each of {directions} direction(s)", own.len());
                return Err(Error::mismatch("activations", expected, names.len()));
            }
        };
        let (mut alphas, mut betas) = (self.alpha.iter(), self.beta.iter());
        let mut alpha = |default| alphas.next().copied().unwrap_or(default);
        let mut beta = |default| betas.next().copied().unwrap_or(default);
        names.into_iter().map(|name| activation(name, &mut alpha, &mut beta)).collect()
    }

    /// The configuration of a node with tensors of these sizes.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for sizes, counts and values that do not fit.
    pub(crate) fn config(&self, sizes: &Sizes) -> Result<RnnConfig> {
        let mut activations = self.all_activations()?;
        let count = self.op.activations().len();
        if activations.chunks(count).all(|set| set == &activations[..count]) {
            activations.truncate(count);
        }
        let cell: &'static Cell = match self.op {
            OnnxOp::Rnn if activations == [Activation::Relu] => &cells::RNN_RELU,
            OnnxOp::Rnn => &cells::RNN_TANH,
            OnnxOp::Lstm if sizes.peepholes => &cells::LSTM_PEEPHOLE,
            OnnxOp::Lstm => &cells::LSTM,
            OnnxOp::Gru if self.linear_before_reset => &cells::GRU,
            OnnxOp::Gru => &cells::GRU_RESET_BEFORE,
        };
        if cell.activations.iter().map(|a| a.1).eq(activations.iter().copied()) {
            activations.clear();
        }
        let config = RnnConfig {
            cell,
            input_size: sizes.input,
            hidden_size: sizes.hidden,
            direction: self.direction,
            bias: if sizes.bias { Bias::Two } else { Bias::None },
            activations,
            // An attribute is f32 in the file.
            clip: self.clip.map(|clip| clip as f32),
            input_forget: self.input_forget,
            layout: if self.batch_first { Layout::BatchFirst } else { Layout::TimeMajor },
            ..Default::default()
        };
        config.validate()?;
        Ok(config)
    }
}

/// What the tensors of a node say about the layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// I
    pub input: usize,
    /// H
    pub hidden: usize,
    /// There is B.
    pub bias: bool,
    /// There is P.
    pub peepholes: bool,
}

fn direction(text: &str) -> Result<Direction> {
    match text {
        "forward" => Ok(Direction::Forward),
        "reverse" => Ok(Direction::Reverse),
        "bidirectional" => Ok(Direction::Bidirectional),
        other => Err(Error::mismatch("direction", "forward, reverse or bidirectional", shortened(other))),
    }
}

/// An attribute that was not taken: a wrong value, or a name that the operator does not have.
fn refused(name: &str, op: OnnxOp, value: &AttributeValue) -> Error {
    let expected = match (name, op) {
        ("hidden_size", _) => "an integer",
        ("direction", _) => "a string",
        ("activations", _) => "strings",
        ("activation_alpha" | "activation_beta", _) => "floats",
        ("clip", OnnxOp::Rnn) => "a float above 0, or below 0 for none",
        ("clip", _) => "a float above 0",
        ("layout", _) | ("input_forget", OnnxOp::Lstm) => "0 or 1",
        ("linear_before_reset", OnnxOp::Gru) => "an integer",
        _ => {
            let reason = format!("{op} has no such attribute in the opsets this build knows");
            return Error::Unsupported { what: format!("attribute {}", shortened(name)), reason };
        }
    };
    Error::mismatch(name, expected, shortened(&format!("{value:?}")))
}

/// A file's own text in a message, cut to a length that a person reads.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(names: &[&str]) -> AttributeValue {
        AttributeValue::Texts(names.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn alphas_and_betas_go_to_the_activations_that_take_them() {
        let mut operator = Operator::new(OnnxOp::Lstm);
        operator.set("activations", texts(&["HardSigmoid", "Tanh", "leakyrelu"])).expect("names");
        operator.set("activation_alpha", AttributeValue::Floats(vec![0.25])).expect("floats");
        let hard = Activation::HardSigmoid { alpha: 0.25, beta: 0.5 };
        let expected = [hard, Activation::Tanh, Activation::LEAKY_RELU];
        assert_eq!(operator.all_activations().expect("three"), expected);
        operator.direction = Direction::Bidirectional;
        let error = operator.all_activations().expect_err("three for two directions").to_string();
        assert_eq!(error, "activations: expected 3 names for each of 2 direction(s), got 3");
        operator.set("activations", texts(&["Mish"; 6])).expect("names");
        let error = operator.all_activations().expect_err("no such activation").to_string();
        assert_eq!(error, "activations: expected one of ONNX's 11, got Mish");
    }

    #[test]
    fn attributes_of_another_operator_or_type_are_refused() {
        let message = |op, name: &str, value| Operator::new(op).set(name, value).expect_err("refused").to_string();
        let one = || AttributeValue::Int(1);
        assert!(
            message(OnnxOp::Gru, "input_forget", one()).contains("attribute input_forget: GRU has no such attribute")
        );
        assert!(message(OnnxOp::Rnn, "output_sequence", one()).starts_with("not supported: attribute output_sequence"));
        assert_eq!(
            message(OnnxOp::Rnn, "clip", one()),
            "clip: expected a float above 0, or below 0 for none, got Int(1)"
        );
        assert_eq!(message(OnnxOp::Rnn, "layout", AttributeValue::Int(2)), "layout: expected 0 or 1, got Int(2)");
        assert_eq!(
            message(OnnxOp::Lstm, "hidden_size", AttributeValue::Int(-1)),
            "hidden_size: expected a size, got -1"
        );
        assert!(
            message(OnnxOp::Lstm, "direction", AttributeValue::Text("up".into())).starts_with("direction: expected")
        );
    }
}
