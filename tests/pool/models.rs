//! The models that pools are tested with.

use std::sync::Arc;
use wgpu_rnn::network::{Builder, Network};
use wgpu_rnn::*;

/// What a pool runs.
#[derive(Clone)]
pub enum Model {
    Stack(RnnConfig, Box<Weights<f32>>),
    Network(Arc<Network>, Vec<f32>),
}

impl Model {
    pub fn stack(config: RnnConfig) -> Self {
        let weights = Weights::random(&config, 3).expect("weights");
        Self::Stack(config, Box::new(weights))
    }

    pub fn network(network: Network) -> Self {
        let params = network.random(3).expect("parameters");
        Self::Network(Arc::new(network), params)
    }

    pub fn pool(&self, device: &Device, options: &PoolOptions) -> StreamPool {
        match self {
            Self::Stack(config, weights) => {
                let sessions = RnnOptions { plan: plan(device), ..RnnOptions::default() };
                StreamPool::of_rnn_with(device, config, weights, &sessions, options)
            }
            Self::Network(network, params) => StreamPool::of_model(device, network, params, options),
        }
        .expect("a pool")
    }
}

/// One strategy for all shapes on a GPU, so that a session of one stream has it too.
pub fn plan(device: &Device) -> Options {
    Options { strategy: (device.kind() == "gpu").then_some(Strategy::Step), ..Default::default() }
}

pub fn lstm() -> Model {
    Model::stack(RnnConfig::lstm(3, 6))
}

pub fn gru() -> Model {
    Model::stack(RnnConfig::gru(4, 7))
}

pub fn projection() -> Model {
    Model::stack(RnnConfig { proj_size: 3, ..RnnConfig::lstm(3, 6) })
}

pub fn two_layers() -> Model {
    Model::stack(RnnConfig { num_layers: 2, ..RnnConfig::gru(3, 5) })
}

/// Token ids in, a head's predictions out.
pub fn tokens() -> Model {
    let head = Some(Head { size: 4, loss: Some(Loss::CrossEntropy) });
    Model::stack(RnnConfig { vocabulary: Some(11), head, num_layers: 2, ..RnnConfig::lstm(3, 6) })
}

pub fn mamba() -> Model {
    let mamba =
        blocks::Mamba { hidden_size: 5, intermediate_size: 9, state_size: 3, time_step_rank: 2, ..Default::default() };
    Model::network(blocks::Model::Mamba(mamba).network().expect("a network"))
}

pub fn rwkv() -> Model {
    let rwkv = blocks::Rwkv7 { hidden_size: 8, head_size: 4, intermediate_size: 9, ..Default::default() };
    Model::network(blocks::Model::Rwkv7(rwkv).network().expect("a network"))
}

pub fn rwkv4() -> Model {
    let rwkv = blocks::Rwkv4 { hidden_size: 6, attention_hidden_size: 8, intermediate_size: 10, ..Default::default() };
    Model::network(blocks::Model::Rwkv4(rwkv).network().expect("a network"))
}

/// Two inputs, one of which has token ids; layers, a convolution, a scan and two outputs, one of which is a part of a value.
pub fn mixed() -> Model {
    let build = || -> Result<Network> {
        let mut b = Builder::new();
        let (ids, x) = (b.input("ids", 1)?, b.input("x", 3)?);
        let words = b.embedding("words", ids, 6, 3)?;
        let both = b.concat("both", &[words, x])?;
        let (taps, bias) = (b.param("conv.weight", &[6, 1, 3])?, b.param("conv.bias", &[6])?);
        let conv = b.conv("conv", both, (taps, Some(bias)), (2, 0))?;
        let y = b.layers("lstm", conv, &RnnConfig { num_layers: 2, ..RnnConfig::lstm(6, 4) })?;
        let z = b.scan("scan", &rules::MINGRU, [4, 1, 1], &[y.into(), y.into()], false)?;
        b.output("z", z)?;
        b.output("part", y.columns(1, 2)?)?;
        b.finish()
    };
    Model::network(build().expect("a network"))
}
