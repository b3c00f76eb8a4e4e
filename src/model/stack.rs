//! What the user wants: [`RnnConfig`], [`Shape`], and their validation.

use crate::error::{Error, Result};
use crate::model::cell::{Activation, Cell, CellOption, Product, Stage};
use crate::model::cells;
use crate::model::recurrence::Recurrence;
use crate::model::zoneout::Zoneout;

/// Which way the layers read time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Direction {
    /// t = 0, 1, …
    #[default]
    Forward,
    /// From each sequence's own end to its start.
    Reverse,
    /// Both; outputs concatenated, forward first.
    Bidirectional,
}

impl Direction {
    /// 1 or 2.
    pub fn count(self) -> usize {
        if self == Self::Bidirectional { 2 } else { 1 }
    }
}

/// Which bias vectors the gates have: cuDNN's four modes. Where a gate sees both x and h, b_w and b_r are only their sum; they
/// differ in a GRU with the reset gate after the product, whose n has b_w outside and b_r inside r∘(R_n h + b_rn).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Bias {
    /// No bias (cuDNN `CUDNN_RNN_NO_BIAS`).
    None,
    /// b_w only (RNNoise, ICU, most papers; cuDNN `CUDNN_RNN_SINGLE_INP_BIAS`).
    One,
    /// b_r only (cuDNN `CUDNN_RNN_SINGLE_REC_BIAS`).
    Recurrent,
    /// b_w and b_r (PyTorch, ONNX; cuDNN's default, `CUDNN_RNN_DOUBLE_BIAS`).
    #[default]
    Two,
}

impl Bias {
    /// Whether there is b_w.
    pub fn has_input(self) -> bool {
        matches!(self, Self::One | Self::Two)
    }
    /// Whether there is b_r.
    pub fn has_recurrent(self) -> bool {
        matches!(self, Self::Recurrent | Self::Two)
    }
}

/// What the first layer does with x (cuDNN `cudnnRNNInputMode_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum InputMode {
    /// W x + b (cuDNN `CUDNN_LINEAR_INPUT`).
    #[default]
    Linear,
    /// x + b, without W: x is added to the pre-activation of every gate that sees x, so I must be H (cuDNN `CUDNN_SKIP_INPUT`:
    /// "no operation is performed at the input of the first layer"). Further layers of the stack keep their W, as in cuDNN, and
    /// so do both directions of them; layer 0 has no `weight_ih`, but its biases.
    Skip,
}

/// How x and y lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Layout {
    /// `[T, B, ·]`, the native layout.
    #[default]
    TimeMajor,
    /// `[B, T, ·]`.
    BatchFirst,
}

/// A stack of recurrent layers. Its constructors name the sizes, which have no defaults; everything else is as PyTorch has it (one
/// layer, forward, both biases, no dropout), and is set by its field:
///
/// ```
/// use wgpu_rnn::{Direction, RnnConfig};
/// let config = RnnConfig { num_layers: 2, direction: Direction::Bidirectional, ..RnnConfig::gru(40, 64) };
/// assert_eq!(config.output_size(), 128);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct RnnConfig {
    /// The cell, from [`crate::cells`].
    pub cell: &'static Cell,
    /// I: features of x. It has no default (0 is refused).
    pub input_size: usize,
    /// H: hidden units. It has no default (0 is refused).
    pub hidden_size: usize,
    /// L: stacked layers.
    pub num_layers: usize,
    /// Which way time is read.
    pub direction: Direction,
    /// Bias vectors.
    pub bias: Bias,
    /// P: size of h after projection; 0 for none (then h has H values).
    pub proj_size: usize,
    /// Replaces the cell's activations, in the cell's order; empty: the cell's own. Bidirectional layers may have one set for
    /// both directions or two, forward first (ONNX `activations`).
    pub activations: Vec<Activation>,
    /// Clamps the argument of every activation to ± this (ONNX `clip`: "applied to the input of activations"); where it does,
    /// the gradient is 0. The arguments are whole pre-activations, with both products, biases and peepholes: i, f, g and o of an
    /// LSTM or sLSTM, r, z and n of a GRU (n after r∘(R_n h + b_rn) is added), h of a vanilla RNN; and c' in an LSTM's h(c'), which
    /// the specification's words include. onnxruntime's CPU kernels clip the same pre-activations but not the argument of h:
    /// the two differ where |c'| is above the threshold.
    pub clip: Option<f32>,
    /// Clamps an LSTM's c' to ± this after the update, before h' and the next step see it (TensorFlow `cell_clip`, cuDNN
    /// `cudnnRNNSetClip`); where it does, the gradient is 0.
    pub cell_clip: Option<f32>,
    /// Couples an LSTM's gates, f = 1 − i (ONNX `input_forget`). The rows of f in W, R, b and the peepholes stay where they are;
    /// nothing depends on them, and their gradients are 0.
    pub input_forget: bool,
    /// Which features of h a unit's recurrent gates see: the shape of R.
    pub recurrence: Recurrence,
    /// What the first layer does with x.
    pub input: InputMode,
    /// Layout of x and y.
    pub layout: Layout,
    /// V: the stack reads token ids in 0..V through an embedding table `[V, I]`; `None`: it reads x itself.
    pub vocabulary: Option<usize>,
    /// A dense layer over y, for training with a loss; `None`: the stack ends in y.
    pub head: Option<Head>,
    /// What training drops.
    pub dropout: Dropout,
    /// How much a unit keeps of its value of the step before.
    pub zoneout: Zoneout,
}

