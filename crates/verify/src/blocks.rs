//! Goldens of whole models of blocks (`kind` mamba_block, falconmamba_block, mamba2_block, rwkv4_block, rwkv6_block, rwkv7_block,
//! rwkv7fla_block): parameters `w.*` by
//! their published names, the embedded tokens `in.x` `[B, T, hidden_size]`, `out.y`, `out.y_prefix` (of the first T/2 steps alone), and,
//! if it recorded gradients, the upstream one `up.y` and all that follow from it: `grad.x` and `grad.<parameter>`.
//!
//! Fields: `B`, `T` and the model's sizes, of the Mambas and RWKV-4 under transformers' names. Every run is made with steps one after the other, in chunks, and
//! by a plan that trains.

use super::golden::{Case, Reader, Truth};
use super::naive::Scalar;
use super::tape::Number;
use super::{Named, cast, naive_blocks, widen};
use std::sync::Arc;
use wgpu_rnn::blocks::{Mamba, Mamba2, Model, Rwkv4, Rwkv6, Rwkv7, Rwkv7Names};
use wgpu_rnn::network::{
    Network, NetworkInput, NetworkOptions, NetworkPlan, NetworkSession, NetworkUpstream, Parallel,
};
use wgpu_rnn::{Device, Element, Error, Options, Result, Shape, Tensor};

/// A model and its input. Values are f64 whatever they were stored in.
#[derive(Clone, Debug)]
pub struct Blocks {
    /// The model.
    pub model: Model,
    /// T and B.
    pub shape: Shape,
    /// Its parameters, as files hold them.
    pub params: Vec<(String, Tensor<f64>)>,
    /// x `[T, B, hidden_size]`
    pub x: Tensor<f64>,
    /// The gradient of y, in its shape; `None` where nothing of the way back was recorded.
    pub dy: Option<Tensor<f64>>,
}

impl Blocks {
    pub(super) fn read(reader: &mut Reader<'_>, kind: &str) -> Result<(Case, Vec<Truth>)> {
        let shape = Shape { time: reader.size("T", None)?, batch: reader.size("B", None)? };
        shape.validate().map_err(|e| reader.in_file(e))?;
        if shape.time < 2 {
            return Err(reader.mismatch("T", "at least 2 steps, for y_prefix", shape.time));
        }
        let model = model(reader, kind)?;
        let width = model.hidden_size();
        let batch_first = |time: usize| [shape.batch, time, width];
        reader.check_values("in.x", batch_first(shape.time))?;
        let network = model.network().map_err(|e| reader.in_file(e))?;
        reader.check_values("parameters", [network.parameter_count(), 1, 1])?;
        let x = time_first(reader.tensor("in.x", &batch_first(shape.time))?);
        let has_back = reader.has_any(|name| name.starts_with("up.") || name.starts_with("grad."));
        let dy = has_back.then(|| reader.tensor("up.y", &batch_first(shape.time))).transpose()?.map(time_first);
        let named = network.named(&vec![0.0; network.parameter_count()])?;
        let param = |(name, like): (String, Tensor<f64>)| {
            let values = reader.tensor(&format!("w.{name}"), &like.shape)?;
            Ok((name, values))
        };
        let params = named.into_iter().map(param).collect::<Result<Vec<_>>>()?;
        let mut truths = vec![
            reader.truth("out.y", &batch_first(shape.time))?,
            reader.truth("out.y_prefix", &batch_first(shape.time / 2))?,
        ];
        if has_back {
            truths.push(reader.truth("grad.x", &batch_first(shape.time))?);
        }
        for (name, p) in params.iter().filter(|_| has_back) {
            truths.push(reader.truth(&format!("grad.{name}"), &p.shape)?);
        }
        Ok((Case::Blocks(Self { model, shape, params, x, dy }), truths))
    }

    /// What the executor makes of it, in all ways of going over time.
    pub(super) fn runs<T: Scalar + Element>(&self, device: &Device, options: &Options) -> Result<Vec<Named>> {
        let network = Arc::new(self.model.network()?);
        let params = network.flat(|name| Ok(self.params.iter().find(|(n, _)| n == name).map(|(_, t)| cast::<T>(t))))?;
        let mut runs = Vec::new();
        for parallel in [Parallel::Recurrent, Parallel::Chunked, Parallel::Products] {
            // Chunks of 8: several, and a last one that is shorter.
            let options = NetworkOptions {
                parallel: Some(parallel),
                chunk: Some(8),
                precision: options.precision,
                ..Default::default()
            };
            let run = |train: bool, time: usize| {
                let options = NetworkOptions { train, ..options.clone() };
                let shape = Shape { time, ..self.shape };
                let plan = NetworkPlan::new(&network, shape, &device.caps(), &options)?;
                let mut session = NetworkSession::<T>::new(device, plan, &params)?;
                session.poison()?;
                Ok::<_, Error>(session)
            };
            let (whole, prefix) = (self.shape.time, self.shape.time / 2);
            runs.push(vec![
                self.output(&mut run(false, whole)?, "out.y")?,
                self.output(&mut run(false, prefix)?, "out.y_prefix")?,
            ]);
            if let Some(dy) = &self.dy {
                runs.push(self.trained(&mut run(true, whole)?, &network, &cast::<T>(dy))?);
            }
        }
        Ok(runs)
    }

    fn output<T: Scalar + Element>(
        &self,
        session: &mut NetworkSession<T>,
        name: &str,
    ) -> Result<(String, Tensor<f64>)> {
        let x = prefix(&cast::<T>(&self.x), session.plan().shape.time);
        let mut output = session.forward(&NetworkInput::new(&[x.view()]))?;
        Ok((name.into(), batch_first(widen(output.values.remove(0)))))
    }

