//! Goldens of recurrent stacks: a network (`w.*`), its input (`in.*`) and what another implementation made of it (`out.*`);
//! and, if it recorded gradients, the upstream ones (`up.y`, `up.hn`, `up.cn`), the loss `out.loss` = Σ up·out that they are
//! the gradients of, and `grad.x`, `grad.h0`, `grad.c0`, `grad.<parameter>` (all that the network and its input have).
//!
//! Fields: `nonlinearity` (RNN: tanh, relu), `T`, `B`, `input_size`, `hidden_size`, and optionally `num_layers`,
//! `bidirectional`, `bias`, `batch_first`, `proj_size`, `packed` (then there is `in.lengths`), `has_state` (then there is
//! `in.h0` and, for an LSTM, `in.c0`), `unbatched`.

use super::golden::{Case, Reader, Truth};
use super::naive::{self, Scalar};
use super::tolerance::{self, Measure};
use super::{Named, cast, naive_backward, widen};
use wgpu_rnn::weights::{Parameter, Weights};
use wgpu_rnn::{
    Bias, Cell, Device, Direction, Error, Gradients, Initial, Input, Layout, Options, Output, Plan, Result, RnnConfig,
    Session, Shape, Tensor, Upstream,
};

/// A recurrent stack and its input. Values are f64 whatever they were stored in.
#[derive(Clone, Debug)]
pub struct Layers {
    /// The stack.
    pub config: RnnConfig,
    /// T and B.
    pub shape: Shape,
    /// Its parameters.
    pub weights: Weights<f64>,
    /// x `[T, B, I]`, `[B, T, I]` or, unbatched, `[T, I]`.
    pub x: Tensor<f64>,
    /// Each sequence's length, if the batch is ragged.
    pub lengths: Option<Vec<usize>>,
    /// h0 `[L·D, B, P or H]`, if not zeros.
    pub h0: Option<Tensor<f64>>,
    /// c0 `[L·D, B, H]`, if not zeros.
    pub c0: Option<Tensor<f64>>,
    /// Gradients of the recorded loss with respect to y, hn and cn, in their shapes; `None` where nothing of the way back
    /// was recorded.
    pub upstream: Option<Output<f64>>,
}

/// The shapes of a golden's tensors.
struct Sizes<'a> {
    config: &'a RnnConfig,
    shape: Shape,
    unbatched: bool,
}

impl Sizes<'_> {
    /// `[T, B, width]`, `[B, T, width]` or, unbatched, `[T, width]`.
    fn sequence(&self, width: usize) -> Vec<usize> {
        match (self.unbatched, self.config.layout) {
            (true, _) => vec![self.shape.time, width],
            (false, Layout::TimeMajor) => vec![self.shape.time, self.shape.batch, width],
            (false, Layout::BatchFirst) => vec![self.shape.batch, self.shape.time, width],
        }
    }
    /// h: `[L·D, B, P or H]`
    fn h(&self) -> Vec<usize> {
        self.stacked(self.config.state_size())
    }
    /// c: `[L·D, B, S·H]`
    fn c(&self) -> Vec<usize> {
        self.stacked(self.config.cell_size())
    }
    fn stacked(&self, width: usize) -> Vec<usize> {
        let stack = self.config.num_layers * self.config.directions();
        if self.unbatched { vec![stack, width] } else { vec![stack, self.shape.batch, width] }
    }
}

