//! Published blocks: whole models against transformers' results and gradients, RWKV-6 and -7 against naive loops of their published
//! code, and the laws that hold whatever the block.

mod goldens;
mod laws;
mod loading;
mod rwkv;

use std::sync::LazyLock;
use wgpu_rnn::blocks::{Mamba, Mamba2, Model, Rwkv4, Rwkv6, Rwkv7, Rwkv7Names};
use wgpu_rnn::network::Network;
use wgpu_rnn::{Device, Tensor};

/// One GPU for all tests, so that they share what is compiled; its shaders check their indices.
fn gpu() -> Device {
    static GPU: LazyLock<Device> =
        LazyLock::new(|| Device::gpu().expect("a GPU adapter; Mesa's lavapipe will do").checked());
    GPU.clone()
}

/// Whether everything is asked for (`WGPU_RNN_ALL=1`): a driver compiles every text of a kernel anew, which takes it longer than all
/// runs together.
fn all() -> bool {
    std::env::var_os("WGPU_RNN_ALL").is_some_and(|v| v == "1")
}

/// Whether a model runs on a GPU by default: one has all operations of blocks and a scan with a correction, one norms without a gain.
fn on_gpu(model: &Model) -> bool {
    let one = |model: &Model| match model {
        Model::Mamba(m) => m.mixer_epsilon.is_some(),
        Model::Rwkv7(m) => m.names == Rwkv7Names::RwkvLm,
        _ => false,
    };
    all() || one(model)
}

/// One small model of each kind, and of each names; sizes that differ wherever they may.
fn models() -> [Model; 8] {
    let mamba = Mamba {
        hidden_size: 7,
        intermediate_size: 11,
        state_size: 3,
        conv_kernel: 3,
        time_step_rank: 2,
        num_layers: 2,
        use_bias: true,
        use_conv_bias: false,
        epsilon: 1e-5,
        mixer_epsilon: None,
    };
    let rwkv7 = Rwkv7 {
        hidden_size: 6,
        head_size: 3,
        intermediate_size: 11,
        decay_rank: 2,
        rate_rank: 3,
        value_rank: 4,
        gate_rank: 5,
        num_layers: 2,
        names: Rwkv7Names::RwkvLm,
    };
    [
        Model::Mamba(mamba.clone()),
        Model::Mamba2(Mamba2 {
            hidden_size: 9,
            num_heads: 6,
            head_dim: 2,
            state_size: 5,
            n_groups: 3,
            conv_kernel: 4,
            num_layers: 2,
            use_bias: true,
            use_conv_bias: true,
            epsilon: 1e-5,
        }),
        Model::Rwkv4(Rwkv4 {
            hidden_size: 6,
            attention_hidden_size: 8,
            intermediate_size: 13,
            num_layers: 2,
            epsilon: 1e-5,
        }),
        Model::Rwkv6(Rwkv6 {
            hidden_size: 6,
            head_size: 3,
            intermediate_size: 11,
            mix_rank: 2,
            decay_rank: 4,
            num_layers: 2,
        }),
        Model::Rwkv7(rwkv7.clone()),
        // FalconMamba.
        Model::Mamba(Mamba { use_bias: false, use_conv_bias: true, mixer_epsilon: Some(1e-3), ..mamba }),
        // Of heads as wide as in the golden: ε goes with the width there, and a norm over three nearly equal values multiplies roundings.
        Model::Rwkv7(Rwkv7 { hidden_size: 8, head_size: 4, names: Rwkv7Names::Fla, ..rwkv7.clone() }),
        Model::Rwkv7(Rwkv7 { hidden_size: 8, head_size: 4, names: Rwkv7Names::FlaStacked, ..rwkv7 }),
    ]
}

/// Numbers in −1..1 that look random and are the same every time.
fn numbers(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn tensor(shape: &[usize], seed: u64) -> Tensor<f64> {
    Tensor { data: numbers(shape.iter().product(), seed), shape: shape.to_vec() }
}

/// Parameters as files hold them; gains near 1.
fn params(network: &Network, seed: u64) -> Vec<(String, Tensor<f64>)> {
    let flat = numbers(network.parameter_count(), seed);
    let mut named = network.named(&flat).expect("as many as there are");
    for (name, tensor) in &mut named {
        let gain = name.contains("norm") || name.contains("ln");
        if gain && name.ends_with("weight") {
            tensor.data.iter_mut().for_each(|v| *v = 1.0 + 0.3 * *v);
        }
    }
    named
}

fn flat(network: &Network, named: &[(String, Tensor<f64>)]) -> Vec<f64> {
    network.flat(|name| Ok(named.iter().find(|(n, _)| n == name).map(|(_, t)| t.clone()))).expect("all of them")
}
