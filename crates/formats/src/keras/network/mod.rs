//! A whole model as a network: its layers in the order in which they read one another, each by its row of the table in `layers`.
//!
//! A layer that gives other steps than it reads ends the network that it reads from, and what it gives is an input of another (`stages`).
//!
//! Keras's values have the batch in front, `[B, T, ...]` or `[B, ...]`; a [`Value`] says which columns of the network's hold one.

mod layers;
mod recurrent;
#[cfg(not(target_family = "wasm"))]
mod run;
mod stages;
mod steps;
mod time;
mod whole;
mod windows;

#[cfg(not(target_family = "wasm"))]
pub use run::KerasModel;
pub use steps::{KerasFill, KerasPadding, KerasSteps, KerasWindows};
pub use whole::{
    KerasBegin, KerasFeed, KerasFrom, KerasInput, KerasMask, KerasNetwork, KerasOutput, KerasStage, KerasState,
};

use super::KerasFile;
use super::config::{Call, LayerConfig, ModelConfig, Source, shown};
use super::hdf5::Array;
use super::store::{Inner, Store};
use crate::onnx::parts::within;
use stages::{Clock, Stage};
use std::collections::{HashMap, HashSet};
use wgpu_rnn::network::{ParamId, Part};
use wgpu_rnn::{Error, Result, Tensor};

/// Operations of a network, at most, about.
const MOST_OPERATIONS: usize = 1 << 16;

/// One of Keras's values.
#[derive(Clone, Debug, PartialEq)]
struct Value {
    part: Part,
    /// Of which of the networks its part is.
    stage: usize,
    /// A row per step; otherwise one per sequence.
    steps: bool,
    /// Its dimensions behind batch and time; their product is the part's width. None for token ids.
    features: Vec<usize>,
    /// T, if the model says it.
    time: Option<usize>,
    /// Keras has the steps the other way round.
    reversed: bool,
    /// It has a mask.
    masked: bool,
    /// It is no value of the network but a cell state, which a run gives behind its last step: that one. `part` is the h beside it.
    held: Option<Held>,
}

/// Cell states of a recurrent layer.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Held {
    /// Which of its network's states.
    state: usize,
    /// Where they begin in that.
    first: usize,
}

impl Value {
    fn with(&self, part: Part) -> Self {
        Self { part, features: vec![part.width], ..self.clone() }
    }

    /// Whether an axis, which may count from the end, is the last of a value of its rank.
    fn is_last(&self, axis: i64, per_row: bool) -> bool {
        let rank = 1 + usize::from(self.steps && !per_row) + self.features.len();
        axis == -1 || usize::try_from(axis).is_ok_and(|axis| axis + 1 == rank)
    }
}

/// A call of a layer.
struct Step<'a> {
    layer: &'a LayerConfig,
    store: &'a Store,
    inner: Inner,
    /// Its name in the network.
    name: String,
    inputs: &'a [Value],
    /// What a recurrent layer begins from, of networks before or inputs of the model.
    begin: &'a [Value],
    call: &'a Call,
    /// In a `TimeDistributed`: the layer sees a row by itself.
    per_row: bool,
}

impl Step<'_> {
    /// What a layer of one input reads.
    fn x(&self) -> Result<&Value> {
        match self.inputs {
            [x] => Ok(x),
            _ => Err(Error::mismatch("inputs", 1, self.inputs.len())),
        }
    }

    /// What a layer reads that works along the last axis, the only one behind batch and time.
    fn row(&self) -> Result<&Value> {
        let x = self.x()?;
        if x.features.iter().rev().skip(1).any(|&d| d != 1) || x.features.is_empty() {
            return Err(Error::Unsupported {
                what: format!("an input of features {:?}", x.features),
                reason: "expected one dimension behind batch and time".into(),
            });
        }
        Ok(x)
    }
}

/// A network in the making.
struct Graph<'f> {
    file: &'f KerasFile,
    /// The networks so far, and which of them operations are added to.
    stages: Vec<Stage>,
    now: usize,
    /// Networks by the one that their steps come from, and how.
    clocks: HashMap<(usize, Clock), usize>,
    /// The model's.
    inputs: Vec<Given>,
    /// Every input of the model has steps of its own: a decoder's beside an encoder's.
    apart: bool,
    /// Names of values, and how many have had them.
    names: HashMap<String, usize>,
    /// Operations so far, about.
    operations: usize,
    /// T of the model's inputs, if the model says it.
    time: Option<usize>,
    /// The last layer that was made.
    reached: Option<String>,
    /// Bytes that parameters may still take.
    budget: u64,
}

