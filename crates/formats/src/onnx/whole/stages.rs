//! A model as networks one after the other.
//!
//! A graph goes into a network until a node cannot: it wants steps where there are columns, a row per sequence at every step, a state that
//! the network itself would make. There the network ends, and the values that the rest reads are inputs of the next one.

use super::super::constant::Constant;
use super::super::{OnnxFile, proto};
use super::axes::{Facts, Made, Stop, guess};
use super::empty::WithoutSteps;
use super::lower::{Lowering, Source};
use super::value::{Laid, Value};
use super::{OnnxModel, OnnxNetwork, Shaped, finish};
use prost::Message;
use std::collections::{HashMap, HashSet};
use wgpu_rnn::{Error, Result};

/// What networks are made of a graph.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// So many, at most.
    most: usize,
    /// With zeros for what recurrent nodes give.
    without_steps: bool,
}

impl Wanted {
    pub const ALL: Self = Self { most: 64, without_steps: false };
    pub const ONE: Self = Self { most: 1, ..Self::ALL };
    pub const WITHOUT_STEPS: Self = Self { without_steps: true, ..Self::ALL };
}

/// A graph on its way.
struct Staging<'a> {
    file: &'a OnnxFile,
    nodes: Vec<proto::Node>,
    /// Nodes that the outputs need, and what each reads, inside its graphs too.
    needed: Vec<(usize, Vec<String>)>,
    outputs: Vec<String>,
    /// Values that there are: inputs of the model, and what networks before have made.
    live: Vec<Shaped>,
    constants: HashMap<(usize, String), Value>,
    wanted: Wanted,
    /// [`Lowering::laid_out`] so far.
    laid_out: usize,
}

/// How a network ended.
enum End {
    /// All outputs are there.
    Whole(Option<OnnxNetwork>, Vec<(String, Option<Constant>)>),
    /// Before that one of the needed nodes.
    Cut(OnnxNetwork, usize),
}

/// The networks of a model whose inputs are `given`.
pub fn model(file: &OnnxFile, given: Vec<Shaped>, outputs: &[&str], wanted: Wanted) -> Result<OnnxModel> {
    let nodes = file.scopes[0]
        .nodes
        .iter()
        .map(|bytes| proto::Node::decode(bytes.clone()).map_err(|e| Error::mismatch("node", "a NodeProto", e)));
    let nodes = nodes.collect::<Result<Vec<_>>>()?;
    let outputs: Vec<String> = outputs.iter().map(|&name| name.into()).collect();
    let needed = needed(file, &nodes, &outputs);
    let inputs = given.clone();
    let mut staging =
        Staging { file, nodes, needed, outputs, live: given, constants: HashMap::new(), wanted, laid_out: 0 };
    let mut stages = Vec::new();
    let mut at = 0;
    loop {
        match staging.network(at, stages.len() + 1 < wanted.most)? {
            End::Whole(network, outputs) => {
                stages.extend(network);
                let without_steps = WithoutSteps::new(file, &inputs, &stages);
                return Ok(OnnxModel { stages, inputs, outputs, without_steps });
            }
            End::Cut(network, next) => {
                stages.push(network);
                at = next;
            }
        }
    }
}

/// The nodes that values need, by their places, with the names that each reads.
fn needed(file: &OnnxFile, nodes: &[proto::Node], outputs: &[String]) -> Vec<(usize, Vec<String>)> {
    let mut inner = super::node::captured(file, 0);
    let mut names: HashSet<String> = outputs.iter().cloned().collect();
    let mut needed = Vec::new();
    for (n, node) in nodes.iter().enumerate().rev() {
        if node.output.iter().any(|name| names.contains(name)) {
            let mut reads = node.input.clone();
            reads.extend(inner.remove(&n).unwrap_or_default());
            names.extend(reads.iter().cloned());
            needed.push((n, reads));
        }
    }
    needed.reverse();
    needed
}

