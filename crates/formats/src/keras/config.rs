//! A model's configuration, of Keras 1 to 3, as one kind of graph: layers, and for every call of a layer what it reads.

use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};
use wgpu_rnn::{Error, Result};

/// Bytes of a configuration, at most. Those of hundreds of layers have some hundred thousand.
const MOST_JSON: usize = 8 << 20;

/// A model, or a model inside a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ModelConfig {
    pub layers: Vec<LayerConfig>,
    /// The layers that are fed, in the model's order.
    pub inputs: Vec<Source>,
    pub outputs: Vec<Source>,
}

/// One of a layer's results.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Source {
    pub layer: String,
    /// Which call of the layer.
    pub call: usize,
    /// Which of the results.
    pub tensor: usize,
}

/// What a call of a layer is given.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Call {
    pub inputs: Vec<Source>,
    /// Tensors given by name: `mask`, `initial_state`.
    pub named: Vec<(String, Source)>,
}

/// A layer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LayerConfig {
    pub name: String,
    pub class: String,
    fields: Map<String, Value>,
    /// A layer that is a model.
    pub model: Option<ModelConfig>,
    pub calls: Vec<Call>,
}

impl ModelConfig {
    /// From JSON.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        if json.len() > MOST_JSON {
            return Err(format!("the model's configuration: expected at most {MOST_JSON} bytes, got {}", json.len()));
        }
        let value: Value = serde_json::from_slice(json).map_err(|e| format!("the model's configuration: {e}"))?;
        let class = value.get("class_name").and_then(Value::as_str).unwrap_or_default();
        let config = value.get("config").ok_or("the model's configuration: expected \"config\", got none")?;
        Self::new(config)?
            .ok_or_else(|| format!("the model is a class of its own, {}: its code is not in the file", shown(class)))
    }

    /// `None` for what has no layers.
    fn new(config: &Value) -> Result<Option<Self>, String> {
        // Keras 1, and Sequential of the first Keras 2: a list of layers.
        let Some(list) = config.as_array().or_else(|| config.get("layers")?.as_array()) else { return Ok(None) };
        let layers = list.iter().map(LayerConfig::new).collect::<Result<Vec<_>, _>>()?;
        let mut names = HashSet::new();
        if let Some(twice) = layers.iter().find(|layer| !names.insert(layer.name.as_str())) {
            return Err(format!("the model's configuration: two layers named {}", shown(&twice.name)));
        }
        match (config.get("input_layers"), config.get("output_layers")) {
            (Some(inputs), Some(outputs)) => {
                let mut model = Self { layers, inputs: sources(inputs), outputs: sources(outputs) };
                model.renumber();
                Ok(Some(model))
            }
            _ => Self::sequential(layers, config).map(Some),
        }
    }

    /// tf.keras counts the calls of a model in the model from 1 on: its making was the first, which the configuration leaves out.
    fn renumber(&mut self) {
        let mut calls: HashMap<String, usize> = HashMap::new();
        calls.extend(self.layers.iter().filter(|l| l.model.is_some()).map(|l| (l.name.clone(), l.calls.len())));
        let mut from_one = HashMap::new();
        self.each_source(&mut |source| {
            if let Some(count) = calls.get(&source.layer) {
                let all = from_one.entry(source.layer.clone()).or_insert(true);
                *all &= (1..=*count).contains(&source.call);
            }
        });
        self.each_source(&mut |source| {
            if from_one.get(&source.layer) == Some(&true) {
                source.call -= 1;
            }
        });
    }

    fn each_source(&mut self, each: &mut impl FnMut(&mut Source)) {
        let calls = self.layers.iter_mut().flat_map(|layer| &mut layer.calls);
        let read = calls.flat_map(|call| call.inputs.iter_mut().chain(call.named.iter_mut().map(|(_, source)| source)));
        read.chain(&mut self.outputs).for_each(each);
    }

    /// A chain of layers, with an input layer in front.
    fn sequential(mut layers: Vec<LayerConfig>, config: &Value) -> Result<Self, String> {
        let first = layers.first().ok_or("the model's configuration: no layers")?;
        if first.class != "InputLayer" {
            let shape = first.input_shape().or_else(|| config.get("build_input_shape").cloned());
            let mut input = LayerConfig {
                name: format!("{}_input", first.name),
                class: "InputLayer".into(),
                fields: Map::new(),
                model: None,
                calls: Vec::new(),
            };
            shape.and_then(|shape| input.fields.insert("batch_shape".into(), shape));
            layers.insert(0, input);
        }
        let mut before: Option<Source> = None;
        for layer in &mut layers {
            layer.calls = vec![Call { inputs: before.into_iter().collect(), named: Vec::new() }];
            before = Some(Source { layer: layer.name.clone(), call: 0, tensor: 0 });
        }
        let input = Source { layer: layers[0].name.clone(), call: 0, tensor: 0 };
        Ok(Self { layers, inputs: vec![input], outputs: before.into_iter().collect() })
    }
}

