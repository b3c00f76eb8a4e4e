//! Stacks of layers: a recurrent node that reads all of the y of the node before it, with the same configuration, is the next layer of one
//! stack, whose layers run side by side over time.
//!
//! A stack goes into the network when something reads its last y. Where something reads what is inside it (the y of a layer below, the last
//! h of one while the network runs), the layer above begins a stack of its own ([`Stop::Apart`]).

use super::axes::{Made, Stop};
use super::lower::{Begin, Lowering, Source};
use super::value::{Column, Laid};
use wgpu_rnn::network::Part;
use wgpu_rnn::weights::{LayerWeights, Weights};
use wgpu_rnn::{Result, RnnConfig};

/// A stack that may grow.
pub struct Stack {
    /// Of all its layers.
    config: RnnConfig,
    x: Part,
    weights: Vec<LayerWeights<f64>>,
    layers: Vec<Layer>,
}

/// A recurrent node on its way into a stack.
pub struct Layer {
    /// Of the node.
    name: String,
    /// What h and the cell states begin with, `[D, H]` each; `None`: zeros.
    begin: [Option<Vec<Column>>; 2],
    /// The sources of its y and of its state.
    sources: [u32; 2],
}

impl Layer {
    pub fn new(name: &str, begin: [Option<Vec<Column>>; 2]) -> Self {
        Self { name: name.into(), begin, sources: [0; 2] }
    }
}

/// A layer of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    stack: usize,
    layer: usize,
}

/// Where the columns of a source are in the state of an operation: some of h, then some of what is behind it.
#[derive(Clone, Debug)]
pub struct StatePlaces {
    /// Which state.
    pub state: usize,
    /// How many of the columns are of h.
    width: usize,
    /// Where the first of h is, and the first behind it.
    first: [usize; 2],
}

impl StatePlaces {
    /// All of a state as it is.
    pub fn whole(state: usize) -> Self {
        Self { state, width: usize::MAX, first: [0, 0] }
    }

    pub fn at(&self, column: usize) -> usize {
        match column.checked_sub(self.width) {
            None => self.first[0] + column,
            Some(behind) => self.first[1] + behind,
        }
    }
}

/// What of a state the network itself can read.
#[derive(Clone, Debug)]
pub enum Readable {
    /// h, as the last steps of the y that is the last layer's.
    Last(Part, Box<RnnConfig>),
    /// Nothing: a node of that name has joined above it.
    Below(String),
    /// Nothing; the operation's own value is that part.
    Nothing(Part),
}

impl Lowering<'_> {
    /// A recurrent node of one layer over x: the sources of its y and of its state, h `[D, H]` with the cell states behind.
    pub fn layer(&mut self, x: &Laid, config: RnnConfig, weights: Weights<f64>, mut layer: Layer) -> Made<[u32; 2]> {
        let below = self.below(x, &config).filter(|_| !self.facts.keeps_apart(&layer.name));
        let place = match below {
            Some(stack) => Place { stack, layer: self.stacks[stack].layers.len() },
            None => {
                let x = self.dense(&layer.name, x)?;
                let one = Stack { config, x, weights: Vec::new(), layers: Vec::new() };
                self.stacks.push(one);
                Place { stack: self.stacks.len() - 1, layer: 0 }
            }
        };
        layer.sources = [self.source(Source::Layer(place)), self.source(Source::Last(place))];
        let sources = layer.sources;
        let stack = &mut self.stacks[place.stack];
        stack.config.num_layers = place.layer + 1;
        stack.weights.extend(weights.layers);
        stack.layers.push(layer);
        Ok(sources)
    }

    /// The stack that a node may join: x is its last y, and nothing has read that yet.
    fn below(&self, x: &Laid, config: &RnnConfig) -> Option<usize> {
        let Some(&Column::Of(source, 0)) = x.columns.first() else { return None };
        let Source::Layer(place) = &self.sources[source as usize] else { return None };
        let stack = &self.stacks[place.stack];
        let whole = x.columns.iter().enumerate().all(|(n, column)| *column == Column::Of(source, n as u32));
        let same =
            RnnConfig { num_layers: stack.config.num_layers, input_size: stack.config.input_size, ..config.clone() };
        let fits = place.layer + 1 == stack.layers.len()
            && whole
            && x.columns.len() == stack.config.output_size()
            && same == stack.config;
        fits.then_some(place.stack)
    }

    /// A source of a stack as what it is in the network.
    pub fn settle(&mut self, source: u32) -> Made<()> {
        match &self.sources[source as usize] {
            Source::Layer(place) => match self.stacks[place.stack].layers.get(place.layer + 1) {
                Some(above) => Err(Stop::Apart(above.name.clone())),
                None => Ok(self.put(place.stack)?),
            },
            Source::Last(place) => Ok(self.put(place.stack)?),
            Source::Inside(above) => Err(Stop::Apart(above.clone())),
            _ => Ok(()),
        }
    }

    /// Puts a stack into the network.
    fn put(&mut self, n: usize) -> Result<()> {
        let Stack { config, x, weights, layers } = &mut self.stacks[n];
        let (config, x, layers) = (config.clone(), *x, std::mem::take(layers));
        let weights = Weights { layers: std::mem::take(weights), ..Weights::default() };
        let name = self.fresh(&layers[0].name);
        self.fresh(&format!("{name}.x"));
        let y = self.builder.layers(&name, x, &config)?;
        self.params.extend(weights.flat::<f64>(&config));
        // h of all layers, then the cell states of all.
        let widths = [config.state_size(), config.cell_size()].map(|width| width * config.directions());
        let mut begin = Vec::new();
        for (part, width) in widths.into_iter().enumerate() {
            for layer in &layers {
                let zeros = || vec![Column::Number(0.0); width];
                begin.extend(layer.begin[part].clone().unwrap_or_else(zeros));
            }
        }
        let zeros = layers.iter().all(|layer| layer.begin.iter().all(Option::is_none));
        let state = self.states.len();
        self.states.push(Begin { size: begin.len(), columns: Some(begin).filter(|_| !zeros) });
        for (at, layer) in layers.iter().enumerate() {
            let [h, c] = widths;
            let places = StatePlaces { state, width: h, first: [at * h, layers.len() * h + at * c] };
            let readable = match layers.get(at + 1) {
                Some(above) => Readable::Below(above.name.clone()),
                None => Readable::Last(y, Box::new(config.clone())),
            };
            let [of_y, of_state] = layer.sources;
            self.sources[of_state as usize] = Source::State(places, readable);
            self.sources[of_y as usize] = match layers.get(at + 1) {
                Some(above) => Source::Inside(above.name.clone()),
                None => Source::Made(y),
            };
        }
        Ok(())
    }
}