impl Layers {
    pub(super) fn read(reader: &mut Reader<'_>, cell: &'static Cell) -> Result<(Case, Vec<Truth>)> {
        let unbatched = reader.flag("unbatched", false)?;
        let (config, shape) = (config(reader, cell)?, shape(reader)?);
        if unbatched && shape.batch != 1 {
            return Err(reader.mismatch("B of an unbatched golden", "1", shape.batch));
        }
        reader.check_config(&config)?;
        let weights = reader.weights(&config, |p| format!("w.{}", p.name))?;
        let sizes = Sizes { config: &config, shape, unbatched };
        let cell_state = config.cell.has_cell_state();

        let x = reader.tensor("in.x", &sizes.sequence(config.input_size))?;
        let has_state = reader.flag("has_state", reader.has("in.h0"))?;
        let h0 = has_state.then(|| reader.tensor("in.h0", &sizes.h())).transpose()?;
        let c0 = (has_state && cell_state).then(|| reader.tensor("in.c0", &sizes.c())).transpose()?;
        let packed = reader.flag("packed", reader.has("in.lengths"))?;
        let lengths = packed.then(|| reader.integers("in.lengths", &[shape.batch], 1, shape.time)).transpose()?;
        let mut truths =
            vec![reader.truth("out.y", &sizes.sequence(config.output_size()))?, reader.truth("out.hn", &sizes.h())?];
        if cell_state {
            truths.push(reader.truth("out.cn", &sizes.c())?);
        }
        let backward = |name: &str| name.starts_with("up.") || name.starts_with("grad.") || name == "out.loss";
        let mut up = None;
        if reader.has_any(backward) {
            let outputs = upstream(reader, &sizes)?;
            truths.push(loss(reader, &outputs, &truths)?);
            truths.push(reader.truth("grad.x", &x.shape)?);
            for (name, state) in [("grad.h0", &h0), ("grad.c0", &c0)] {
                truths.extend(state.as_ref().map(|s| reader.truth(name, &s.shape)).transpose()?);
            }
            truths.extend(reader.truths(&config, Measure::Largest, |p| format!("grad.{}", p.name))?);
            up = Some(outputs);
        }
        let layers = Self { config, shape, weights, x, lengths, h0, c0, upstream: up };
        Ok((Case::Layers(layers), truths))
    }

    /// What the executor makes of it: by inference, and by a run that trains if there are gradients.
    pub(super) fn runs<T: Scalar>(&self, device: &Device, options: &Options) -> Result<Vec<Named>> {
        let session = |train: bool| {
            let options = Options { train, ..options.clone() };
            let plan = Plan::new(&self.config, self.shape, &device.caps(), &options)?;
            let mut session = Session::<T>::from_plan(device, plan, &self.weights.cast())?;
            session.poison()?;
            Ok::<_, Error>(session)
        };
        let mut inference = session(false)?;
        let mut runs = vec![self.named_outputs(self.with_input(|input| inference.forward(input))?)];
        if self.upstream.is_some() {
            let mut training = session(true)?;
            let output = self.with_input(|input| training.forward(input))?;
            let gradients = self.with_upstream(|up| training.backward(up))?;
            let mut run = self.named_outputs(output);
            run.extend(gradients.map(|g| self.named_gradients(g)).into_iter().flatten());
            runs.push(run);
        }
        Ok(runs)
    }

    /// What the naive loops make of it.
    pub(super) fn naive_run<T: Scalar>(&self) -> Result<Named> {
        let mut run = self.named_outputs(self.naive::<T>()?);
        run.extend(self.naive_gradients::<T>()?.map(|g| self.named_gradients(g)).into_iter().flatten());
        Ok(run)
    }

    /// What the naive loop makes of it in precision `T`: y, hn and cn in the golden's shapes.
    ///
    /// # Errors
    /// [`Error::Mismatch`] or [`Error::Unsupported`] for a golden put together by hand that does not fit together.
    pub fn naive<T: Scalar>(&self) -> Result<Output<T>> {
        let weights = self.weights.cast::<T>();
        self.with_input(|input| naive::forward(&self.config, &weights, input))
    }

    /// The gradients that the naive loop gives in precision `T`; `None` for a golden without upstream gradients.
    ///
    /// # Errors
    /// As [`Layers::naive`].
    pub fn naive_gradients<T: Scalar>(&self) -> Result<Option<Gradients<T>>> {
        let weights: Weights<T> = self.weights.cast();
        self.with_upstream(|up| self.with_input(|input| naive_backward::backward(&self.config, &weights, input, up)))
    }

