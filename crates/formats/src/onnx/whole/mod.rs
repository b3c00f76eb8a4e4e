//! Whole models: an ONNX graph, for inputs of given shapes, as a [`wgpu_rnn::network`].
//!
//! ```text
//! OnnxFile ──shapes of its inputs──> OnnxModel: OnnxNetworks (network, parameters, how values lie) ──device──> OnnxSession
//! ```
//!
//! Shape arithmetic is worked out with the shapes. Which axis of an input counts steps and which sequences shows where recurrent nodes
//! read it: the lowering begins with a guess, and begins again when a node wants it otherwise. In a model without recurrent nodes the first
//! axis counts sequences, and everything else is columns.

mod axes;
mod dense;
mod empty;
mod lower;
mod node;
mod ops;
mod run;
mod stack;
mod stages;
mod value;

pub(super) use ops::reads;
pub use run::{OnnxFeed, OnnxSession, OnnxTensor};

use super::operator::shortened;
use super::{OnnxFile, proto, within};
use crate::element::Element;
use axes::Stop;
use lower::{Begin, Fixed, Input, Lowering, Source};
use prost::Message;
use stack::Readable;
use std::collections::HashMap;
use std::sync::Arc;
use value::{Column, Value};
use wgpu_rnn::expr::Expr;
use wgpu_rnn::network::{Network, Part};
use wgpu_rnn::{Error, Result, Shape};

/// An input or output as the model declares it.
#[derive(Clone, Debug, PartialEq)]
pub struct OnnxValue {
    /// Its name.
    pub name: String,
    /// Its element type; `None` for one that this build does not read.
    pub element: Option<Element>,
    /// Its sizes; `None` where the model does not say how many axes it has.
    pub shape: Option<Vec<OnnxSize>>,
}

/// The size of an axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnnxSize {
    /// Always that.
    Fixed(usize),
    /// Open, under that name.
    Named(String),
    /// Open.
    Open,
}

impl std::fmt::Display for OnnxSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(size) => size.fmt(f),
            Self::Named(name) => f.write_str(&shortened(name)),
            Self::Open => f.write_str("?"),
        }
    }
}

/// A model for inputs of certain shapes: one network, or several, each reading what those before it have made. One is enough where all
/// values have the same steps, a row per sequence is not repeated over steps, and layers begin with states that are given.
#[derive(Clone, Debug)]
pub struct OnnxModel {
    /// The networks, in order.
    pub stages: Vec<OnnxNetwork>,
    inputs: Vec<Shaped>,
    /// The model's outputs, and the constants among them.
    outputs: Vec<(String, Option<super::constant::Constant>)>,
    /// Where sequences have lengths.
    without_steps: Option<empty::WithoutSteps>,
}

/// A model, or a part of one, as a network for inputs of certain shapes.
#[derive(Clone, Debug)]
pub struct OnnxNetwork {
    /// The operations.
    pub network: Arc<Network>,
    /// Values of the network's parameters, one after the other in its order.
    pub params: Vec<f64>,
    /// T and B.
    pub shape: Shape,
    inputs: Vec<Input>,
    outputs: Vec<(String, Value)>,
    sources: Vec<Source>,
    fixed: Vec<Fixed>,
    states: Vec<Begin>,
    lengths: Option<usize>,
    /// For every input of the network where its values are from.
    fed: Vec<Option<Source>>,
    /// For every source that outputs show, which output of the network it is.
    shown: HashMap<u32, usize>,
}

impl OnnxFile {
    /// The inputs of the model that its user gives.
    pub fn inputs(&self) -> Vec<OnnxValue> {
        let main = &self.scopes[0];
        let given = main.values[0].iter().map(declared).filter(|value| !main.constants.contains_key(&value.name));
        given.collect()
    }

    /// The outputs of the model.
    pub fn outputs(&self) -> Vec<OnnxValue> {
        self.scopes[0].values[1].iter().map(declared).collect()
    }

