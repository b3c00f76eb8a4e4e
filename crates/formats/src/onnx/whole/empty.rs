//! Sequences of length 0. In ONNX Runtime a recurrent node gives zeros for one, and the nodes behind work on those; a network computes
//! nothing for one. So what it should give comes from another model, made when a run has such a sequence: the same graph, in which zeros
//! stand for what the recurrent nodes give.

use super::super::OnnxFile;
use super::run::{OnnxSession, OnnxTensor};
use super::value::{Kind, Laid, Value};
use super::{OnnxModel, OnnxNetwork, Shaped, stages};
use wgpu_rnn::network::NetworkOptions;
use wgpu_rnn::{Device, Element, Result};

/// What that other model is made of.
#[derive(Clone)]
pub struct WithoutSteps {
    file: OnnxFile,
    given: Vec<Shaped>,
    /// All that networks give, for others of them too.
    outputs: Vec<String>,
}

impl std::fmt::Debug for WithoutSteps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WithoutSteps").field("outputs", &self.outputs).finish_non_exhaustive()
    }
}

impl WithoutSteps {
    /// For these networks of a file; `None` where the sequences of all have all steps.
    pub fn new(file: &OnnxFile, given: &[Shaped], stages: &[OnnxNetwork]) -> Option<Self> {
        stages.iter().any(|stage| stage.lengths.is_some()).then(|| {
            let names = stages.iter().flat_map(|stage| &stage.outputs).map(|(name, _)| name.clone());
            let mut outputs: Vec<String> = names.collect();
            outputs.sort_unstable();
            outputs.dedup();
            Self { file: file.clone(), given: given.to_vec(), outputs }
        })
    }

    /// That model on a device. It has the inputs that the model itself has.
    ///
    /// # Errors
    /// As [`OnnxFile::model`] and [`OnnxModel::session`].
    pub fn session<T: Element>(&self, device: &Device, options: &NetworkOptions) -> Result<OnnxSession<T>> {
        let names: Vec<&str> = self.outputs.iter().map(String::as_str).collect();
        let model: OnnxModel = stages::model(&self.file, self.given.clone(), &names, stages::Wanted::WITHOUT_STEPS)?;
        model.session(device, options)
    }
}

impl OnnxNetwork {
    /// Puts what `right` gives for the sequences of length 0 into what a run of this network gave: of values that have a row per sequence.
    /// What a value has at a step that there is not stays 0.
    pub fn fill_empty<T: Element>(&self, lengths: &[usize], outputs: &mut [OnnxTensor<T>], right: &[OnnxTensor<T>]) {
        let all = lengths.iter().all(|&length| length == 0);
        for (output, (_, value)) in outputs.iter_mut().zip(&self.outputs) {
            let Value::Laid(laid) = value else { continue };
            let right = right.iter().find(|one| one.name == output.name && one.tensor.shape == output.tensor.shape);
            let Some(right) = right.filter(|_| !has_steps(laid)) else { continue };
            let places = laid.places();
            // Without an axis of sequences it is the same for all: some sequence that has steps has given it.
            let rows = lengths.iter().enumerate().filter(|&(_, &length)| length == 0 && (places.batch > 0 || all));
            for at in
                rows.flat_map(|(b, _)| (0..laid.columns.len()).map(move |c| (b, c))).map(|(b, c)| places.at(0, b, c))
            {
                if let (Some(to), Some(from)) = (output.tensor.data.get_mut(at), right.tensor.data.get(at)) {
                    *to = *from;
                }
            }
        }
    }
}

fn has_steps(laid: &Laid) -> bool {
    laid.axes.iter().any(|axis| matches!(axis.kind, Kind::Time | Kind::Both { .. }))
}
