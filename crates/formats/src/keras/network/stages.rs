//! Networks one behind the other. All values of a network have the same steps: a layer that gives others (`Conv1D` with
//! `padding="valid"`, pooling, `RepeatVector`) has its windows made between two networks ([`KerasSteps`]), and is an operation of the
//! second one. Layers whose steps come about in the same way share a network.

use super::whole::{KerasFeed, KerasFrom, KerasNetwork, KerasOutput, KerasStage};
use super::{Graph, KerasSteps, Step, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use wgpu_rnn::network::{Builder, Part};
use wgpu_rnn::{Error, Result, Tensor};

/// Networks of a model, at most.
const MOST_STAGES: usize = 64;

/// One of a model's networks in the making.
#[derive(Default)]
pub(super) struct Stage {
    b: Builder,
    pub params: BTreeMap<String, Tensor<f64>>,
    feeds: Vec<KerasFeed>,
    /// What was brought from networks before: which value of which, how, and the input that it is.
    brought: Vec<((usize, Part, KerasSteps), Part)>,
    /// What others were given of it, by the names of its outputs.
    given: Vec<(Part, String)>,
    /// T, if an operation of it is made for one.
    pub time: Option<usize>,
    outputs: usize,
}

/// What numbers of steps come about in the same way, whatever the steps are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Clock {
    /// (T − 1 − fewer) / stride + 1
    Fewer { fewer: usize, stride: usize },
    /// T + so many
    More(usize),
    /// T times so many
    Times(usize),
    /// So many.
    Fixed(usize),
}

impl KerasSteps {
    fn clock(&self) -> Clock {
        match *self {
            Self::Same => Clock::More(0),
            Self::Windows(windows) => {
                let valid = windows.padding == super::KerasPadding::Valid;
                Clock::Fewer { fewer: if valid { windows.span() - 1 } else { 0 }, stride: windows.stride }
            }
            Self::Repeated(times) => Clock::Times(times),
            Self::Spread(times) => Clock::Fixed(times),
            Self::Padded([before, behind]) => Clock::More(before.saturating_add(behind)),
            Self::Cropped([before, behind]) => Clock::Fewer { fewer: before.saturating_add(behind), stride: 1 },
        }
    }
}