    /// `out.y` and `grad.*` of a training run.
    fn trained<T: Scalar + Element>(
        &self,
        session: &mut NetworkSession<T>,
        network: &Network,
        dy: &Tensor<T>,
    ) -> Result<Named> {
        let mut list = vec![self.output(session, "out.y")?];
        let mut gradients = session.backward(&NetworkUpstream { values: &[dy.view()], states: None })?;
        let flat: Vec<T> = gradients.params.into_iter().flat_map(|p| p.data).collect();
        list.extend(network.named(&flat)?.into_iter().map(|(name, t)| (format!("grad.{name}"), widen(t))));
        list.push(("grad.x".into(), batch_first(widen(gradients.inputs.remove(0)))));
        Ok(list)
    }

    /// What the naive loops make of it.
    pub(super) fn naive_run<T: Number>(&self) -> Result<Named> {
        let nothing = || Tensor { data: vec![0.0; self.x.data.len()], ..self.x.clone() };
        let dy = self.dy.clone().unwrap_or_else(nothing);
        let run = naive_blocks::run::<T>(&self.model, &self.params, &self.x, &dy)?;
        // A prefix of a causal model's output is the output of the prefix.
        let y_prefix = batch_first(prefix(&run.y, self.shape.time / 2));
        let mut list = vec![
            ("out.y".to_string(), batch_first(run.y)),
            ("out.y_prefix".into(), y_prefix),
            ("grad.x".into(), batch_first(run.dx)),
        ];
        list.extend(run.params.into_iter().map(|(name, t)| (format!("grad.{name}"), t)));
        Ok(list)
    }
}

/// The model's sizes; those that are derived from others in transformers' configurations may be left out, as there.
fn model(reader: &Reader<'_>, kind: &str) -> Result<Model> {
    // Everything has a tensor that is at least as long.
    let size = |field: &str| {
        let size = reader.size(field, None)?;
        reader.check_values(field, [size, 1, 1]).map(|()| size)
    };
    let (hidden_size, num_layers) = (size("hidden_size")?, size("num_hidden_layers")?);
    reader.check_layers("num_hidden_layers", num_layers)?;
    let epsilon = || reader.numbers("layer_norm_epsilon").map(|[epsilon]| epsilon);
    let flags = || Ok::<_, Error>((reader.flag("use_bias", false)?, reader.flag("use_conv_bias", true)?));
    Ok(match kind {
        "mamba_block" | "falconmamba_block" => {
            let mixer_epsilon = || reader.numbers("mixer_rms_eps").map(|[epsilon]| epsilon);
            let (use_bias, use_conv_bias) = flags()?;
            Model::Mamba(Mamba {
                hidden_size,
                intermediate_size: size("intermediate_size")?,
                state_size: size("state_size")?,
                conv_kernel: size("conv_kernel")?,
                time_step_rank: size("time_step_rank")?,
                num_layers,
                use_bias,
                use_conv_bias,
                epsilon: epsilon()?,
                mixer_epsilon: (kind == "falconmamba_block").then(mixer_epsilon).transpose()?,
            })
        }
        "mamba2_block" => {
            let (use_bias, use_conv_bias) = flags()?;
            Model::Mamba2(Mamba2 {
                hidden_size,
                num_heads: size("num_heads")?,
                head_dim: size("head_dim")?,
                state_size: size("state_size")?,
                n_groups: size("n_groups")?,
                conv_kernel: size("conv_kernel")?,
                num_layers,
                use_bias,
                use_conv_bias,
                epsilon: epsilon()?,
            })
        }
        "rwkv6_block" => Model::Rwkv6(Rwkv6 {
            hidden_size,
            head_size: size("head_size")?,
            intermediate_size: size("intermediate_size")?,
            mix_rank: size("mix_rank")?,
            decay_rank: size("decay_rank")?,
            num_layers,
        }),
        "rwkv7_block" | "rwkv7fla_block" => Model::Rwkv7(Rwkv7 {
            hidden_size,
            head_size: size("head_size")?,
            intermediate_size: size("intermediate_size")?,
            decay_rank: size("decay_rank")?,
            rate_rank: size("rate_rank")?,
            value_rank: size("value_rank")?,
            gate_rank: size("gate_rank")?,
            num_layers,
            names: if kind == "rwkv7_block" { Rwkv7Names::RwkvLm } else { Rwkv7Names::Fla },
        }),
        _ => Model::Rwkv4(Rwkv4 {
            hidden_size,
            attention_hidden_size: size("attention_hidden_size")?,
            intermediate_size: size("intermediate_size")?,
            num_layers,
            epsilon: epsilon()?,
        }),
    })
}

/// The first steps of `[T, B, width]`.
fn prefix<T: Copy>(whole: &Tensor<T>, time: usize) -> Tensor<T> {
    let (batch, width) = (whole.shape[1], whole.shape[2]);
    Tensor { data: whole.data[..time * batch * width].to_vec(), shape: vec![time, batch, width] }
}

/// `[B, T, width]` as `[T, B, width]`.
fn time_first(tensor: Tensor<f64>) -> Tensor<f64> {
    let &[outer, inner, width] = tensor.shape.as_slice() else { return tensor };
    let row = |n: usize| &tensor.data[(n % outer * inner + n / outer) * width..][..width];
    Tensor { data: (0..outer * inner).flat_map(row).copied().collect(), shape: vec![inner, outer, width] }
}

/// `[T, B, width]` as `[B, T, width]`.
fn batch_first(tensor: Tensor<f64>) -> Tensor<f64> {
    time_first(tensor)
}
