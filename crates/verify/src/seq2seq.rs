//! Goldens of an encoder and a decoder: the encoder reads embedded source tokens from a zero state, the decoder embedded
//! target tokens (teacher forcing) from the encoder's last state, and a dense layer over its y names each next token.
//!
//! Fields: `vocab` V, `emb` E, `hidden_size`, `num_layers`, `TS`, `TD` (steps of encoder and decoder), `B`. Tensors: `in.src`
//! `[TS, B]` and `in.tgt` `[TD + 1, B]`, ids below V (the decoder reads all targets but the last and should name all but the
//! first); parameters and gradients of the modules `emb_src`, `emb_tgt`, `enc`, `dec`, `out` under `w.` and `grad.`;
//! `out.enc_y`, `out.enc_hn`, `out.enc_cn` (LSTM), `out.dec_y`, `out.logits` `[TD, B, V]`, `out.loss` (mean cross entropy), and
//! `grad.emb_src_seq`, `grad.emb_tgt_seq`: gradients of what the stacks read.

use super::golden::{Case, Reader, Truth};
use super::naive::{self, Scalar};
use super::naive_ends::{embedded, embedding_gradient, pass};
use super::tolerance::Measure;
use super::{Named, naive_backward, named_parameters, widen};
use wgpu_rnn::weights::{Parameter, Place, Weights};
use wgpu_rnn::{
    Cell, Device, Gradients, Head, Initial, Input, Loss, Options, Output, Plan, Result, RnnConfig, Session, Shape,
    Targets, Tensor, Upstream,
};

/// An encoder, a decoder, and a batch of sentences for both.
#[derive(Clone, Debug)]
pub struct Seq2Seq {
    /// The encoder: embedding and stack.
    pub encoder: Part,
    /// The decoder: embedding, stack and head.
    pub decoder: Part,
    /// What the decoder should name `[TD, B]`.
    pub classes: Tensor<u32>,
}

/// The encoder or the decoder, and what it reads.
#[derive(Clone, Debug)]
pub struct Part {
    /// The stack and its ends.
    pub config: RnnConfig,
    /// T and B.
    pub shape: Shape,
    /// Its parameters.
    pub weights: Weights<f64>,
    /// The tokens it reads `[T, B]`.
    pub ids: Tensor<u32>,
}

impl Seq2Seq {
    pub(super) fn read(reader: &mut Reader<'_>, cell: &'static Cell) -> Result<(Case, Vec<Truth>)> {
        let vocabulary = reader.size("vocab", None)?;
        let encoder = RnnConfig {
            cell,
            input_size: reader.size("emb", None)?,
            hidden_size: reader.size("hidden_size", None)?,
            num_layers: reader.size("num_layers", Some(1))?,
            vocabulary: Some(vocabulary),
            ..Default::default()
        };
        let head = Some(Head { size: vocabulary, loss: Some(Loss::CrossEntropy) });
        let decoder = RnnConfig { head, ..encoder.clone() };
        let batch = reader.size("B", None)?;
        let [source, target] = ["TS", "TD"].map(|steps| Ok(Shape { time: reader.size(steps, None)?, batch }));
        let (source, target) = (source?, target?);
        for (config, shape) in [(&encoder, source), (&decoder, target)] {
            reader.check_config(config)?;
            shape.validate().map_err(|e| reader.in_file(e))?;
        }

        let ids = reader.ids("in.src", &[source.time, batch], vocabulary)?;
        let weights = reader.weights(&encoder, |p| format!("w.{}", in_encoder(p)))?;
        let encoder = Part { config: encoder, shape: source, weights, ids };
        let targets = reader.ids("in.tgt", &[target.time + 1, batch], vocabulary)?;
        let (ids, classes) = shifted(&targets.data, target);
        let weights = reader.weights(&decoder, |p| format!("w.{}", in_decoder(p)))?;
        let decoder = Part { config: decoder, shape: target, weights, ids };
        let truths = truths(reader, &encoder, &decoder, vocabulary)?;
        Ok((Case::Seq2Seq(Self { encoder, decoder, classes }), truths))
    }

    /// What the executor makes of it: by inference, by training with states and their gradients going from session to session on
    /// the device, and by training with both going over the host.
    pub(super) fn runs<T: Scalar>(&self, device: &Device, options: &Options) -> Result<Vec<Named>> {
        let training = Options { train: true, ..options.clone() };
        Ok(vec![
            self.inferred::<T>(device, options)?,
            self.trained_on_the_device::<T>(device, &training)?,
            self.trained_over_the_host::<T>(device, &training)?,
        ])
    }

