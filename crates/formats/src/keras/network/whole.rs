//! What a model becomes.

#[cfg(not(target_family = "wasm"))]
use super::KerasModel;
use super::KerasSteps;
use std::sync::Arc;
use wgpu_rnn::network::Network;
#[cfg(not(target_family = "wasm"))]
use wgpu_rnn::{Device, Element, ModelOptions};
use wgpu_rnn::{Error, Real, Result, View};

/// A model as a network, with its parameters; or as several, one behind the other, where layers of it give other steps than they read.
///
/// Where the model has a mask, [`KerasNetwork::lengths`] finds what to give as lengths: steps past a length are not computed and give
/// 0, where Keras repeats the last y of a recurrent layer (or gives 0, with `zero_output_for_mask`) and runs the layers behind it over
/// that.
#[derive(Clone, Debug)]
pub struct KerasNetwork {
    /// The networks, in the order in which they run: most models are one.
    pub stages: Vec<KerasStage>,
    /// What the model reads.
    pub inputs: Vec<KerasInput>,
    /// What it gives.
    pub outputs: Vec<KerasOutput>,
    /// T of the inputs, where the model is made for one: a `Flatten` over the steps is wrong for any other.
    pub time: Option<usize>,
    /// Every input has a number of steps of its own: in the model a recurrent layer begins from the states of another, as a decoder's from
    /// an encoder's.
    pub own_steps: bool,
}

/// One of the networks of a model.
#[derive(Clone, Debug)]
pub struct KerasStage {
    /// The network; inputs and outputs of the model have the names of its layers.
    pub network: Arc<Network>,
    /// All parameters, one after the other in the network's order; [`KerasStage::params`] gives them as another type.
    pub values: Vec<f64>,
    /// What its inputs are, in its order.
    pub feeds: Vec<KerasFeed>,
    /// Its own T, where it is made for one.
    pub time: Option<usize>,
    /// What its operations carry over steps, in their order: [`wgpu_rnn::ModelOutput::states`].
    pub states: Vec<KerasState>,
    /// Which of [`KerasNetwork::inputs`] has its steps; `None` where they are others, or it has none.
    pub steps_of: Option<usize>,
}

/// A state of one of the networks.
#[derive(Clone, Debug, PartialEq)]
pub struct KerasState {
    /// Values of a sequence.
    pub size: usize,
    /// What it begins with, side by side; none: zeros.
    pub begin: Vec<KerasBegin>,
}

/// A part of what a state begins with: a value that has a row per sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct KerasBegin {
    /// Whose value it is.
    pub from: KerasFrom,
    /// Columns.
    pub width: usize,
}

/// What an input of one of the networks is.
#[derive(Clone, Debug, PartialEq)]
pub struct KerasFeed {
    /// The input's name in the network.
    pub name: String,
    /// Whose value it is.
    pub from: KerasFrom,
    /// How the steps of that value become those of the input.
    pub steps: KerasSteps,
    /// The value has its steps where x has them, and Keras from the last to the first, which is the order that `steps` counts in.
    pub reversed: bool,
}

/// Where the value of an input comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KerasFrom {
    /// It is that of [`KerasNetwork::inputs`].
    Model(usize),
    /// A network before has it as an output.
    Stage {
        /// Which of [`KerasNetwork::stages`].
        stage: usize,
        /// The output's name.
        output: String,
    },
    /// Cell states of a recurrent layer, which a network before gives behind its last step.
    State {
        /// Which of [`KerasNetwork::stages`].
        stage: usize,
        /// Which of its states.
        state: usize,
        /// Where they begin in that.
        first: usize,
        /// How many there are.
        width: usize,
    },
}

/// An input of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct KerasInput {
    /// The name of its `InputLayer`.
    pub name: String,
    /// Columns: `[T, B, width]`, or `[B, width]`; of token ids one.
    pub width: usize,
    /// Whether it has a row per step.
    pub steps: bool,
    /// Whether it is token ids, as numbers.
    pub ids: bool,
    /// Which of its steps are no steps.
    pub mask: Option<KerasMask>,
}

/// What marks a step of an input as masked: all its columns are this number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KerasMask(pub f64);