impl LayerConfig {
    /// From JSON.
    pub fn new(value: &Value) -> Result<Self, String> {
        let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_string);
        let class = text(value, "class_name").ok_or("a layer: expected \"class_name\", got none")?;
        let config = value.get("config").unwrap_or(&Value::Null);
        let model = ModelConfig::new(config)?;
        let fields = config.as_object().filter(|_| model.is_none()).cloned().unwrap_or_default();
        let name = text(value, "name").or_else(|| text(config, "name"));
        let name =
            name.or_else(|| value.get("config")?.get("layer").and_then(|inner| text(inner.get("config")?, "name")));
        let name = name.ok_or_else(|| format!("a layer of class {}: expected a name, got none", shown(&class)))?;
        let nodes = value.get("inbound_nodes").and_then(Value::as_array);
        let mut calls: Vec<Call> = nodes.map_or(Vec::new(), |nodes| nodes.iter().map(Call::new).collect());
        if calls.is_empty() && class == "InputLayer" {
            calls.push(Call::default());
        }
        Ok(Self { name, class, fields, model, calls })
    }

    /// The layer inside a wrapper, under `layer` or `backward_layer`.
    pub fn wrapped(&self, key: &str) -> Result<Self> {
        let inner = self.fields.get(key).ok_or_else(|| Error::mismatch(key, "a layer", "none"))?;
        Self::new(inner).map_err(|reason| Error::mismatch(key, "a layer", reason))
    }

    /// A field that is there and not null.
    pub fn field(&self, key: &str) -> Option<&Value> {
        self.fields.get(key).filter(|value| !value.is_null())
    }

    /// One of several names for a size: Keras 1 had others.
    pub fn size(&self, keys: &[&str]) -> Result<usize> {
        let value = keys.iter().find_map(|key| self.field(key));
        let size = value.and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok());
        let got = || value.map_or("none".into(), |v| shown(&v.to_string()));
        size.ok_or_else(|| Error::mismatch(keys.first().copied().unwrap_or_default(), "a size", got()))
    }

    /// A yes or no.
    pub fn flag(&self, key: &str, default: bool) -> bool {
        self.field(key).and_then(Value::as_bool).unwrap_or(default)
    }

    /// A number.
    pub fn number(&self, key: &str, default: f64) -> f64 {
        self.field(key).and_then(Value::as_f64).unwrap_or(default)
    }

    /// A text.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.field(key).and_then(Value::as_str)
    }

    /// A number, or a list of one.
    pub fn integers(&self, key: &str) -> Option<Vec<i64>> {
        match self.field(key)? {
            Value::Array(all) => all.iter().map(Value::as_i64).collect(),
            one => one.as_i64().map(|one| vec![one]),
        }
    }

    /// The name of an activation; `None`: no activation. Keras 3 has objects for those that are no plain names.
    pub fn activation(&self, keys: &[&str]) -> Option<String> {
        let value = keys.iter().find_map(|key| self.field(key))?;
        let of = |value: &Value| value.as_str().map(str::to_string);
        let name = of(value).or_else(|| match value.get("class_name")?.as_str()? {
            "function" => of(value.get("config")?),
            class => Some(class.to_string()),
        });
        Some(name.unwrap_or_else(|| value.to_string()))
    }

    /// The shape that the layer's first input has, with the batch; `None` where the configuration does not say it.
    pub fn input_shape(&self) -> Option<Value> {
        if let Some(shape) = self.field("batch_shape").or_else(|| self.field("batch_input_shape")) {
            return Some(shape.clone());
        }
        if let Some(Value::Array(shape)) = self.field("input_shape") {
            return Some(std::iter::once(Value::Null).chain(shape.iter().cloned()).collect());
        }
        if let Some(model) = &self.model {
            let input = model.inputs.first()?;
            return model.layers.iter().find(|l| l.name == input.layer)?.input_shape();
        }
        match self.wrapped("layer") {
            Ok(inner) => inner.input_shape(),
            Err(_) => (self.class == "Embedding").then(|| vec![Value::Null, Value::Null].into()),
        }
    }

    /// The layer as it is called in messages.
    pub fn label(&self) -> String {
        format!("layer {} ({})", shown(&self.name), shown(&self.class))
    }
}

impl Call {
    /// What a recurrent layer is told to begin from, by name.
    pub fn begin(&self) -> impl Iterator<Item = &Source> {
        self.named.iter().filter(|(name, _)| name == "initial_state").map(|(_, source)| source)
    }

    fn new(node: &Value) -> Self {
        match node {
            Value::Object(node) => {
                let named = node.get("kwargs").and_then(Value::as_object);
                Self { inputs: node.get("args").map_or(Vec::new(), sources), named: named.map_or(Vec::new(), by_name) }
            }
            other => {
                // Keras 2: [[name, call, tensor, {named}], ...], and for a single one without the outer list.
                let single = other.get(0).is_some_and(Value::is_string);
                let list =
                    if single { std::slice::from_ref(other) } else { other.as_array().map_or(&[][..], Vec::as_slice) };
                let named = list.iter().filter_map(|item| item.get(3)?.as_object()).flat_map(by_name);
                Self { inputs: list.iter().flat_map(sources).collect(), named: named.collect() }
            }
        }
    }
}

/// Tensors among arguments with names.
fn by_name(named: &Map<String, Value>) -> Vec<(String, Source)> {
    named.iter().flat_map(|(name, value)| sources(value).into_iter().map(move |s| (name.clone(), s))).collect()
}

/// All tensors that a value names, in its order: `[layer, call, tensor]`, objects that hold such a list as `keras_history`, and lists
/// and objects of them.
fn sources(value: &Value) -> Vec<Source> {
    if let Some(source) = source(value) {
        return vec![source];
    }
    match value {
        Value::Array(all) => all.iter().flat_map(sources).collect(),
        Value::Object(object) => match object.get("config").and_then(|config| config.get("keras_history")) {
            Some(history) => source(history).into_iter().collect(),
            None => object.values().flat_map(sources).collect(),
        },
        _ => Vec::new(),
    }
}

fn source(value: &Value) -> Option<Source> {
    let index = |n: usize| value.get(n)?.as_u64().and_then(|n| usize::try_from(n).ok());
    Some(Source { layer: value.get(0)?.as_str()?.to_string(), call: index(1)?, tensor: index(2)? })
}

/// A name out of a file, of a length that a message can hold.
pub(super) fn shown(text: &str) -> String {
    let short: String = text.chars().take(80).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if short.chars().count() < text.chars().count() { format!("{short}…") } else { short }
}