    fn inferred<T: Scalar>(&self, device: &Device, options: &Options) -> Result<Named> {
        let (mut encoder, mut decoder) = self.sessions::<T>(device, options)?;
        let (state, mut run) = self.encoded(&mut encoder)?;
        let output = decoder.forward(&self.decoder_input(&state))?;
        run.push(("out.dec_y".into(), widen(output.y)));
        run.extend(self.decoded(&mut decoder, &encoder)?);
        Ok(run)
    }

    fn trained_on_the_device<T: Scalar>(&self, device: &Device, options: &Options) -> Result<Named> {
        let (mut encoder, mut decoder) = self.sessions::<T>(device, options)?;
        let (_, mut run) = self.encoded(&mut encoder)?;
        run.extend(self.decoded(&mut decoder, &encoder)?);
        run.extend(self.decoder_gradients(decoder.backward(&nothing())?));
        encoder.write_upstream_from(&decoder)?;
        run.extend(self.encoder_gradients(&encoder.run_backward()?));
        Ok(run)
    }

    fn trained_over_the_host<T: Scalar>(&self, device: &Device, options: &Options) -> Result<Named> {
        let (mut encoder, mut decoder) = self.sessions::<T>(device, options)?;
        let (state, mut run) = self.encoded(&mut encoder)?;
        // For y, which a run with targets does not give.
        let output = decoder.forward(&self.decoder_input(&state))?;
        run.push(("out.dec_y".into(), widen(output.y)));
        decoder.write(&self.decoder_input(&state))?;
        decoder.write_targets(&Targets::classes(self.classes.view()))?;
        decoder.run()?;
        let back = decoder.backward(&nothing())?;
        let gradients = encoder.backward(&state_gradients(&back))?;
        run.extend(self.decoder_gradients(back));
        run.extend(self.encoder_gradients(&gradients.weights));
        run.push(("grad.emb_src_seq".into(), widen(gradients.x)));
        Ok(run)
    }

    fn sessions<T: Scalar>(&self, device: &Device, options: &Options) -> Result<(Session<T>, Session<T>)> {
        Ok((self.encoder.session(device, options)?, self.decoder.session(device, options)?))
    }

    fn encoded<T: Scalar>(&self, encoder: &mut Session<T>) -> Result<(Output<T>, Named)> {
        let output = encoder.forward(&Input::of_ids(self.encoder.ids.view()))?;
        let named = encoder_outputs(output.clone());
        Ok((output, named))
    }

    /// The decoder's run from the encoder's last state, on the device.
    fn decoded<T: Scalar>(&self, decoder: &mut Session<T>, encoder: &Session<T>) -> Result<Named> {
        decoder.write(&Input::of_ids(self.decoder.ids.view()))?;
        decoder.write_initial_from(encoder)?;
        decoder.write_targets(&Targets::classes(self.classes.view()))?;
        decoder.run()?;
        Ok(decoder_outputs(decoder.predictions()?, decoder.loss()?))
    }

    fn decoder_input<'a, T: Scalar>(&'a self, state: &'a Output<T>) -> Input<'a, T> {
        Input { initial: state_of(state), ..Input::of_ids(self.decoder.ids.view()) }
    }

    /// What the naive loops make of it.
    pub(super) fn naive_run<T: Scalar>(&self) -> Result<Named> {
        let (encoder, weights) = (&self.encoder.config, self.encoder.weights.cast::<T>());
        let x = embedded(encoder, &weights, &self.encoder.ids);
        let output = naive::forward(encoder, &weights, &Input::new(x.view()))?;
        let decoder_weights = self.decoder.weights.cast::<T>();
        let decoded =
            pass(&self.decoder.config, &decoder_weights, &self.decoder.ids, &self.classes, state_of(&output))?;
        let upstream = state_gradients(&decoded.gradients);
        let mut gradients = naive_backward::backward(encoder, &weights, &Input::new(x.view()), &upstream)?;
        embedding_gradient(&self.encoder.ids, &gradients.x, &mut gradients.weights.embedding);

        let mut run = encoder_outputs(output);
        run.extend(self.encoder_gradients(&gradients.weights));
        run.push(("grad.emb_src_seq".into(), widen(gradients.x)));
        run.push(("out.dec_y".into(), widen(decoded.output.y)));
        run.extend(decoder_outputs(decoded.logits, decoded.loss));
        run.extend(self.decoder_gradients(decoded.gradients));
        Ok(run)
    }

