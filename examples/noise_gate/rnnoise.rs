//! RNNoise: how loud each of 22 bands of a noisy recording should be, and whether somebody speaks, by three GRUs.
//!
//! ```text
//! features f ─dense, tanh─> d ──> voice GRU ─v─> dense, sigmoid ──> voice probability
//!                           [d, v, f] ──> noise GRU ─n─┐
//!                                      [v, n, f] ──> gains GRU ─g─> dense, sigmoid ──> gain of each band
//! ```
//!
//! The GRUs run through `wgpu_rnn`, each over all frames in one run: reset before the recurrent product, one bias, and a relu
//! where a GRU has its tanh. The three dense layers are plain loops.

use std::path::Path;
use wgpu_rnn::io::safetensors::TensorFile;
use wgpu_rnn::{
    Activation, Device, Error, Input, Options, Plan, Result, RnnConfig, Session, Shape, View, Weights, cells,
};

/// The GRUs in the order they run, as their tensors are named.
pub const GRUS: [&str; 3] = ["vad_gru.", "noise_gru.", "denoise_gru."];
/// Where the 22 bands have their centres, in Hz (RNNoise's, after those of the Opus codec).
pub const BANDS: [u32; 22] = [
    0, 200, 400, 600, 800, 1000, 1200, 1400, 1600, 2000, 2400, 2800, 3200, 4000, 4800, 5600, 6800, 8000, 9600, 12000,
    15600, 20000,
];

/// The trained network.
pub struct Model {
    /// The GRUs of [`GRUS`].
    pub grus: Vec<(RnnConfig, Weights)>,
    /// The layers before the first GRU, after the first and after the last.
    pub input: Dense,
    pub voice: Dense,
    pub gains: Dense,
}

/// A layer `[outputs, inputs]` with its bias.
pub struct Dense {
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
}

/// What the network says of every frame, and what it computed on the way.
#[derive(Default)]
pub struct Heard {
    /// `[frames]`, from 0 to 1
    pub voice: Vec<f32>,
    /// `[frames, 22]`, from 0 to 1
    pub gains: Vec<f32>,
    /// `[frames, H]` of each of [`GRUS`]
    pub states: [Vec<f32>; 3],
}

impl Model {
    /// Reads the weights; sizes come from the tensors.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let file = TensorFile::open(path)?;
        let gru = |name: &&str| {
            let activations = vec![Activation::Sigmoid, Activation::Relu];
            let config = RnnConfig { activations, ..file.config(&cells::GRU_RESET_BEFORE, name)? };
            let weights = file.weights(&config, name)?;
            Ok((config, weights))
        };
        let grus = GRUS.iter().map(gru).collect::<Result<Vec<_>>>()?;
        let (h, inputs) = (grus[0].0.hidden_size, grus[0].0.input_size);
        let features = grus[1].0.input_size.saturating_sub(inputs + h);
        let input = Dense::read(&file, "input_dense.", inputs, features)?;
        let voice = Dense::read(&file, "vad_output.", 1, h)?;
        let gains = Dense::read(&file, "denoise_output.", BANDS.len(), grus[2].0.hidden_size)?;
        Ok(Self { grus, input, voice, gains })
    }

    /// Features of a frame.
    pub fn features(&self) -> usize {
        self.input.inputs()
    }
}

impl Dense {
    fn read(file: &TensorFile, prefix: &str, outputs: usize, inputs: usize) -> Result<Self> {
        let weight = tensor(file, &format!("{prefix}weight"), &[outputs, inputs])?;
        Ok(Self { weight, bias: tensor(file, &format!("{prefix}bias"), &[outputs])? })
    }

    pub fn inputs(&self) -> usize {
        self.weight.len() / self.bias.len()
    }

    /// The layer over every row of `x`.
    fn apply(&self, x: &[f32], activation: impl Fn(f32) -> f32) -> Vec<f32> {
        let outputs = |row: &[f32]| -> Vec<f32> {
            let sum = |(w, b): (&[f32], &f32)| w.iter().zip(row).fold(*b, |sum, (w, x)| sum + w * x);
            self.weight.chunks_exact(row.len()).zip(&self.bias).map(sum).map(&activation).collect()
        };
        x.chunks_exact(self.inputs()).flat_map(outputs).collect()
    }
}

/// The sessions of a recording of so many frames.
pub struct Listener<'a> {
    model: &'a Model,
    /// The GRUs of [`GRUS`].
    pub sessions: Vec<Session>,
}

impl<'a> Listener<'a> {
    /// Plans the three GRUs and binds them to the device: everything that is done once.
    pub fn new(device: &Device, model: &'a Model, frames: usize, options: &Options) -> Result<Self> {
        let session = |(config, weights): &(RnnConfig, Weights)| {
            let plan = Plan::new(config, Shape { time: frames, batch: 1 }, &device.caps(), options)?;
            Session::from_plan(device, plan, weights)
        };
        Ok(Self { model, sessions: model.grus.iter().map(session).collect::<Result<_>>()? })
    }

    /// Runs the network over `features` `[frames, 42]`.
    pub fn run(&mut self, features: &[f32]) -> Result<Heard> {
        let model = self.model;
        let f = (features, model.features());
        let dense = model.input.apply(features, f32::tanh);
        let v = self.gru(0, &dense)?;
        let v_rows = (&v[..], model.grus[0].0.hidden_size);
        let n = self.gru(1, &side_by_side([(&dense, model.grus[0].0.input_size), v_rows, f]))?;
        let g = self.gru(2, &side_by_side([v_rows, (&n, model.grus[1].0.hidden_size), f]))?;
        let mut heard = Heard::default();
        (heard.voice, heard.gains) = (model.voice.apply(&v, sigmoid), model.gains.apply(&g, sigmoid));
        heard.states = [v, n, g];
        Ok(heard)
    }

    fn gru(&mut self, n: usize, x: &[f32]) -> Result<Vec<f32>> {
        let shape = [x.len() / self.model.grus[n].0.input_size, 1, self.model.grus[n].0.input_size];
        Ok(self.sessions[n].forward(&Input::new(View::new(x, &shape)))?.y.data)
    }
}

/// Rows of three matrices, each given with its width, one behind the other.
pub fn side_by_side<T: Copy>(parts: [(&[T], usize); 3]) -> Vec<T> {
    let rows = parts[0].0.len() / parts[0].1;
    (0..rows).flat_map(|row| parts.iter().flat_map(move |(x, width)| &x[row * width..][..*width])).copied().collect()
}

/// The features `[frames, features]` of a recording.
pub fn read_features(path: impl AsRef<Path>, features: usize) -> Result<Vec<f32>> {
    let file = TensorFile::open(path)?;
    let frames = file.real::<f32>("features")?.map_or(1, |(shape, _)| shape[0]);
    tensor(&file, "features", &[frames, features])
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// A tensor that must have this shape.
fn tensor(file: &TensorFile, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
    let found = file.real(name)?;
    let got = found.as_ref().map_or("none".into(), |(s, _)| format!("{s:?}"));
    let fits = found.filter(|(s, _)| s == shape).map(|(_, values)| values);
    let what = || format!("{}: {name}", file.path().display());
    fits.ok_or_else(|| Error::Mismatch { what: what(), expected: format!("{shape:?}"), got })
}
