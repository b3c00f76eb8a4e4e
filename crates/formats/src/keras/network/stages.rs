//! Networks one behind the other. All values of a network have the same steps: a layer that gives others (`Conv1D` with
//! `padding="valid"`, pooling, `RepeatVector`) has its windows made between two networks ([`KerasSteps`]), and is an operation of the
//! second one. Layers whose steps come about in the same way share a network.
//!
//! A recurrent layer that begins from a state that another layer has computed is in a network behind that one's, of the same steps as its
//! x. Cell states are no values within a network: what reads one is in a network behind.

use super::whole::{KerasBegin, KerasFeed, KerasFrom, KerasNetwork, KerasOutput, KerasStage, KerasState};
use super::{Given, Graph, Held, KerasSteps, Step, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use wgpu_rnn::network::{Builder, Part, Rows};
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
    brought: Vec<(Brought, Part)>,
    /// What others were given of it, by the names of its outputs.
    given: Vec<(Part, String)>,
    /// T, if an operation of it is made for one.
    pub time: Option<usize>,
    outputs: usize,
    /// What its operations carry over steps, in their order.
    pub states: Vec<KerasState>,
    /// The first network of the same steps, which may be itself.
    pub steps: usize,
    /// Of that first one: a layer over these steps that had no mask, and whether one had.
    pub without_mask: Option<String>,
    pub with_mask: bool,
}

/// What an input of a network is: a value of another one, and how its steps become those of the input.
type Brought = (usize, Part, Option<Held>, KerasSteps);

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

    /// One more network, of the same steps as another or of its own.
    pub(super) fn add_stage(&mut self, steps: Option<usize>) -> Result<usize> {
        let stage = self.stages.len();
        if stage == MOST_STAGES {
            return Err(Error::Unsupported {
                what: "one more number of steps, or state to begin from".into(),
                reason: format!("a model is at most {MOST_STAGES} networks"),
            });
        }
        self.stages.push(Stage { steps: steps.unwrap_or(stage), ..Stage::default() });
        Ok(stage)
    }

    /// Goes to the network of a call: of those inputs, and behind all that gives what it begins from.
    pub(super) fn go_to(&mut self, inputs: &[Value], begin: &[Value]) -> Result<()> {
        let last = inputs.iter().map(|value| value.stage).max().unwrap_or(0);
        let behind = |value: &&Value| value.held.is_some() || self.is_input(value).is_none();
        let states = begin.iter().filter(behind).chain(inputs.iter().filter(|value| value.held.is_some()));
        let least = states.map(|value| value.stage + 1).fold(last, usize::max);
        self.now = last;
        if least > last {
            let steps = inputs.iter().filter(|value| value.steps).max_by_key(|value| value.stage);
            let steps = self.stages[steps.map_or(last, |value| value.stage)].steps;
            let there = (least..self.stages.len()).find(|&n| self.stages[n].steps == steps);
            self.now = there.map_or_else(|| self.add_stage(Some(steps)), Ok)?;
        }
        Ok(())
    }

    /// Which of the model's inputs a value is.
    fn is_input(&self, value: &Value) -> Option<usize> {
        let of = |given: &Given| given.stage == value.stage && given.part == value.part;
        self.inputs.iter().position(of).filter(|_| value.held.is_none())
    }

    /// Where a value that has a row per sequence comes from, for a network behind.
    pub(super) fn begins_with(&mut self, value: &Value) -> Result<KerasBegin> {
        Ok(KerasBegin { from: self.from(value)?, width: value.part.width })
    }

    /// Where a value comes from, for a network behind.
    fn from(&mut self, value: &Value) -> Result<KerasFrom> {
        if let Some(input) = self.is_input(value) {
            return Ok(KerasFrom::Model(input));
        }
        let name = self.unique("steps");
        let of = &mut self.stages[value.stage];
        let output = match of.given.iter().find(|(part, _)| *part == value.part) {
            Some((_, output)) => output.clone(),
            None => {
                of.b.output(&name, value.part)?;
                of.outputs += 1;
                of.given.push((value.part, name.clone()));
                name
            }
        };
        let stage = value.stage;
        Ok(match value.held {
            Some(Held { state, first }) => KerasFrom::State { stage, state, first, width: value.part.width },
            None => KerasFrom::Stage { stage, output },
        })
    }

    /// A value of this network or of one before, as one of this.
    pub(super) fn carried(&mut self, value: &Value) -> Result<Value> {
        if value.stage == self.now {
            return Ok(value.clone());
        }
        if value.masked && self.stages[value.stage].steps != self.stage().steps {
            let reason = "networks have lengths for the steps of the model's inputs alone".into();
            return Err(Error::Unsupported { what: "steps with a mask beside other steps".into(), reason });
        }
        let part = self.brought(value, KerasSteps::Same)?;
        Ok(Value { part, stage: self.now, held: None, ..value.clone() })
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
            None => {
                let stage = self.add_stage(None)?;
                self.clocks.insert(key, stage);
                stage
            }
        };
        let part = self.brought(x, steps)?;
        let features = if steps.taps() == 1 { x.features.clone() } else { vec![part.width] };
        Ok(Value { part, stage: self.now, steps: true, features, time, reversed: false, masked: false, held: None })
    }

    /// What a network before this one has made, as an input of this one.
    fn brought(&mut self, value: &Value, steps: KerasSteps) -> Result<Part> {
        let key = (value.stage, value.part, value.held, steps);
        if let Some((_, part)) = self.stage().brought.iter().find(|(of, _)| *of == key) {
            return Ok(*part);
        }
        let (own, other) = (self.stages[value.stage].steps, self.stage().steps);
        if value.steps && (own != other || steps != KerasSteps::Same) && self.stages[own].without_mask.is_none() {
            // Its steps past a sequence's length are read too, but not computed.
            self.stages[own].without_mask = Some("a layer that gives other steps than it reads".into());
        }
        let from = self.from(value)?;
        let name = self.unique("steps");
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
            let (width, Value { steps, reversed, stage, held, .. }) = (value.part.width, value);
            let state = held.map(|Held { state, first }| (state, first));
            outputs.push(KerasOutput { name, width, steps, reversed, stage, state });
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
            let (mut feeds, mut states) = (stage.feeds, stage.states);
            let begins = states.iter_mut().flat_map(|state| &mut state.begin).map(|begin| &mut begin.from);
            for from in feeds.iter_mut().map(|feed| &mut feed.from).chain(begins) {
                if let KerasFrom::Stage { stage, .. } | KerasFrom::State { stage, .. } = from {
                    *stage = places[*stage];
                }
            }
            // Rows alone have no steps.
            let steps = network.inputs.iter().any(|&input| network.values[input].rows == Rows::Steps);
            let of = |given: &Given| given.input.steps && given.stage == stage.steps;
            let steps_of = self.inputs.iter().position(of).filter(|_| steps);
            let (network, time) = (Arc::new(network), stage.time);
            stages.push(KerasStage { network, values, feeds, time, states, steps_of });
        }
        outputs.iter_mut().for_each(|output| output.stage = places[output.stage]);
        let fixed = stages.iter().any(|stage| stage.time.is_some());
        let own_steps = self.apart && self.inputs.iter().filter(|given| given.input.steps).count() > 1;
        let inputs = self.inputs.into_iter().map(|given| given.input).collect();
        Ok(KerasNetwork { stages, inputs, outputs, time: self.time.filter(|_| fixed && !own_steps), own_steps })
    }
}