/// A dense output layer, `o[t] = W_o y[t] + b_o`, and the loss that compares it with targets.
///
/// ```
/// use wgpu_rnn::{Head, Loss};
/// let predicts = Head { size: 10, loss: None };
/// let learns = Head { size: 10, loss: Some(Loss::CrossEntropy) };
/// # assert_ne!(predicts, learns);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Head {
    /// O: outputs per step (classes, for [`Loss::CrossEntropy`]).
    pub size: usize,
    /// The loss; `None`: the head gives predictions and nothing compares them. A plan that trains needs one, and so does
    /// [`crate::Session::write_targets`].
    pub loss: Option<Loss>,
}

/// What a [`Head`] is trained for; both are weighted means over the real steps of all sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Mean over the outputs of (o − target)², PyTorch `MSELoss`.
    MeanSquared,
    /// −log softmax(o)\[target\], PyTorch `CrossEntropyLoss`.
    CrossEntropy,
}

/// Probabilities, each from 0 to below 1, of dropping a value in training (what is kept is scaled by 1 / (1 − p)). Every forward
/// run draws new masks from the seed of [`crate::Session::set_seed`]; [`crate::num::random`] tells which bits they are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Dropout {
    /// Of every value that goes from a layer to the next, drawn anew at every step (PyTorch `dropout`; with one layer there are
    /// none).
    pub layers: f32,
    /// Of the features of every layer's input, the first one's too: one draw per sequence for all steps and both directions (Gal
    /// & Ghahramani 2016).
    pub input: f32,
    /// Of the features of h in the recurrent product (R·(m∘h) in the cell's first stage): one draw per sequence, layer and
    /// direction for all steps of a run (Gal & Ghahramani 2016). y, hn and a GRU's own h are not dropped.
    pub recurrent: f32,
}

impl Dropout {
    fn validate(&self) -> Result<()> {
        for (what, p) in
            [("dropout.layers", self.layers), ("dropout.input", self.input), ("dropout.recurrent", self.recurrent)]
        {
            if !(0.0..1.0).contains(&p) {
                return Err(Error::mismatch(what, "a probability from 0 to below 1", p));
            }
        }
        Ok(())
    }
}

/// An LSTM of no size: one layer, forward, both biases, no projection, no dropout, no embedding and no head. [`RnnConfig::validate`]
/// refuses it until input_size and hidden_size are set.
impl Default for RnnConfig {
    fn default() -> Self {
        Self {
            cell: &cells::LSTM,
            input_size: 0,
            hidden_size: 0,
            num_layers: 1,
            direction: Direction::Forward,
            bias: Bias::Two,
            proj_size: 0,
            activations: Vec::new(),
            clip: None,
            cell_clip: None,
            input_forget: false,
            recurrence: Recurrence::Dense,
            input: InputMode::Linear,
            layout: Layout::TimeMajor,
            vocabulary: None,
            head: None,
            dropout: Dropout::default(),
            zoneout: Zoneout::default(),
        }
    }
}

/// T steps of B sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// T: time steps of the longest sequence.
    pub time: usize,
    /// B: sequences.
    pub batch: usize,
}