    /// The whole model for inputs of these shapes.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for inputs that are missing, unknown or of another shape, and for nodes whose values do not fit;
    /// [`Error::Unsupported`] for a node that no network can be, with the values up to which it could; [`Error::Limit`].
    pub fn model(&self, shapes: &[(&str, &[usize])]) -> Result<OnnxModel> {
        let outputs = self.scopes[0].outputs.clone();
        self.model_up_to(shapes, &outputs.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The same with other values of the model as outputs, and what they need of it.
    ///
    /// # Errors
    /// As [`OnnxFile::model`].
    pub fn model_up_to(&self, shapes: &[(&str, &[usize])], outputs: &[&str]) -> Result<OnnxModel> {
        self.staged(shapes, outputs, stages::Wanted::ALL)
    }

    /// The whole model as one network: what can be trained.
    ///
    /// # Errors
    /// As [`OnnxFile::model`]; [`Error::Unsupported`] where one network is not enough.
    pub fn network(&self, shapes: &[(&str, &[usize])]) -> Result<OnnxNetwork> {
        let outputs = self.scopes[0].outputs.clone();
        let model =
            self.staged(shapes, &outputs.iter().map(String::as_str).collect::<Vec<_>>(), stages::Wanted::ONE)?;
        let mut stages = model.stages.into_iter();
        stages.next().ok_or_else(|| within(&self.path.display().to_string(), nothing_to_run()))
    }

    fn staged(&self, shapes: &[(&str, &[usize])], outputs: &[&str], wanted: stages::Wanted) -> Result<OnnxModel> {
        let given = self.shaped(shapes)?;
        stages::model(self, given, outputs, wanted).map_err(|e| within(&self.path.display().to_string(), e))
    }

    /// The inputs in the model's order, with their shapes.
    fn shaped(&self, shapes: &[(&str, &[usize])]) -> Result<Vec<Shaped>> {
        let inputs = self.inputs();
        let names: Vec<&str> = inputs.iter().map(|value| value.name.as_str()).collect();
        if let Some((name, _)) = shapes.iter().find(|(name, _)| !names.contains(name)) {
            return Err(self.mismatch("input", names.join(", "), name));
        }
        let shaped = |value: &OnnxValue| {
            let what = || format!("input {}", shortened(&value.name));
            let shape = shapes.iter().find(|(name, _)| *name == value.name);
            let shape = shape.ok_or_else(|| self.mismatch(&what(), "a shape", "none"))?.1;
            let fits = |declared: &Vec<OnnxSize>| {
                let same = |(d, &size): (&OnnxSize, &usize)| !matches!(d, OnnxSize::Fixed(n) if *n != size);
                declared.len() == shape.len() && declared.iter().zip(shape).all(same)
            };
            if shape.contains(&0) || !value.shape.as_ref().is_none_or(fits) {
                let sizes = value.shape.iter().flatten().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                return Err(self.mismatch(&what(), format!("[{sizes}], each at least 1"), format!("{shape:?}")));
            }
            let unread = || self.mismatch(&what(), "numbers or truth values", "another type");
            Ok(Shaped { name: value.name.clone(), element: value.element.ok_or_else(unread)?, shape: shape.to_vec() })
        };
        inputs.iter().map(shaped).collect()
    }
}

/// What a `ValueInfoProto` says.
fn declared(bytes: &prost::bytes::Bytes) -> OnnxValue {
    let info = proto::ValueInfo::decode(bytes.clone()).unwrap_or_default();
    let tensor = info.kind.and_then(|kind| kind.tensor);
    let size = |d: proto::Dimension| match (d.value, d.name) {
        // Old exporters write 0 or −1 for an open size.
        (Some(size), _) => usize::try_from(size).ok().filter(|&n| n > 0).map_or(OnnxSize::Open, OnnxSize::Fixed),
        (None, Some(name)) if !name.is_empty() => OnnxSize::Named(name),
        _ => OnnxSize::Open,
    };
    OnnxValue {
        name: info.name,
        element: tensor.as_ref().and_then(|t| Element::of("input", t.elem_type).ok()),
        shape: tensor.and_then(|t| t.shape).map(|shape| shape.dim.into_iter().map(size).collect()),
    }
}

/// A value with its shape.
#[derive(Clone, Debug)]
struct Shaped {
    name: String,
    element: Element,
    shape: Vec<usize>,
}

/// The outputs of a lowering that has come to its end.
struct Finished {
    outputs: Vec<(String, Value)>,
    shown: Vec<(u32, Part)>,
}

fn finish(lowering: &mut Lowering<'_>, names: &[String]) -> std::result::Result<Finished, Stop> {
    let mut finished = Finished { outputs: Vec::new(), shown: Vec::new() };
    for name in names {
        match lowering.value(0, name)? {
            Value::Order { .. } => return Err(ops::order_as_numbers().into()),
            Value::Laid(laid) if laid.sorted => {
                let reason = "its sequences are in the order of their lengths, not in that of the inputs".into();
                return Err(Error::Unsupported { what: format!("output {}", shortened(name)), reason }.into());
            }
            value => finished.outputs.push((name.clone(), value)),
        }
    }
    if let (Some(Some(_)), Some(node)) = (lowering.lengths, &lowering.over_all_steps) {
        let reason = "a network leaves out what is past the end of a sequence".into();
        let what = format!("{}, which reads all steps of sequences that have lengths", shortened(node));
        return Err(Error::Unsupported { what, reason }.into());
    }
    let mut sources: Vec<u32> = Vec::new();
    for (_, value) in &finished.outputs {
        let Value::Laid(laid) = value else { continue };
        sources.extend(laid.columns.iter().filter_map(|column| match column {
            Column::Of(source, _) => Some(*source),
            Column::Number(_) => None,
        }));
    }
    sources.sort_unstable();
    sources.dedup();
    for source in &sources {
        lowering.settle(*source)?;
    }
    let inputs = |lowering: &Lowering<'_>, name: &String| lowering.inputs.iter().any(|input| input.name == *name);
    let given = |source: &u32| matches!(lowering.sources[*source as usize], Source::Input(_) | Source::Fixed(_));
    if let Some(&first) = sources.first()
        && sources.iter().all(given)
        && finished.outputs.iter().any(|(name, value)| matches!(value, Value::Laid(_)) && !inputs(lowering, name))
    {
        // All are inputs in other shapes and orders: a network has an operation nevertheless.
        let part = lowering.part_of(first)?;
        let name = lowering.fresh("identity");
        let part = lowering.builder.map(&name, Expr::input(0), &[part.into()])?;
        let source = lowering.source(Source::Made(part));
        finished.shown.push((source, part));
    }
    for source in sources {
        if matches!(lowering.sources[source as usize], Source::Made(_)) {
            finished.shown.push((source, lowering.part_of(source)?));
        }
    }
    Ok(finished)
}

impl Finished {
    fn network(self, mut lowering: Lowering<'_>) -> Result<OnnxNetwork> {
        let mut shown = HashMap::new();
        for (n, (source, part)) in self.shown.iter().enumerate() {
            lowering.builder.output(&format!("output.{n}"), *part)?;
            shown.insert(*source, n);
        }
        // A network has an output, if all that the model gives are states.
        let mut builder = std::mem::take(&mut lowering.builder);
        let fed = lowering.fed();
        if self.shown.is_empty() {
            match lowering.sources.iter().find_map(|source| match source {
                Source::State(_, Readable::Last(y, _) | Readable::Nothing(y)) => Some(*y),
                _ => None,
            }) {
                Some(y) => builder.output("y", y)?,
                None => return Err(nothing_to_run()),
            }
        }
        let network = builder.finish()?;
        let fed = network.inputs.iter().map(|value| fed.get(value).cloned()).collect();
        Ok(OnnxNetwork {
            network: Arc::new(network),
            params: lowering.params,
            shape: lowering.shape,
            inputs: lowering.inputs,
            outputs: self.outputs,
            sources: lowering.sources,
            fixed: lowering.fixed,
            states: lowering.states,
            lengths: lowering.lengths.flatten(),
            fed,
            shown,
        })
    }
}

fn nothing_to_run() -> Error {
    Error::mismatch("outputs", "one that an operator of the network makes", "inputs and constants alone")
}