    fn encoder_gradients<T: Scalar>(&self, weights: &Weights<T>) -> Named {
        named_parameters(&self.encoder.config, weights, |p| format!("grad.{}", in_encoder(p)))
    }

    fn decoder_gradients<T: Scalar>(&self, gradients: Gradients<T>) -> Named {
        let config = &self.decoder.config;
        let mut list = named_parameters(config, &gradients.weights, |p| format!("grad.{}", in_decoder(p)));
        list.push(("grad.emb_tgt_seq".into(), widen(gradients.x)));
        list
    }
}

impl Part {
    fn session<T: Scalar>(&self, device: &Device, options: &Options) -> Result<Session<T>> {
        let plan = Plan::new(&self.config, self.shape, &device.caps(), options)?;
        let mut session = Session::from_plan(device, plan, &self.weights.cast())?;
        session.poison()?;
        Ok(session)
    }
}

/// Where a decoder goes back from: its loss alone.
fn nothing<T>() -> Upstream<'static, T> {
    Upstream { y: None, hn: None, cn: None }
}

fn state_of<T>(output: &Output<T>) -> Initial<'_, T> {
    Initial::Given { h0: Some(output.hn.view()), c0: output.cn.as_ref().map(Tensor::view) }
}

/// What goes back from a decoder into its encoder.
fn state_gradients<T>(back: &Gradients<T>) -> Upstream<'_, T> {
    Upstream { y: None, hn: Some(back.h0.view()), cn: back.c0.as_ref().map(Tensor::view) }
}

fn encoder_outputs<T: Scalar>(output: Output<T>) -> Named {
    let mut list = vec![("out.enc_y".to_string(), widen(output.y)), ("out.enc_hn".into(), widen(output.hn))];
    list.extend(output.cn.map(|cn| ("out.enc_cn".into(), widen(cn))));
    list
}

fn decoder_outputs<T: Scalar>(logits: Tensor<T>, loss: T) -> Named {
    let loss = Tensor { data: vec![loss.to_f64()], shape: vec![1] };
    vec![("out.logits".into(), widen(logits)), ("out.loss".into(), loss)]
}

fn truths(reader: &mut Reader<'_>, encoder: &Part, decoder: &Part, vocabulary: usize) -> Result<Vec<Truth>> {
    let RnnConfig { cell, input_size, hidden_size, num_layers, .. } = encoder.config;
    let sequence = |part: &Part, width: usize| [part.shape.time, part.shape.batch, width];
    let state = [num_layers, encoder.shape.batch, hidden_size];
    let mut list = vec![
        reader.truth("out.enc_y", &sequence(encoder, hidden_size))?,
        reader.truth("out.enc_hn", &state)?,
        reader.truth("out.dec_y", &sequence(decoder, hidden_size))?,
        reader.truth("out.logits", &sequence(decoder, vocabulary))?,
        reader.truth("out.loss", &[1])?,
        reader.truth("grad.emb_src_seq", &sequence(encoder, input_size))?,
        reader.truth("grad.emb_tgt_seq", &sequence(decoder, input_size))?,
    ];
    if cell.has_cell_state() {
        list.push(reader.truth("out.enc_cn", &state)?);
    }
    list.extend(reader.truths(&encoder.config, Measure::Largest, |p| format!("grad.{}", in_encoder(p)))?);
    list.extend(reader.truths(&decoder.config, Measure::Largest, |p| format!("grad.{}", in_decoder(p)))?);
    Ok(list)
}

/// Sequences of one step more than `shape` as what is read (all steps but the last) and what should be named (all but the
/// first).
pub(super) fn shifted(ids: &[u32], shape: Shape) -> (Tensor<u32>, Tensor<u32>) {
    let Shape { time, batch } = shape;
    let steps = |first: usize| Tensor { data: ids[first * batch..][..time * batch].to_vec(), shape: vec![time, batch] };
    (steps(0), steps(1))
}

fn in_encoder(p: &Parameter) -> String {
    in_modules(p, "emb_src", "enc")
}

fn in_decoder(p: &Parameter) -> String {
    in_modules(p, "emb_tgt", "dec")
}

/// The name of a parameter in a network of PyTorch modules: an embedding, a stack, and a dense layer `out`.
pub(super) fn in_modules(p: &Parameter, embedding: &str, stack: &str) -> String {
    match p.place {
        Place::Embedding => format!("{embedding}.weight"),
        Place::Head => "out.weight".into(),
        Place::HeadBias => "out.bias".into(),
        Place::Layer(..) => format!("{stack}.{}", p.name),
    }
}