/// Sizes beyond this are refused at once: products of two of them still fit u64, and no device holds them.
const MAX_SIZE: usize = 1 << 30;
/// Layers times directions: what WebGPU's default limits let one dispatch cover; far beyond any network.
const MAX_STACKED: usize = 65_535;
/// Parameters of a stack: beyond what any device holds in f32.
const MAX_PARAMETERS: u64 = 1 << 33;

impl RnnConfig {
    /// One forward layer of `cell`, from [`crate::cells`]: `input_size` features of x, `hidden_size` units, both biases.
    pub fn new(cell: &'static Cell, input_size: usize, hidden_size: usize) -> Self {
        Self { cell, input_size, hidden_size, ..Self::default() }
    }
    /// One forward layer as PyTorch's `nn.LSTM(input_size, hidden_size)`.
    pub fn lstm(input_size: usize, hidden_size: usize) -> Self {
        Self::new(&cells::LSTM, input_size, hidden_size)
    }
    /// One forward layer as PyTorch's `nn.GRU(input_size, hidden_size)`, whose reset gate comes after the product.
    pub fn gru(input_size: usize, hidden_size: usize) -> Self {
        Self::new(&cells::GRU, input_size, hidden_size)
    }
    /// One forward layer as PyTorch's `nn.RNN(input_size, hidden_size)`, with tanh.
    pub fn rnn(input_size: usize, hidden_size: usize) -> Self {
        Self::new(&cells::RNN_TANH, input_size, hidden_size)
    }
    /// D: 1, or 2 for bidirectional.
    pub fn directions(&self) -> usize {
        self.direction.count()
    }
    /// Width of h: P if there is a projection, else H.
    pub fn state_size(&self) -> usize {
        if self.proj_size > 0 { self.proj_size } else { self.hidden_size }
    }
    /// Width of c0 and cn: S·H values for a cell of S cell states, one after the other (H for the LSTMs, 3·H for sLSTM: c, n, m).
    pub fn cell_size(&self) -> usize {
        self.cell.cell_states() * self.hidden_size
    }
    /// Features of y: D · width of h.
    pub fn output_size(&self) -> usize {
        self.directions() * self.state_size()
    }
    /// Features that layer `layer` reads.
    pub fn layer_input_size(&self, layer: usize) -> usize {
        if layer == 0 { self.input_size } else { self.output_size() }
    }
    /// Whether layer `layer` adds x to its gates as it is ([`InputMode::Skip`]).
    pub(crate) fn skips_input(&self, layer: usize) -> bool {
        layer == 0 && self.input == InputMode::Skip
    }
    /// Columns of W of layer `layer`: the features it reads, or 0 where it has no W.
    pub(crate) fn weight_columns(&self, layer: usize) -> usize {
        if self.skips_input(layer) { 0 } else { self.layer_input_size(layer) }
    }
    /// The activations in force: one set, or one per direction where [`RnnConfig::activations`] has two.
    pub fn activations(&self) -> Vec<Activation> {
        if self.activations.is_empty() {
            self.cell.activations.iter().map(|a| a.1).collect()
        } else {
            self.activations.clone()
        }
    }
    /// Those of one direction (0 or 1).
    pub fn activations_of(&self, direction: usize) -> Vec<Activation> {
        let count = self.cell.activations.len();
        let all = self.activations();
        let first = if all.len() > count { direction * count } else { 0 };
        all[first..][..count].to_vec()
    }
    /// The chain of one step: the cell's stages, then the projection if there is one, each with its sizes.
    pub fn stages(&self) -> Vec<StageShape> {
        let mut operand = self.state_size();
        let mut stages: Vec<StageShape> = Vec::new();
        let mut sums_at = self.cell.params.len();
        for stage in self.cell.stages {
            stages.push(StageShape {
                stage: *stage,
                operand,
                units: self.hidden_size,
                heads: self.recurrence.heads(operand),
                states: self.states().len(),
                state_stride: self.hidden_size,
                params: self.cell.params.len(),
                sums_at,
            });
            sums_at += 2 * stage.gains();
            operand = self.hidden_size;
        }
        if self.proj_size > 0 {
            stages.push(StageShape {
                stage: cells::PROJECTION,
                operand,
                units: self.proj_size,
                heads: 1,
                states: self.projection_states(),
                state_stride: self.hidden_size,
                params: 0,
                sums_at,
            });
        }
        stages
    }
    /// The head as a layer of its own that reads y (see `cells/dense.rs`).
    pub(crate) fn head_layer(&self) -> Option<Self> {
        self.head.map(|head| Self {
            cell: &cells::DENSE,
            input_size: self.output_size(),
            hidden_size: head.size,
            bias: Bias::One,
            layout: self.layout,
            ..Default::default()
        })
    }
    /// Whether a plan of this configuration drops features of h in the recurrent product.
    pub(crate) fn drops_recurrent(&self, train: bool) -> bool {
        train && self.dropout.recurrent > 0.0
    }
    /// Whether it drops values of a layer's input.
    pub(crate) fn drops_input(&self, layer: usize, train: bool) -> bool {
        train && (self.dropout.input > 0.0 || layer > 0 && self.dropout.layers > 0.0)
    }
    /// Whether it draws any masks: of dropout, or of zoneout.
    pub(crate) fn drops(&self, train: bool) -> bool {
        train && self.zones()
            || self.drops_recurrent(train)
            || (0..self.num_layers.min(2)).any(|layer| self.drops_input(layer, train))
    }
    /// Values of a sequence's row of `operand`: what the first stage's product reads, padded to whole vec4s, and with recurrent
    /// dropout h itself behind it.
    pub(crate) fn operand_row(&self, train: bool) -> usize {
        self.state_size().next_multiple_of(4) * if self.drops_recurrent(train) { 2 } else { 1 }
    }
    /// Where h itself starts in that row.
    pub(crate) fn operand_own(&self, train: bool) -> usize {
        self.operand_row(train) - self.state_size().next_multiple_of(4)
    }
    /// Where the pre-activations of one packed row lie. Training keeps all of them (and then their gradients, in place);
    /// inference only the x parts.
    pub fn row_layout(&self, train: bool) -> RowLayout {
        let stages = self.stages();
        let mut input_at = 0;
        let mut only_at: usize = stages.iter().map(|s| s.stage.input_gates() * s.units).sum();
        let inputs = only_at;
        let places = stages
            .iter()
            .map(|s| {
                let place = (input_at, only_at);
                input_at += s.stage.input_gates() * s.units;
                only_at += s.stage.recurrent_only_gates() * s.units;
                place
            })
            .collect();
        let mut next = only_at;
        let mut column = |there: bool| {
            next += usize::from(there);
            next - usize::from(there)
        };
        let scales = stages.iter().map(|s| (column(s.stage.normalises_input()), column(s.stage.normalise))).collect();
        RowLayout { width: if train { next } else { inputs }, inputs, stages: places, scales }
    }
    /// Values of all parameters; `u64::MAX` where it is more.
    pub fn parameter_count(&self) -> u64 {
        let (h, state) = (self.hidden_size as u64, self.state_size() as u64);
        let gates = (self.cell.input_gates() as u64, self.cell.recurrent_gates() as u64);
        let (bias_w, bias_r) = (u64::from(self.bias.has_input()), u64::from(self.bias.has_recurrent()));
        let per_unit = bias_w * gates.0 + bias_r * gates.1 + (self.cell.params.len() + self.cell.gains()) as u64;
        // Per unit of one layer and direction; sizes are at most MAX_SIZE, so no sum here overflows.
        let fixed =
            gates.1 * (state / self.recurrence.heads(self.state_size()) as u64) + per_unit + self.proj_size as u64;
        let layer = |layer: usize| h.saturating_mul(gates.0 * self.weight_columns(layer) as u64 + fixed);
        let further = layer(1).saturating_mul(self.num_layers as u64 - 1);
        let stack = layer(0).saturating_add(further).saturating_mul(self.directions() as u64);
        let table = self.vocabulary.unwrap_or(0) as u64 * self.input_size as u64;
        let dense = self.head.map_or(0, |head| head.size as u64 * (self.output_size() as u64 + 1));
        stack.saturating_add(table).saturating_add(dense)
    }
    /// Refuses zero sizes, sizes no device holds, and combinations the cell does not have.
    pub fn validate(&self) -> Result<()> {
        self.cell.validate()?;
        for (what, size) in [("input_size", self.input_size), ("hidden_size", self.hidden_size)] {
            if size == 0 {
                let expected =
                    format!("1..={MAX_SIZE} (name both sizes: RnnConfig::new(cell, input_size, hidden_size))");
                return Err(Error::mismatch(what, expected, size));
            }
            positive(what, size)?;
        }
        positive("num_layers", self.num_layers)?;
        self.vocabulary.map_or(Ok(()), |size| positive("vocabulary", size))?;
        self.head.map_or(Ok(()), |head| positive("size of the head", head.size))?;
        self.dropout.validate()?;
        self.zoneout.validate(self)?;
        if self.input == InputMode::Skip && self.input_size != self.hidden_size {
            let expected = format!("hidden_size {}, for x is added to every gate (input mode skip)", self.hidden_size);
            return Err(Error::mismatch("input_size", expected, self.input_size));
        }
        let stacked = self.num_layers * self.directions();
        if stacked > MAX_STACKED {
            let expected = format!("at most {MAX_STACKED}");
            return Err(Error::mismatch("num_layers times directions", expected, stacked));
        }
        if self.proj_size > 0 && self.proj_size >= self.hidden_size {
            return Err(Error::mismatch(
                "proj_size",
                format!("less than hidden_size {}", self.hidden_size),
                self.proj_size,
            ));
        }
        if self.proj_size > 0 && !self.cell.has_cell_state() {
            return Err(Error::Unsupported {
                what: format!("proj_size {} with {}", self.proj_size, self.cell.name),
                reason: "a projection needs a cell whose own state is not h (the LSTMs)".into(),
            });
        }
        self.recurrence.validate(self.hidden_size, self.proj_size)?;
        self.validate_activations()?;
        self.validate_options()?;
        let needs = self.parameter_count();
        if needs > MAX_PARAMETERS {
            return Err(Error::Limit {
                what: format!("weights of {} layer(s)", self.num_layers),
                needs,
                limit: MAX_PARAMETERS,
                unit: "parameters",
                limit_name: "this crate's limit",
                hint: String::new(),
            });
        }
        Ok(())
    }
}