    /// Runs `run` on the input in precision `T`.
    fn with_input<T: Scalar, R>(&self, run: impl FnOnce(&Input<'_, T>) -> Result<R>) -> Result<R> {
        let (x, h0, c0) = (cast(&self.x), self.h0.as_ref().map(cast), self.c0.as_ref().map(cast));
        let initial = Initial::Given { h0: h0.as_ref().map(Tensor::view), c0: c0.as_ref().map(Tensor::view) };
        run(&Input { lengths: self.lengths.as_deref(), initial, ..Input::new(x.view()) })
    }

    /// Runs `run` on the upstream gradients in precision `T`, if there are any.
    fn with_upstream<T: Scalar, R>(&self, run: impl FnOnce(&Upstream<'_, T>) -> Result<R>) -> Result<Option<R>> {
        let Some(up) = &self.upstream else { return Ok(None) };
        let (y, hn, cn) = (cast(&up.y), cast(&up.hn), up.cn.as_ref().map(cast));
        run(&Upstream { y: Some(y.view()), hn: Some(hn.view()), cn: cn.as_ref().map(Tensor::view) }).map(Some)
    }

    /// `out.*`, and the loss where there are upstream gradients.
    fn named_outputs<T: Scalar>(&self, output: Output<T>) -> Named {
        let mut list = vec![("out.y".to_string(), widen(output.y)), ("out.hn".into(), widen(output.hn))];
        list.extend(output.cn.map(|cn| ("out.cn".into(), widen(cn))));
        if let Some(up) = &self.upstream {
            let pairs = [Some(&up.y), Some(&up.hn), up.cn.as_ref()].into_iter().flatten().zip(&list);
            let loss = pairs.map(|(up, (_, out))| tolerance::product(&up.data, &out.data, |v| v)).sum();
            list.push(("out.loss".into(), Tensor { data: vec![loss], shape: vec![1] }));
        }
        list
    }

    /// `grad.*`
    fn named_gradients<T: Scalar>(&self, gradients: Gradients<T>) -> Named {
        let mut list =
            super::named_parameters(&self.config, &gradients.weights, |p: &Parameter| format!("grad.{}", p.name));
        list.extend([("grad.x".into(), widen(gradients.x)), ("grad.h0".into(), widen(gradients.h0))]);
        list.extend(gradients.c0.map(|c0| ("grad.c0".into(), widen(c0))));
        list
    }
}

fn config(reader: &Reader<'_>, cell: &'static Cell) -> Result<RnnConfig> {
    let bias = if reader.flag("bias", true)? { Bias::Two } else { Bias::None };
    let bidirectional = reader.flag("bidirectional", false)?;
    let batch_first = reader.flag("batch_first", false)?;
    Ok(RnnConfig {
        cell,
        input_size: reader.size("input_size", None)?,
        hidden_size: reader.size("hidden_size", None)?,
        num_layers: reader.size("num_layers", Some(1))?,
        direction: if bidirectional { Direction::Bidirectional } else { Direction::Forward },
        bias,
        proj_size: reader.size("proj_size", Some(0))?,
        layout: if batch_first { Layout::BatchFirst } else { Layout::TimeMajor },
        ..Default::default()
    })
}

fn shape(reader: &Reader<'_>) -> Result<Shape> {
    let shape = Shape { time: reader.size("T", None)?, batch: reader.size("B", None)? };
    shape.validate().map_err(|e| reader.in_file(e))?;
    Ok(shape)
}

fn upstream(reader: &mut Reader<'_>, sizes: &Sizes<'_>) -> Result<Output<f64>> {
    let cell_state = sizes.config.cell.has_cell_state();
    Ok(Output {
        y: reader.tensor("up.y", &sizes.sequence(sizes.config.output_size()))?,
        hn: reader.tensor("up.hn", &sizes.h())?,
        cn: cell_state.then(|| reader.tensor("up.cn", &sizes.c())).transpose()?,
        predictions: None,
    })
}

/// Σ up·out; its scale is that of the recorded outputs.
fn loss(reader: &mut Reader<'_>, up: &Output<f64>, outputs: &[Truth]) -> Result<Truth> {
    let mut truth = reader.truth("out.loss", &[1])?;
    let pairs = [Some(&up.y), Some(&up.hn), up.cn.as_ref()].into_iter().flatten().zip(outputs);
    truth.scale = pairs.map(|(up, out)| tolerance::product(&up.data, &out.tensor.data, f64::abs)).sum();
    Ok(truth)
}
