//! Goldens of training: steps of Adam on embedding, LSTM stack, dense layer and mean cross entropy of the next token.
//!
//! Fields: `vocab` V, `emb` E, `hidden_size`, `num_layers`, `T`, `B`, `steps`, `lr`, `betas` (two), `eps`. Tensors: `in.ids`
//! `[steps, T + 1, B]`, ids below V (a step reads all tokens of its batch but the last and should name all but the first);
//! parameters of the modules `emb`, `rnn`, `out`: before the first step under `w0.`, their gradients in it under `grad0.`,
//! after the last under `w<steps>.`; `out.losses` `[steps]`, each before the step's update.

use super::golden::{Case, Reader, Truth};
use super::naive::Scalar;
use super::naive_ends::{Adam, pass};
use super::seq2seq::{in_modules, shifted};
use super::tolerance::Measure;
use super::{Named, named_parameters};
use wgpu_rnn::weights::{Parameter, Weights};
use wgpu_rnn::{
    Device, Head, Initial, Input, Loss, Optimiser, Options, Plan, Result, RnnConfig, Session, Shape, Targets, Tensor,
    Upstream, cells,
};

/// Bytes that a training step takes of one value of a layer at one step of time: its inputs, gates, states and gradients, in f64.
const STEP: u64 = 1 << 7;

/// A network, the batches that it learns from, and how.
#[derive(Clone, Debug)]
pub struct Training {
    /// The network: embedding, stack and head.
    pub config: RnnConfig,
    /// T and B of a batch.
    pub shape: Shape,
    /// The parameters before the first step.
    pub weights: Weights<f64>,
    /// One batch a step: the tokens that are read `[T, B]` and those that should be named `[T, B]`.
    pub batches: Vec<(Tensor<u32>, Tensor<u32>)>,
    /// The learning rate.
    pub rate: f64,
    /// Adam's decays of the two moments, each in 0..1.
    pub betas: [f64; 2],
    /// Adam's ε.
    pub epsilon: f64,
}

impl Training {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<(Case, Vec<Truth>)> {
        let config = config(reader)?;
        let (vocabulary, outputs) = (config.vocabulary.unwrap_or(0), config.head.map_or(0, |head| head.size));
        let shape = Shape { time: reader.size("T", None)?, batch: reader.size("B", None)? };
        shape.validate().map_err(|e| reader.in_file(e))?;
        let steps = reader.size("steps", None)?;
        if steps == 0 {
            return Err(reader.mismatch("steps", "at least 1", steps));
        }
        let ([rate], betas, [epsilon]) = (reader.numbers("lr")?, reader.numbers("betas")?, reader.numbers("eps")?);
        if let Some(beta) = betas.iter().find(|beta| !(0.0..1.0).contains(*beta)) {
            return Err(reader.mismatch("betas", "0 <= beta < 1", beta));
        }
        if let Some((field, value)) = [("lr", rate), ("eps", epsilon)].into_iter().find(|(_, value)| *value < 0.0) {
            return Err(reader.mismatch(field, "at least 0", value));
        }
        // The results of single steps are not in the file: nothing else bounds their size.
        let layers = config.input_size.saturating_add(cells::LSTM.input_gates() * config.hidden_size);
        let features = layers.saturating_mul(config.num_layers).saturating_add(outputs);
        reader.check_memory("values of a step", &[shape.time, shape.batch, features], STEP)?;

        let ids = reader.ids("in.ids", &[steps, shape.time + 1, shape.batch], vocabulary)?;
        let batches = ids.data.chunks_exact((shape.time + 1) * shape.batch).map(|ids| shifted(ids, shape)).collect();
        let weights = reader.weights(&config, |p| format!("w0.{}", name(p)))?;
        let mut truths = vec![reader.truth("out.losses", &[steps])?];
        truths.extend(reader.truths(&config, Measure::Largest, |p| format!("grad0.{}", name(p)))?);
        // Adam divides by the gradient's own size: where that is near ε, rounding errors of the gradient are as large as it,
        // and so is the error of the update. Single weights are ill-conditioned, a whole tensor is not.
        truths.extend(reader.truths(&config, Measure::Norm, |p| format!("w{steps}.{}", name(p)))?);
        Ok((Case::Training(Self { config, shape, weights, batches, rate, betas, epsilon }), truths))
    }