impl RnnConfig {
    /// Refuses a wrong number of activations, and parameters that are not numbers.
    fn validate_activations(&self) -> Result<()> {
        let (cell, got) = (self.cell, self.activations.len());
        let wanted = cell.activations.len();
        let per_direction = self.directions() == 2 && got == 2 * wanted;
        if got > 0 && got != wanted && !per_direction {
            let names = cell.activations.iter().map(|a| a.0).collect::<Vec<_>>().join(", ");
            let twice =
                if self.directions() == 2 { format!(" or {} (forward, reverse)", 2 * wanted) } else { String::new() };
            let expected = format!("{wanted} ({names}){twice}");
            return Err(Error::mismatch(format!("activations of {}", cell.name), expected, got));
        }
        match self.activations.iter().find(|a| a.parameters().iter().any(|p| !p.is_finite())) {
            Some(a) => Err(Error::mismatch(format!("activations of {}", cell.name), "finite alpha and beta", a)),
            None => Ok(()),
        }
    }
}

impl RnnConfig {
    /// Refuses thresholds that clip everything, and what the cell has no equations for.
    fn validate_options(&self) -> Result<()> {
        for (what, clip) in [("clip", self.clip), ("cell_clip", self.cell_clip)] {
            if let Some(clip) = clip.filter(|&c| c.is_nan() || c <= 0.0) {
                return Err(Error::mismatch(what, "a threshold above 0", clip));
            }
        }
        let options = [
            (CellOption::CellClip, "cell_clip", self.cell_clip.is_some(), "it clips the cell state of an LSTM"),
            (CellOption::InputForget, "input_forget", self.input_forget, "it couples the gates of an LSTM"),
        ];
        match options.iter().find(|(option, _, set, _)| *set && !self.cell.options.contains(option)) {
            Some((_, name, _, reason)) => {
                Err(Error::Unsupported { what: format!("{name} with {}", self.cell.name), reason: (*reason).into() })
            }
            None => Ok(()),
        }
    }
}