impl Staging<'_> {
    /// The network from the needed node `first` on; `may_cut`: it need not be the last.
    fn network(&mut self, first: usize, may_cut: bool) -> Result<End> {
        let recurrent = !self.file.found.is_empty() || !self.file.recurrences.is_empty();
        let mut facts = Facts::new(self.wanted.without_steps);
        let given = self.given(first);
        // Every round learns what an axis counts that was not known, or which node begins a stack of its own.
        let rounds = 1 + self.file.found.len() + given.iter().map(|value| value.shape.len()).sum::<usize>();
        for _ in 0..rounds {
            let (inputs, shape) = guess(&given, &facts, recurrent);
            let mut lowering = Lowering::new(self.file, inputs, &facts, shape, self.laid_out);
            lowering.know(&self.constants);
            let mut stopped = None;
            for at in first..self.needed.len() {
                if let Err(stop) = lowering.node(0, &self.nodes[self.needed[at].0]) {
                    stopped = Some((at, stop));
                    break;
                }
            }
            let outputs = self.outputs.clone();
            let ended = match stopped {
                None => finish(&mut lowering, &outputs).map(|finished| (finished, None)),
                Some((at, Stop::Fail(error @ Error::Unsupported { .. }))) if may_cut && at > first => {
                    match self.cut(&mut lowering, at) {
                        Ok(Some(finished)) => Ok((finished, Some(at))),
                        Err(apart @ Stop::Apart(_)) => Err(apart),
                        Ok(None) | Err(_) => Err(Stop::Fail(error)),
                    }
                }
                Some((_, stop)) => Err(stop),
            };
            match ended {
                Ok((finished, None)) => {
                    let constant = |(name, value): &(String, Value)| match value {
                        Value::Constant(constant) => (name.clone(), Some(constant.clone())),
                        _ => (name.clone(), None),
                    };
                    let outputs = finished.outputs.iter().map(constant).collect();
                    let made = finished.makes_something(&lowering);
                    return Ok(End::Whole(made.then(|| finished.network(lowering)).transpose()?, outputs));
                }
                Ok((finished, Some(at))) => {
                    let laid = |(name, value): &(String, Value)| match value {
                        Value::Laid(laid) => {
                            Some(Shaped { name: name.clone(), element: laid.element, shape: laid.shape() })
                        }
                        _ => None,
                    };
                    self.live.extend(finished.outputs.iter().filter_map(laid));
                    self.constants = lowering.constants();
                    self.laid_out = lowering.laid_out;
                    return Ok(End::Cut(finished.network(lowering)?, at));
                }
                Err(stop) => facts.learn(stop)?,
            }
        }
        let reason = "what its axes count does not come to rest".into();
        Err(Error::Unsupported { what: "the model".into(), reason })
    }

    /// The values there are that nodes from `first` on read; then those that are outputs already.
    fn given(&self, first: usize) -> Vec<Shaped> {
        let read: HashSet<&String> = self.needed[first..].iter().flat_map(|(_, reads)| reads).collect();
        let (read, rest): (Vec<_>, Vec<_>) = self.live.iter().partition(|value| read.contains(&value.name));
        let shown = rest.into_iter().filter(|value| self.outputs.contains(&value.name));
        read.into_iter().chain(shown).cloned().collect()
    }

    /// What the network has made that nodes from `at` on read; `None` if it cannot end there.
    fn cut(&self, lowering: &mut Lowering<'_>, at: usize) -> Made<Option<super::Finished>> {
        let later = self.needed[at..].iter().flat_map(|(_, reads)| reads).chain(&self.outputs);
        let names: HashSet<&String> = later.filter(|name| !self.live.iter().any(|live| live.name == **name)).collect();
        let mut wanted = Vec::new();
        for name in names {
            match lowering.value(0, name) {
                Ok(Value::Laid(Laid { sorted: false, .. })) => wanted.push(name.clone()),
                // What later nodes make is not there yet; constants go along.
                Ok(Value::Constant(_)) | Err(_) => {}
                Ok(_) => return Ok(None),
            }
        }
        wanted.sort_unstable();
        let finished = finish(lowering, &wanted)?;
        Ok(finished.makes_something(lowering).then_some(finished))
    }
}

impl super::Finished {
    /// Whether a network has anything to do for the outputs.
    fn makes_something(&self, lowering: &Lowering<'_>) -> bool {
        !self.shown.is_empty() || lowering.sources.iter().any(|source| matches!(source, Source::State(..)))
    }
}