/// An input of the model in the making.
struct Given {
    input: KerasInput,
    part: Part,
    /// Whose part it is.
    stage: usize,
}

/// The network that gives `wanted` of a model.
pub(super) fn build(file: &KerasFile, model: &ModelConfig, wanted: &[Source]) -> Result<KerasNetwork> {
    let mut graph = Graph {
        file,
        stages: vec![Stage::default()],
        now: 0,
        clocks: HashMap::new(),
        inputs: Vec::new(),
        apart: recurrent::begin_from_values(model),
        names: HashMap::new(),
        operations: 0,
        time: None,
        reached: None,
        budget: file.budget,
    };
    let values = graph.model(model, &Store::Root, "", None, wanted)?;
    graph.settle_masks()?;
    let named = wanted.iter().map(|source| source.layer.as_str()).zip(values).collect();
    graph.finish(named)
}

impl Graph<'_> {
    /// The values `wanted` of a model. `given`: what an inner model's inputs are.
    fn model(
        &mut self,
        model: &ModelConfig,
        store: &Store,
        around: &str,
        given: Option<&[Value]>,
        wanted: &[Source],
    ) -> Result<Vec<Value>> {
        let stores = store.of_layers(model, &self.file.tree);
        let by_name: HashMap<&str, usize> =
            model.layers.iter().enumerate().map(|(n, l)| (l.name.as_str(), n)).collect();
        let place = |source: &Source| {
            let n = by_name.get(source.layer.as_str()).copied();
            n.map(|n| (n, source.call))
                .ok_or_else(|| Error::mismatch("layer", "one of the model's", shown(&source.layer)))
        };
        let mut done: HashMap<(usize, usize), Vec<Option<Value>>> = HashMap::new();
        let mut begun = HashSet::new();
        let mut waiting = wanted.iter().rev().map(&place).collect::<Result<Vec<_>>>()?;
        // A list, not recursion: a file's depth must not cost stack.
        while let Some(&(n, call)) = waiting.last() {
            if done.contains_key(&(n, call)) {
                waiting.pop();
                continue;
            }
            let layer = &model.layers[n];
            let within_layer = |e| within(&format!("{around}{}", layer.label()), e);
            let Some(read) = layer.calls.get(call) else {
                return Err(within_layer(Error::mismatch(
                    "calls",
                    format!("at least {}", call + 1),
                    layer.calls.len(),
                )));
            };
            let first = begun.insert((n, call));
            let sources: Vec<&Source> = read.inputs.iter().chain(read.begin()).collect();
            let places = sources.iter().copied().map(&place).collect::<Result<Vec<_>>>()?;
            let missing: Vec<_> = places.into_iter().filter(|p| !done.contains_key(p)).collect();
            if !missing.is_empty() {
                if !first {
                    return Err(within_layer(Error::mismatch("inputs", "layers before it", "itself, through others")));
                }
                waiting.extend(missing);
                continue;
            }
            self.count(1 + sources.len())?;
            let inputs =
                sources.into_iter().map(|source| result(&done, place(source)?, source)).collect::<Result<Vec<_>>>()?;
            let results = self.call(model, (layer, &stores[n]), (call, read), &inputs, around, given);
            let results = results.map_err(|e| within_layer(self.reason(layer, around, e)))?;
            if layer.class != "InputLayer" {
                self.reached = Some(format!("{around}{}", layer.name));
            }
            done.insert((n, call), results);
            waiting.pop();
        }
        wanted.iter().map(|source| result(&done, place(source)?, source)).collect()
    }

    /// A refusal, with how far the model goes.
    fn reason(&self, layer: &LayerConfig, around: &str, error: Error) -> Error {
        match (error, &self.reached) {
            (Error::Unsupported { what, reason }, Some(reached)) if layer.model.is_none() => {
                let how = if around.is_empty() && !reached.contains('/') { "network_to takes" } else { "it goes" };
                Error::Unsupported { what, reason: format!("{reason}; {how} the model up to layer {}", shown(reached)) }
            }
            (error, _) => error,
        }
    }

    fn call(
        &mut self,
        model: &ModelConfig,
        (layer, store): (&LayerConfig, &Store),
        (n, call): (usize, &Call),
        inputs: &[Value],
        around: &str,
        given: Option<&[Value]>,
    ) -> Result<Vec<Option<Value>>> {
        if layer.class == "InputLayer" {
            let value = match given {
                Some(given) => {
                    let place = model.inputs.iter().position(|source| source.layer == layer.name);
                    let value = place.and_then(|place| given.get(place)).cloned();
                    value
                        .ok_or_else(|| Error::mismatch("inputs of the inner model", model.inputs.len(), given.len()))?
                }
                None => self.input(model, layer)?,
            };
            return Ok(vec![Some(value)]);
        }
        if let Some(inner) = &layer.model {
            let around = format!("{around}{}/", layer.name);
            let values = self.model(inner, store, &around, Some(inputs), &inner.outputs)?;
            return Ok(values.into_iter().map(Some).collect());
        }
        let name = if n == 0 { format!("{around}{}", layer.name) } else { format!("{around}{}.{n}", layer.name) };
        let name = self.unique(&name);
        // Keras 2 has the states behind x among the inputs.
        let read = if recurrent::is(layer) { inputs.len().min(1) } else { call.inputs.len() };
        let (inputs, begin) = inputs.split_at(read);
        self.go_to(inputs, begin)?;
        let inputs = inputs.iter().map(|value| self.carried(value)).collect::<Result<Vec<_>>>()?;
        let step = Step { layer, store, inner: Inner::Own, name, inputs: &inputs, begin, call, per_row: false };
        self.check_mask(&step)?;
        layers::run(self, &step)
    }

    /// Refuses a mask given by name that is not the one that the input has anyway.
    fn check_mask(&self, step: &Step<'_>) -> Result<()> {
        let given = step.call.named.iter().any(|(name, _)| name == "mask");
        if given && !step.inputs.iter().any(|value| value.masked) {
            let reason = "networks have the masks of Embedding and Masking".into();
            return Err(Error::Unsupported { what: "a mask that the model computes".into(), reason });
        }
        Ok(())
    }

    /// An input of the network.
    fn input(&mut self, model: &ModelConfig, layer: &LayerConfig) -> Result<Value> {
        let shape = layer.input_shape();
        let shape = shape.as_ref().and_then(|shape| shape.as_array()).and_then(|shape| shape.get(1..));
        let shape = shape.ok_or_else(|| Error::mismatch("shape of the input", "one in the configuration", "none"))?;
        let sizes: Vec<Option<usize>> =
            shape.iter().map(|d| d.as_u64().and_then(|d| usize::try_from(d).ok()).filter(|&d| d > 0)).collect();
        let widths = |sizes: &[Option<usize>]| {
            let all: Option<Vec<usize>> = sizes.iter().copied().collect();
            let all = all.filter(|all| all.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).is_some());
            all.ok_or_else(|| Error::Unsupported {
                what: format!("an input of shape {}", shown(&serde_json::Value::from(shape.to_vec()).to_string())),
                reason: "only the batch and the number of steps may be open".into(),
            })
        };
        let ids = sizes.len() == 1 && (sizes == [None] || reads_ids(model, &layer.name));
        let (steps, time, features) = match &sizes[..] {
            [time] if ids => (true, *time, Vec::new()),
            [width] => (false, None, widths(&[*width])?),
            [time, rest @ ..] => (true, *time, widths(rest)?),
            [] => return Err(Error::mismatch("shape of the input", "[batch, ...]", "[batch]")),
        };
        let width = features.iter().product();
        let name = self.unique(&layer.name);
        let others = self.inputs.iter().any(|given| given.input.steps);
        self.now = if self.apart && steps && others { self.add_stage(None)? } else { 0 };
        let from = KerasFrom::Model(self.inputs.len());
        let feed = KerasFeed { name: name.clone(), from, steps: KerasSteps::Same, reversed: false };
        let part = self.fed(&name, width, steps, feed)?;
        let input = KerasInput { name, width, steps, ids, mask: None };
        self.inputs.push(Given { input, part, stage: self.now });
        self.time = self.time.or(time);
        Ok(Value { part, stage: self.now, steps, features, time, reversed: false, masked: false, held: None })
    }

    /// A name that no value of the network has.
    fn unique(&mut self, name: &str) -> String {
        let mut unique = name.to_string();
        while let Some(taken) = self.names.get_mut(&unique) {
            *taken += 1;
            let next = format!("{name}_{taken}");
            if !self.names.contains_key(&next) {
                unique = next;
                break;
            }
        }
        self.names.insert(unique.clone(), 1);
        unique
    }

    /// Counts operations to come: models in models, each called several times, would be more than anybody has.
    fn count(&mut self, operations: usize) -> Result<()> {
        self.operations = self.operations.saturating_add(operations);
        if self.operations <= MOST_OPERATIONS {
            return Ok(());
        }
        Err(Error::Limit {
            what: "the model".into(),
            needs: self.operations as u64,
            limit: MOST_OPERATIONS as u64,
            unit: "operations",
            limit_name: "this reader's limit",
            hint: String::new(),
        })
    }

    /// A parameter with its values.
    fn param(&mut self, name: &str, shape: &[usize], data: Vec<f64>) -> Result<ParamId> {
        let param = self.b().param(name, shape)?;
        self.keep(name, shape, data)?;
        Ok(param)
    }

    /// The values of a parameter that an operation has made.
    fn keep(&mut self, name: &str, shape: &[usize], data: Vec<f64>) -> Result<()> {
        let needs = (data.len() as u64).saturating_mul(8);
        let Some(left) = self.budget.checked_sub(needs) else {
            return Err(Error::Limit {
                what: name.into(),
                needs,
                limit: self.file.budget,
                unit: "bytes",
                limit_name: "what a file of this size may hold",
                hint: String::new(),
            });
        };
        self.budget = left;
        self.stage().params.insert(name.into(), Tensor { data, shape: shape.to_vec() });
        Ok(())
    }

    /// The arrays of a layer that must be so many.
    fn arrays<const N: usize>(&self, step: &Step<'_>) -> Result<[Array; N]> {
        let found = step.store.arrays(&self.file.tree, step.inner);
        let found = found.map_err(|reason| Error::mismatch("arrays", format!("{N} of the layer's"), reason))?;
        let count = found.len();
        let found: Vec<Array> = found.into_iter().cloned().collect();
        found.try_into().map_err(|_| Error::mismatch("arrays of the layer", N, count))
    }

    /// Notes a layer whose steps see one another.
    fn over_time(&mut self, step: &Step<'_>, x: &Value) {
        let steps = self.stages[x.stage].steps;
        let own = &mut self.stages[steps];
        if x.masked {
            own.with_mask = true;
        } else {
            own.without_mask = Some(step.layer.label());
        }
    }

    /// Masks that nothing heeds are none.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where some layers over the same steps have a mask and some do not.
    fn settle_masks(&mut self) -> Result<()> {
        for Given { input, stage, .. } in self.inputs.iter_mut().filter(|given| given.input.mask.is_some()) {
            let Some(layer) = &self.stages[*stage].without_mask else { continue };
            if self.stages[*stage].with_mask {
                return Err(Error::Unsupported {
                    what: format!("{layer} without a mask beside layers with one"),
                    reason: "a network has one length per sequence for all".into(),
                });
            }
            input.mask = None;
        }
        Ok(())
    }
}

/// Whether a layer reads the model's input as token ids.
fn reads_ids(model: &ModelConfig, input: &str) -> bool {
    let readers = model.layers.iter().filter_map(|layer| {
        let place = layer.calls.iter().find_map(|call| call.inputs.iter().position(|source| source.layer == input));
        place.map(|place| (layer, place))
    });
    readers.into_iter().any(|(layer, place)| match &layer.model {
        Some(inner) => inner.inputs.get(place).is_some_and(|source| reads_ids(inner, &source.layer)),
        None => layer.class == "Embedding",
    })
}

fn result(done: &HashMap<(usize, usize), Vec<Option<Value>>>, place: (usize, usize), source: &Source) -> Result<Value> {
    let value = done.get(&place).and_then(|results| results.get(source.tensor));
    match value {
        Some(Some(value)) => Ok(value.clone()),
        Some(None) => Err(Error::Unsupported {
            what: format!("result {} of layer {}", source.tensor, shown(&source.layer)),
            reason: "networks do not have it".into(),
        }),
        None => Err(Error::mismatch(format!("results of layer {}", shown(&source.layer)), source.tensor + 1, "fewer")),
    }
}