impl Shape {
    /// Refuses zero and absurd sizes.
    pub fn validate(&self) -> Result<()> {
        positive("time", self.time)?;
        positive("batch", self.batch)
    }
    /// Checks lengths (one per sequence, each within 0..=T; 0 is a sequence that is not there, see [`Empty`]).
    pub fn validate_lengths(&self, lengths: &[usize]) -> Result<()> {
        if lengths.len() != self.batch {
            return Err(Error::mismatch("lengths", format!("[B] = [{}]", self.batch), format!("[{}]", lengths.len())));
        }
        match lengths.iter().position(|&l| l > self.time) {
            Some(b) => Err(Error::mismatch(format!("lengths[{b}]"), format!("0..={}", self.time), lengths[b])),
            None => Ok(()),
        }
    }
    /// Checks the number of one of its sequences.
    pub(crate) fn validate_sequence(&self, b: usize) -> Result<()> {
        match b < self.batch {
            true => Ok(()),
            false => Err(Error::mismatch("sequence", format!("0..B = 0..{}", self.batch), b)),
        }
    }
}

fn positive(what: &str, size: usize) -> Result<()> {
    if size == 0 || size > MAX_SIZE {
        return Err(Error::mismatch(what, format!("1..={MAX_SIZE}"), size));
    }
    Ok(())
}

