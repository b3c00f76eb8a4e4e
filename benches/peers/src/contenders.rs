//! Everybody who runs a case: this crate and the peers. A run ends when its result is in host memory, for everybody: y of a
//! forward pass; the gradients of x and of all parameters of a forward and backward pass.

use crate::case::{Case, Data, Outcome};
use anyhow::{Context, Result};
use burn::module::Param;
use burn::nn::gru::{Gru, GruConfig};
use burn::nn::{GateController, Lstm, LstmConfig};
use burn::tensor::{DeviceKind, Gradients, Tensor, TensorData};
use candle_nn::RNN as _;
use std::collections::HashMap;
use wgpu_rnn::{Device, Precision, Session};

/// Somebody ready to run a case.
pub struct Contender {
    /// Whether its results are `[B, T, ·]`.
    pub batch_first: bool,
    run: Box<dyn FnMut() -> Result<Outcome<f32>>>,
}

impl Contender {
    /// One run.
    pub fn run(&mut self) -> Result<Outcome<f32>> {
        (self.run)()
    }
}

/// This crate, held against the f64 oracle and the naive loops within the calibrated bound first.
pub fn ours(device: &Device, case: &Case, data: &Data) -> Result<Contender> {
    let mut session = Session::from_plan(device, case.plan(device, Precision::F32)?, &data.weights)?;
    let check = wgpu_rnn_verify::check(&mut session, &data.weights, &data.numbers)?;
    anyhow::ensure!(check.passed(), "{case} on {device}: {check:?}");
    session.write(&data.numbers.input())?;
    if let Some(upstream) = data.numbers.upstream() {
        session.write_upstream(&upstream)?;
    }
    let train = case.train;
    let run = move || {
        session.run()?;
        if train {
            session.run_back()?;
            return Ok(Outcome { values: session.gradients()?.x.data });
        }
        Ok(Outcome { values: session.output()?.y.data })
    };
    Ok(Contender { batch_first: false, run: Box::new(run) })
}

/// burn's `nn::Lstm` or `nn::Gru` on one of its devices.
pub fn burn(wgpu: bool, case: &Case, data: &Data) -> Result<Contender> {
    let device =
        if wgpu { burn::tensor::Device::wgpu(DeviceKind::DefaultDevice) } else { burn::tensor::Device::flex() };
    let device = if case.train { device.autodiff() } else { device };
    let [time, batch, input, hidden] = case.size;
    let tensor = |values: &[f32], width: usize| -> Tensor<3> {
        Tensor::from_data(TensorData::new(Data::batch_first(case, values), [batch, time, width]), &device)
    };
    let layer = Layer::new(case, data, &device);
    let x = tensor(&data.numbers.x.data, input);
    let run: Box<dyn FnMut() -> Result<Outcome<f32>>> = match data.numbers.up.as_ref() {
        None => Box::new(move || Ok(Outcome { values: values(layer.forward(x.clone()))? })),
        Some(up) => {
            let dy = tensor(&up.y.data, hidden);
            Box::new(move || {
                let x = x.clone().require_grad();
                let gradients = (layer.forward(x.clone()) * dy.clone()).sum().backward();
                layer.read_gradients(&gradients)?;
                Ok(Outcome { values: values(x.grad(&gradients).context("no gradient of x")?)? })
            })
        }
    };
    Ok(Contender { batch_first: true, run })
}

/// A burn layer with the case's weights.
enum Layer {
    Lstm(Lstm),
    Gru(Gru),
}

impl Layer {
    fn new(case: &Case, data: &Data, device: &burn::tensor::Device) -> Self {
        let [_, _, input, hidden] = case.size;
        let gate = |gate: &mut GateController, n: usize| {
            for (linear, w, b) in [
                (&mut gate.input_transform, "weight_ih_l0", "bias_ih_l0"),
                (&mut gate.hidden_transform, "weight_hh_l0", "bias_hh_l0"),
            ] {
                let (shape, values) = data.parameter(case, w);
                let columns = shape[1];
                let rows = &values[n * hidden * columns..][..hidden * columns];
                let transposed: Vec<f32> =
                    (0..columns).flat_map(|c| (0..hidden).map(move |r| rows[r * columns + c])).collect();
                linear.weight = Param::from_data(TensorData::new(transposed, [columns, hidden]), device);
                let bias = data.parameter(case, b).1[n * hidden..][..hidden].to_vec();
                linear.bias = Some(Param::from_data(TensorData::new(bias, [hidden]), device));
            }
        };
        // PyTorch's gate order, which is this crate's: i, f, g, o and r, z, n.
        if case.cell.has_cell_state() {
            let mut lstm = LstmConfig::new(input, hidden, true).init(device);
            gate(&mut lstm.input_gate, 0);
            gate(lstm.forget_gate.as_mut().expect("an LSTM without input_forget has one"), 1);
            gate(&mut lstm.cell_gate, 2);
            gate(&mut lstm.output_gate, 3);
            return Self::Lstm(lstm);
        }
        let mut gru = GruConfig::new(input, hidden, true).with_reset_after(true).init(device);
        gate(&mut gru.reset_gate, 0);
        gate(&mut gru.update_gate, 1);
        gate(&mut gru.new_gate, 2);
        Self::Gru(gru)
    }

