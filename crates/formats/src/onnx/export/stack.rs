//! A stack with what is around it: its network, with the stack's own names and axes at the ends.

use super::Export;
use super::network::{Ends, Lowering};
use wgpu_rnn::network::Network;
use wgpu_rnn::num::Real;
use wgpu_rnn::weights::Weights;
use wgpu_rnn::{Head, Layout, Result, RnnConfig};

/// The bytes of its model, see [`Export::stack`].
pub fn bytes<T: Real>(export: Export, config: &RnnConfig, weights: &Weights<T>) -> Result<Vec<u8>> {
    weights.validate(config)?;
    let head = config.head.map(|head| Head { loss: None, ..head });
    let ends = Ends { batch_first: config.layout == Layout::BatchFirst, one_stack: true };
    let network = Network::of_config(&RnnConfig { layout: Layout::TimeMajor, head, ..config.clone() })?;
    let name = if head.is_some() { "logits" } else { "y" };
    let outputs = network.outputs.iter().map(|(_, part)| (name.to_string(), *part)).collect();
    Lowering::new(export, ends, &network, &weights.flat::<T>(config), outputs)?.bytes()
}