/// An output of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct KerasOutput {
    /// The name of the layer that gives it.
    pub name: String,
    /// Columns: `[T, B, width]`, or `[B, width]`.
    pub width: usize,
    /// Whether it has a row per step.
    pub steps: bool,
    /// Keras gives the steps of this output from the last to the first (`go_backwards`); the network has them where x has them.
    pub reversed: bool,
    /// Which of [`KerasNetwork::stages`] gives it.
    pub stage: usize,
    /// It is no output of that network but cell states behind its last step: of which of its states, and where they begin in that.
    pub state: Option<(usize, usize)>,
}

impl KerasStage {
    /// All parameters as the type of a session.
    pub fn params<T: Real>(&self) -> Vec<T> {
        self.values.iter().map(|&v| T::from_f64(v)).collect()
    }

    /// Whether its steps are those of the model's inputs.
    pub fn has_the_models_steps(&self) -> bool {
        self.steps_of.is_some()
            || self.feeds.iter().all(|feed| feed.steps == KerasSteps::Same && matches!(feed.from, KerasFrom::Model(_)))
    }

    /// Whether one of its inputs has other steps than the value that it is.
    pub(super) fn has_own_steps(&self) -> bool {
        self.feeds.iter().any(|feed| !matches!(feed.steps, KerasSteps::Same | KerasSteps::Spread(_)))
    }
}

impl KerasNetwork {
    /// The model on a device, for batches of any shape.
    ///
    /// # Errors
    /// As [`wgpu_rnn::Model::new`].
    #[cfg(not(target_family = "wasm"))]
    pub fn model<T: Element>(&self, device: &Device) -> Result<KerasModel<T>> {
        KerasModel::with_options(device, self, &ModelOptions::default())
    }

    /// The lengths that the masks of the model leave of a batch; `None` for a model without masks, and for one whose inputs have steps of
    /// their own ([`KerasNetwork::own_steps`]): there [`KerasModel::forward`] takes those of every input from its mask. `inputs` as
    /// [`KerasModel::forward`] takes them.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for an input that is missing or of another shape; [`Error::Unsupported`] where masked steps stand before or
    /// between others, or masks of several inputs differ.
    pub fn lengths<T: Real>(&self, inputs: &[(&str, View<'_, T>)]) -> Result<Option<Vec<usize>>> {
        let mut lengths: Option<Vec<usize>> = None;
        if self.own_steps {
            return Ok(None);
        }
        for input in &self.inputs {
            let Some(own) = input.lengths(inputs)? else { continue };
            if lengths.as_ref().is_some_and(|others| *others != own) {
                let reason = "a network has one length per sequence".into();
                return Err(Error::Unsupported { what: "inputs whose masks differ".into(), reason });
            }
            lengths = Some(own);
        }
        Ok(lengths)
    }
}

impl KerasInput {
    /// The lengths that its mask leaves of a batch; `None` without a mask.
    pub(super) fn lengths<T: Real>(&self, inputs: &[(&str, View<'_, T>)]) -> Result<Option<Vec<usize>>> {
        let input = self;
        let Some(KerasMask(masked)) = input.mask else { return Ok(None) };
        let view = inputs.iter().find(|(name, _)| *name == input.name).map(|(_, view)| view);
        let view = view.ok_or_else(|| Error::mismatch(format!("input {}", input.name), "a value", "none"))?;
        let &[time, batch, width] = view.shape else {
            return Err(Error::mismatch(format!("input {}", input.name), "[T, B, width]", format!("{:?}", view.shape)));
        };
        view.check(&format!("input {}", input.name), &["T", "B", "width"], &[time, batch, input.width])?;
        let real = |t: usize, b: usize| {
            let step = view.data.iter().skip((t * batch + b) * width).take(width);
            step.clone().any(|v| T::from_f64(masked) != *v)
        };
        let own: Vec<usize> =
            (0..batch).map(|b| (0..time).rev().find(|&t| real(t, b)).map_or(0, |last| last + 1)).collect();
        if let Some((b, t)) = (0..batch).flat_map(|b| (0..own[b]).map(move |t| (b, t))).find(|&(b, t)| !real(t, b)) {
            return Err(Error::Unsupported {
                what: format!("step {t} of sequence {b} of {}, masked and before a real one", input.name),
                reason: "padding must be at the end: move the real steps of the sequence to its front".into(),
            });
        }
        Ok(Some(own))
    }
}