    /// `[B, T, I]` → `[B, T, H]`
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Lstm(lstm) => lstm.forward(x, None).0,
            Self::Gru(gru) => gru.forward(x, None),
        }
    }

    /// Waits for the gradients of all parameters in host memory.
    fn read_gradients(&self, gradients: &Gradients) -> Result<()> {
        let gates: Vec<&GateController> = match self {
            Self::Lstm(l) => [&l.input_gate, &l.cell_gate, &l.output_gate].into_iter().chain(&l.forget_gate).collect(),
            Self::Gru(g) => vec![&g.reset_gate, &g.update_gate, &g.new_gate],
        };
        for linear in gates.iter().flat_map(|g| [&g.input_transform, &g.hidden_transform]) {
            values(linear.weight.val().grad(gradients).context("no gradient of a matrix")?)?;
            if let Some(bias) = &linear.bias {
                values(bias.val().grad(gradients).context("no gradient of a bias")?)?;
            }
        }
        Ok(())
    }
}

/// Waits for a tensor: `into_data` alone returns before the device is done.
fn values<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    tensor.into_data().try_to_vec::<f32>().map_err(|e| anyhow::anyhow!("burn: {e:?}"))
}

/// candle's `LSTM` or `GRU` on the CPU.
pub fn candle(case: &Case, data: &Data) -> Result<Contender> {
    use candle_core::{DType, Device, Tensor, Var};
    let [time, batch, input, hidden] = case.size;
    let device = Device::Cpu;
    let parameters = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"].map(|name| {
        let (shape, values) = data.parameter(case, name);
        Ok((name.to_string(), Var::from_vec(values, shape, &device)?))
    });
    let parameters: Vec<(String, Var)> = parameters.into_iter().collect::<candle_core::Result<_>>()?;
    let named: HashMap<String, Tensor> = parameters.iter().map(|(n, v)| (n.clone(), v.as_tensor().clone())).collect();
    let builder = candle_nn::VarBuilder::from_tensors(named, DType::F32, &device);
    let forward: Box<dyn Fn(&Tensor) -> candle_core::Result<Tensor>> = if case.cell.has_cell_state() {
        let lstm = candle_nn::lstm(input, hidden, Default::default(), builder)?;
        Box::new(move |x| lstm.states_to_tensor(&lstm.seq(x)?))
    } else {
        let gru = candle_nn::gru(input, hidden, Default::default(), builder)?;
        // Its `states_to_tensor` joins GRU states along their features: stacked here.
        Box::new(move |x| Tensor::stack(&gru.seq(x)?.iter().map(|s| s.h().clone()).collect::<Vec<_>>(), 1))
    };
    let tensor =
        |values: &[f32], width: usize| Tensor::from_vec(Data::batch_first(case, values), (batch, time, width), &device);
    let x = Var::from_tensor(&tensor(&data.numbers.x.data, input)?)?;
    let read = |t: &Tensor| -> Result<Vec<f32>> { Ok(t.flatten_all()?.to_vec1::<f32>()?) };
    let run: Box<dyn FnMut() -> Result<Outcome<f32>>> = match data.numbers.up.as_ref() {
        None => Box::new(move || Ok(Outcome { values: read(&forward(&x.as_tensor().detach())?)? })),
        Some(up) => {
            let dy = tensor(&up.y.data, hidden)?;
            Box::new(move || {
                let gradients = (forward(x.as_tensor())? * &dy)?.sum_all()?.backward()?;
                for (name, parameter) in &parameters {
                    read(gradients.get(parameter).with_context(|| format!("no gradient of {name}"))?)?;
                }
                Ok(Outcome { values: read(gradients.get(&x).context("no gradient of x")?)? })
            })
        }
    };
    Ok(Contender { batch_first: true, run })
}