    /// What the executor makes of it: by whole steps on the device, and by the parts of one, of which the way back gives the
    /// gradients.
    pub(super) fn runs<T: Scalar>(&self, device: &Device, options: &Options) -> Result<Vec<Named>> {
        Ok(vec![self.by_steps::<T>(device, options)?, self.by_parts::<T>(device, options)?])
    }

    fn by_steps<T: Scalar>(&self, device: &Device, options: &Options) -> Result<Named> {
        let mut session = self.session::<T>(device, options)?;
        let mut losses = Vec::new();
        for batch in &self.batches {
            write(&mut session, batch)?;
            session.train_step(self.rate)?;
            losses.push(session.loss()?);
        }
        Ok(self.named(&losses, None, &session.weights()?))
    }

    fn by_parts<T: Scalar>(&self, device: &Device, options: &Options) -> Result<Named> {
        let mut session = self.session::<T>(device, options)?;
        let (mut losses, mut first) = (Vec::new(), None);
        for batch in &self.batches {
            write(&mut session, batch)?;
            session.run()?;
            losses.push(session.loss()?);
            let gradients = session.backward(&Upstream { y: None, hn: None, cn: None })?;
            session.update(self.rate)?;
            first.get_or_insert(gradients.weights);
        }
        Ok(self.named(&losses, first.as_ref(), &session.weights()?))
    }

    fn session<T: Scalar>(&self, device: &Device, options: &Options) -> Result<Session<T>> {
        let [beta1, beta2] = self.betas;
        let optimiser = Some(Optimiser::Adam { beta1, beta2, epsilon: self.epsilon });
        let options = Options { train: true, optimiser, ..options.clone() };
        let plan = Plan::new(&self.config, self.shape, &device.caps(), &options)?;
        let mut session = Session::from_plan(device, plan, &self.weights.cast())?;
        session.poison()?;
        Ok(session)
    }

    /// What the naive loops make of it.
    pub(super) fn naive_run<T: Scalar>(&self) -> Result<Named> {
        let mut weights = self.weights.cast::<T>();
        let mut adam = Adam::new(&self.config, self.betas, self.epsilon);
        let (mut losses, mut first) = (Vec::new(), None);
        for (ids, classes) in &self.batches {
            let pass = pass(&self.config, &weights, ids, classes, Initial::Zero)?;
            losses.push(pass.loss);
            adam.update(&self.config, &mut weights, &pass.gradients.weights, self.rate);
            first.get_or_insert(pass.gradients.weights);
        }
        Ok(self.named(&losses, first.as_ref(), &weights))
    }

    fn named<T: Scalar>(&self, losses: &[T], first: Option<&Weights<T>>, last: &Weights<T>) -> Named {
        let (config, steps) = (&self.config, losses.len());
        let losses = Tensor { data: losses.iter().map(|loss| loss.to_f64()).collect(), shape: vec![steps] };
        let mut list = vec![("out.losses".to_string(), losses)];
        list.extend(named_parameters(config, last, |p| format!("w{steps}.{}", name(p))));
        list.extend(first.into_iter().flat_map(|g| named_parameters(config, g, |p| format!("grad0.{}", name(p)))));
        list
    }
}

fn write<T: Scalar>(session: &mut Session<T>, (ids, classes): &(Tensor<u32>, Tensor<u32>)) -> Result<()> {
    session.write(&Input::of_ids(ids.view()))?;
    session.write_targets(&Targets::classes(classes.view()))
}

fn config(reader: &Reader<'_>) -> Result<RnnConfig> {
    let vocabulary = reader.size("vocab", None)?;
    let config = RnnConfig {
        cell: &cells::LSTM,
        input_size: reader.size("emb", None)?,
        hidden_size: reader.size("hidden_size", None)?,
        num_layers: reader.size("num_layers", Some(1))?,
        vocabulary: Some(vocabulary),
        head: Some(Head { size: vocabulary, loss: Some(Loss::CrossEntropy) }),
        ..Default::default()
    };
    reader.check_config(&config)?;
    Ok(config)
}

fn name(p: &Parameter) -> String {
    in_modules(p, "emb", "rnn")
}