impl Graph<'_> {
    /// The network that operations are added to.
    pub(super) fn b(&mut self) -> &mut Builder {
        &mut self.stage().b
    }

    pub(super) fn stage(&mut self) -> &mut Stage {
        &mut self.stages[self.now]
    }

    /// An input of the network.
    pub(super) fn fed(&mut self, name: &str, width: usize, per_step: bool, feed: KerasFeed) -> Result<Part> {
        let part = if per_step { self.b().input(name, width)? } else { self.b().sequence_input(name, width)? };
        self.stage().feeds.push(feed);
        Ok(part)
    }

    /// A value of this network or of one before, as one of this.
    pub(super) fn carried(&mut self, value: &Value) -> Result<Value> {
        if value.stage == self.now {
            return Ok(value.clone());
        }
        if value.masked {
            let reason = "networks have lengths for the steps of the model's inputs alone".into();
            return Err(Error::Unsupported { what: "steps with a mask beside other steps".into(), reason });
        }
        let part = self.brought(value, KerasSteps::Same)?;
        Ok(Value { part, stage: self.now, ..value.clone() })
    }

    /// A value with other steps, in a network that has these.
    pub(super) fn other_steps(&mut self, step: &Step<'_>, x: &Value, steps: KerasSteps) -> Result<Value> {
        super::windows::refuse_mask(step, x)?;
        let time = match steps {
            KerasSteps::Spread(times) => Some(times),
            _ => x.time.map(|time| steps.count(time)).transpose()?,
        };
        let key = (x.stage, steps.clock());
        self.now = match self.clocks.get(&key) {
            Some(&stage) => stage,
            None if self.stages.len() < MOST_STAGES => {
                self.stages.push(Stage::default());
                self.clocks.insert(key, self.stages.len() - 1);
                self.stages.len() - 1
            }
            None => {
                return Err(Error::Unsupported {
                    what: "one more number of steps".into(),
                    reason: format!("a model is at most {MOST_STAGES} networks"),
                });
            }
        };
        let part = self.brought(x, steps)?;
        let features = if steps.taps() == 1 { x.features.clone() } else { vec![part.width] };
        Ok(Value { part, stage: self.now, steps: true, features, time, reversed: false, masked: false })
    }

    /// What a network before this one has made, as an input of this one.
    fn brought(&mut self, value: &Value, steps: KerasSteps) -> Result<Part> {
        let key = (value.stage, value.part, steps);
        if let Some((_, part)) = self.stage().brought.iter().find(|(of, _)| *of == key) {
            return Ok(*part);
        }
        if value.steps && value.stage == 0 && self.without_mask.is_none() {
            // Its steps past a sequence's length are read too, but not computed.
            self.without_mask = Some("a layer that gives other steps than it reads".into());
        }
        let name = self.unique("steps");
        let input = self.inputs.iter().position(|(_, part)| value.stage == 0 && *part == value.part);
        let from = match input {
            Some(input) => KerasFrom::Model(input),
            None => {
                let of = &mut self.stages[value.stage];
                let output = match of.given.iter().find(|(part, _)| *part == value.part) {
                    Some((_, output)) => output.clone(),
                    None => {
                        of.b.output(&name, value.part)?;
                        of.outputs += 1;
                        of.given.push((value.part, name.clone()));
                        name.clone()
                    }
                };
                KerasFrom::Stage { stage: value.stage, output }
            }
        };
        let width = value.part.width.checked_mul(steps.taps());
        let width = width.ok_or_else(|| Error::mismatch("windows", "columns that can be counted", steps.taps()))?;
        let reversed = value.reversed && steps != KerasSteps::Same;
        let feed = KerasFeed { name: name.clone(), from, steps, reversed };
        let part = self.fed(&name, width, value.steps || steps != KerasSteps::Same, feed)?;
        self.stage().brought.push((key, part));
        Ok(part)
    }

    /// The networks that give these values, by the names of layers.
    pub(super) fn finish(mut self, wanted: Vec<(&str, Value)>) -> Result<KerasNetwork> {
        let mut outputs: Vec<KerasOutput> = Vec::new();
        for (layer, value) in wanted {
            let taken = outputs.iter().filter(|o| o.name.split(':').next() == Some(layer)).count();
            let name = if taken == 0 { layer.to_string() } else { format!("{layer}:{taken}") };
            let stage = &mut self.stages[value.stage];
            stage.b.output(&name, value.part)?;
            stage.outputs += 1;
            let (width, Value { steps, reversed, stage, .. }) = (value.part.width, value);
            outputs.push(KerasOutput { name, width, steps, reversed, stage });
        }
        // A network that only hands its inputs on is none.
        let mut places = Vec::new();
        let mut kept = 0;
        for stage in &self.stages {
            places.push(kept);
            kept += usize::from(stage.outputs > 0);
        }
        let mut stages = Vec::new();
        for stage in self.stages.into_iter().filter(|stage| stage.outputs > 0) {
            let network = stage.b.finish()?;
            let mut params = stage.params;
            let values = network.flat(|name| Ok(params.remove(name)))?;
            let mut feeds = stage.feeds;
            for feed in &mut feeds {
                if let KerasFrom::Stage { stage, .. } = &mut feed.from {
                    *stage = places[*stage];
                }
            }
            stages.push(KerasStage { network: Arc::new(network), values, feeds, time: stage.time });
        }
        outputs.iter_mut().for_each(|output| output.stage = places[output.stage]);
        let fixed = stages.iter().any(|stage| stage.time.is_some());
        let inputs = self.inputs.into_iter().map(|(input, _)| input).collect();
        Ok(KerasNetwork { stages, inputs, outputs, time: self.time.filter(|_| fixed) })
    }
}