/// A stage with its sizes in one configuration.
#[derive(Clone, Copy, Debug)]
pub struct StageShape {
    /// The stage.
    pub stage: Stage,
    /// K: width of the operand.
    pub operand: usize,
    /// N: units (outputs).
    pub units: usize,
    /// n: heads that units and operand are cut into ([`Recurrence`]); 1 for a full matrix.
    pub heads: usize,
    /// States of the cell that this stage's pointwise part reads and changes.
    pub states: usize,
    /// From one state of a sequence to the next: H.
    pub(crate) state_stride: usize,
    /// Per-unit parameters of the cell that this stage's pointwise part sees.
    pub params: usize,
    /// Where the stage's gains, then its biases, start among the sums that gradients of unit parameters are made of.
    pub(crate) sums_at: usize,
}

impl StageShape {
    /// Unit parameters as the kernels see them: recurrent-only biases; of a normalising stage the gains of all gates and the
    /// biases of the x gates; then the cell's own.
    pub fn unit_params(&self) -> usize {
        let inputs = if self.stage.normalise { self.stage.input_gates() } else { 0 };
        self.stage.recurrent_only_gates() + self.stage.gains() + inputs + self.params
    }
    /// K/n: features of the operand that a unit sees, the width of R.
    pub fn depth(&self) -> usize {
        self.operand / self.heads
    }
    /// N/n: units that see the same features.
    pub fn head_units(&self) -> usize {
        self.units / self.heads
    }
    /// N rounded up to whole vec4s: the stride of this stage's output as the next operand.
    pub fn padded_units(&self) -> usize {
        self.units.next_multiple_of(4)
    }
    /// Rows of R: recurrent gates × units, 0 without a matrix.
    pub fn matrix_rows(&self) -> usize {
        if self.stage.product == Product::Dense { self.stage.recurrent_gates() * self.units } else { 0 }
    }
}

/// The columns of a row of `pre`: the x gates of all stages, then (in training) the operand-only gates of all stages and what
/// the statistics of normalising stages divide by. Gates of normalising stages are kept as they are before gain and bias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowLayout {
    /// Columns of a row.
    pub width: usize,
    /// Columns of x gates, the first of a row.
    pub inputs: usize,
    /// Per stage: where its x gates and its operand-only gates start.
    pub stages: Vec<(usize, usize)>,
    /// Per stage, in training, if it normalises: the columns of 1/σ of its W x and of its product.
    pub scales: Vec<(usize, usize)>,
}

impl RowLayout {
    /// Where recurrent gate `gate` of stage `n` starts.
    pub(crate) fn recurrent(&self, n: usize, shape: &StageShape, gate: usize) -> usize {
        let both = shape.stage.both_gates();
        if gate < both { self.stages[n].0 + gate * shape.units } else { self.stages[n].1 + (gate - both) * shape.units }
    }
}

/// What [`crate::Input::resets`] sets the state to where a new episode begins inside a run. No gradient crosses into the episode
/// before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reset {
    /// Zeros.
    Zero,
    /// h0 and c0 of the run, whose gradients are then those of every episode's start.
    Initial,
}

/// What hn and cn of a sequence of length 0 are ([`crate::Options::empty`]). Either way its y, its predictions and the gradient of its
/// x are 0, and it adds nothing to the loss or to the gradients of the parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Empty {
    /// Zeros, whatever h0 and c0 hold for it, as onnxruntime gives them. The gradients of its h0 and c0 are 0.
    #[default]
    Zero,
    /// Its h0 and c0, bit for bit: no step was taken. Their gradients are the upstream gradients of its hn and cn.
    Initial,
}
