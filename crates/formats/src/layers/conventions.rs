//! What tools call the parameters of recurrent layers: a table, one row per class of a tool.
//!
//! A row gives, for each parameter by its PyTorch name, the tensors that it is made of, one after the other along the gates. All
//! tools here have the gates in PyTorch's order (i, f, g, o; r, z, n), or a tensor per gate.

use wgpu_rnn::{Cell, cells};

/// What a tool calls the parameters of a recurrent layer.
#[derive(Debug)]
pub struct Convention {
    /// The tool and its classes: `MLX nn.LSTM`.
    pub tool: &'static str,
    /// Where that was looked up, and in which version.
    pub source: &'static str,
    /// The cells that it may be, the likeliest first.
    pub(super) cells: &'static [&'static Cell],
    /// What stands before the names in each direction: one, or forward and reverse.
    pub(super) directions: &'static [&'static str],
    pub(super) parameters: &'static [Parameter],
}

/// A parameter of layer 0.
#[derive(Debug)]
pub(super) struct Parameter {
    /// Its name in PyTorch, without `_l0`.
    pub name: &'static str,
    /// The tensors that it is made of: one with all gates, or one per gate; `""` is a gate whose values are 0.
    pub from: &'static [&'static str],
    /// Whether the tensors are transposed: `[I, G·H]`.
    pub transposed: bool,
}

const fn rows(name: &'static str, from: &'static [&'static str]) -> Parameter {
    Parameter { name, from, transposed: false }
}

const fn columns(name: &'static str, from: &'static [&'static str]) -> Parameter {
    Parameter { name, from, transposed: true }
}

/// The layers of PyTorch, a whole stack under one prefix, whose names are this crate's.
pub(super) static PYTORCH: Convention = Convention {
    tool: "PyTorch nn.LSTM, nn.GRU, nn.RNN",
    source: "torch 2.15.0, torch/nn/modules/rnn.py; candle-nn has the same names (candle-nn/src/rnn.rs)",
    cells: &ALL,
    directions: &[""],
    parameters: &[],
};

/// The layers of other names. Where two rows fit, the first is taken.
pub(super) static CONVENTIONS: [Convention; 16] = [
    Convention {
        tool: "PyTorch nn.LSTMCell, nn.GRUCell, nn.RNNCell",
        source: "torch 2.15.0, torch/nn/modules/rnn.py",
        cells: &ALL,
        directions: &[""],
        parameters: &[
            rows("weight_ih", &["weight_ih"]),
            rows("weight_hh", &["weight_hh"]),
            rows("bias_ih", &["bias_ih"]),
            rows("bias_hh", &["bias_hh"]),
        ],
    },
    Convention {
        tool: "equinox nn.GRUCell",
        source: "equinox 0.13.8, equinox/nn/_rnn.py",
        cells: &[&cells::GRU],
        directions: &[""],
        parameters: &[
            rows("weight_ih", &["weight_ih"]),
            rows("weight_hh", &["weight_hh"]),
            rows("bias_ih", &["bias"]),
            rows("bias_hh", &["", "", "bias_n"]),
        ],
    },
    Convention {
        tool: "equinox nn.LSTMCell",
        source: "equinox 0.13.8, equinox/nn/_rnn.py",
        cells: &[&cells::LSTM],
        directions: &[""],
        parameters: &[rows("weight_ih", &["weight_ih"]), rows("weight_hh", &["weight_hh"]), rows("bias_ih", &["bias"])],
    },
    Convention {
        tool: "MLX nn.LSTM",
        source: "mlx 0.32.4, mlx/nn/layers/recurrent.py",
        cells: &[&cells::LSTM],
        directions: &[""],
        parameters: &[rows("weight_ih", &["Wx"]), rows("weight_hh", &["Wh"]), rows("bias_ih", &["bias"])],
    },
    Convention {
        tool: "MLX nn.GRU",
        source: "mlx 0.32.4, mlx/nn/layers/recurrent.py",
        cells: &[&cells::GRU],
        directions: &[""],
        parameters: &[
            rows("weight_ih", &["Wx"]),
            rows("weight_hh", &["Wh"]),
            rows("bias_ih", &["b"]),
            rows("bias_hh", &["", "", "bhn"]),
        ],
    },
    Convention {
        tool: "MLX nn.RNN",
        source: "mlx 0.32.4, mlx/nn/layers/recurrent.py",
        cells: &RNN,
        directions: &[""],
        parameters: &[rows("weight_ih", &["Wxh"]), rows("weight_hh", &["Whh"]), rows("bias_ih", &["bias"])],
    },
    Convention {
        tool: "Flax linen.LSTMCell, linen.OptimizedLSTMCell",
        source: "flax 0.12.8, flax/linen/recurrent.py",
        cells: &[&cells::LSTM],
        directions: &[""],
        parameters: &[
            columns("weight_ih", &["ii.kernel", "if.kernel", "ig.kernel", "io.kernel"]),
            columns("weight_hh", &["hi.kernel", "hf.kernel", "hg.kernel", "ho.kernel"]),
            rows("bias_hh", &["hi.bias", "hf.bias", "hg.bias", "ho.bias"]),
        ],
    },
    Convention {
        tool: "Flax linen.GRUCell",
        source: "flax 0.12.8, flax/linen/recurrent.py",
        cells: &[&cells::GRU],
        directions: &[""],
        parameters: &[
            columns("weight_ih", &["ir.kernel", "iz.kernel", "in.kernel"]),
            columns("weight_hh", &["hr.kernel", "hz.kernel", "hn.kernel"]),
            rows("bias_ih", &["ir.bias", "iz.bias", "in.bias"]),
            rows("bias_hh", &["", "", "hn.bias"]),
        ],
    },
    Convention {
        tool: "Flax linen.SimpleCell",
        source: "flax 0.12.8, flax/linen/recurrent.py",
        cells: &RNN,
        directions: &[""],
        parameters: &[
            columns("weight_ih", &["i.kernel"]),
            columns("weight_hh", &["h.kernel"]),
            rows("bias_ih", &["i.bias"]),
        ],
    },
    Convention {
        tool: "Flax nnx.LSTMCell",
        source: "flax 0.12.8, flax/nnx/nn/recurrent.py",
        cells: &[&cells::LSTM],
        directions: &[""],
        parameters: &[
            columns("weight_ih", &["ii.kernel", "if_.kernel", "ig.kernel", "io.kernel"]),
            columns("weight_hh", &["hi.kernel", "hf.kernel", "hg.kernel", "ho.kernel"]),
            rows("bias_hh", &["hi.bias", "hf.bias", "hg.bias", "ho.bias"]),
        ],
    },
    Convention {
        tool: "Flax nnx.OptimizedLSTMCell",
        source: "flax 0.12.8, flax/nnx/nn/recurrent.py",
        cells: &[&cells::LSTM],
        directions: &[""],
        parameters: &[
            columns("weight_ih", &["dense_i.kernel"]),
            columns("weight_hh", &["dense_h.kernel"]),
            rows("bias_hh", &["dense_h.bias"]),
        ],
    },
    Convention {
        tool: "Flax nnx.GRUCell",
        source: "flax 0.12.8, flax/nnx/nn/recurrent.py",
        cells: &[&cells::GRU],
        directions: &[""],
        parameters: &[
            columns("weight_ih", &["dense_i.kernel"]),
            columns("weight_hh", &["dense_h.kernel"]),
            rows("bias_ih", &["dense_i.bias"]),
        ],
    },
    Convention {
        tool: "Flax nnx.SimpleCell",
        source: "flax 0.12.8, flax/nnx/nn/recurrent.py",
        cells: &RNN,
        directions: &[""],
        parameters: &[
            columns("weight_ih", &["dense_i.kernel"]),
            columns("weight_hh", &["dense_h.kernel"]),
            rows("bias_ih", &["dense_i.bias"]),
        ],
    },
    Convention {
        tool: "burn nn.Lstm, nn.BiLstm",
        source: "burn 0.23.0-pre.1, crates/burn-nn/src/modules/rnn/lstm",
        cells: &[&cells::LSTM],
        directions: &["forward.", "reverse."],
        parameters: &[
            columns(
                "weight_ih",
                &[
                    "input_gate.input_transform.weight",
                    "forget_gate.input_transform.weight",
                    "cell_gate.input_transform.weight",
                    "output_gate.input_transform.weight",
                ],
            ),
            columns(
                "weight_hh",
                &[
                    "input_gate.hidden_transform.weight",
                    "forget_gate.hidden_transform.weight",
                    "cell_gate.hidden_transform.weight",
                    "output_gate.hidden_transform.weight",
                ],
            ),
            rows(
                "bias_ih",
                &[
                    "input_gate.input_transform.bias",
                    "forget_gate.input_transform.bias",
                    "cell_gate.input_transform.bias",
                    "output_gate.input_transform.bias",
                ],
            ),
            rows(
                "bias_hh",
                &[
                    "input_gate.hidden_transform.bias",
                    "forget_gate.hidden_transform.bias",
                    "cell_gate.hidden_transform.bias",
                    "output_gate.hidden_transform.bias",
                ],
            ),
        ],
    },
    Convention {
        tool: "burn nn.Gru, nn.BiGru",
        source: "burn 0.23.0-pre.1, crates/burn-nn/src/modules/rnn/gru.rs; reset_after is its default and not in the file",
        cells: &[&cells::GRU, &cells::GRU_RESET_BEFORE],
        directions: &["forward.", "reverse."],
        parameters: &[
            columns(
                "weight_ih",
                &[
                    "reset_gate.input_transform.weight",
                    "update_gate.input_transform.weight",
                    "new_gate.input_transform.weight",
                ],
            ),
            columns(
                "weight_hh",
                &[
                    "reset_gate.hidden_transform.weight",
                    "update_gate.hidden_transform.weight",
                    "new_gate.hidden_transform.weight",
                ],
            ),
            rows(
                "bias_ih",
                &[
                    "reset_gate.input_transform.bias",
                    "update_gate.input_transform.bias",
                    "new_gate.input_transform.bias",
                ],
            ),
            rows(
                "bias_hh",
                &[
                    "reset_gate.hidden_transform.bias",
                    "update_gate.hidden_transform.bias",
                    "new_gate.hidden_transform.bias",
                ],
            ),
        ],
    },
    Convention {
        tool: "burn nn.Rnn, nn.BiRnn",
        source: "burn 0.23.0-pre.1, crates/burn-nn/src/modules/rnn/basic.rs",
        cells: &RNN,
        directions: &["forward.", "reverse."],
        parameters: &[
            columns("weight_ih", &["gate.input_transform.weight"]),
            columns("weight_hh", &["gate.hidden_transform.weight"]),
            rows("bias_ih", &["gate.input_transform.bias"]),
            rows("bias_hh", &["gate.hidden_transform.bias"]),
        ],
    },
];

/// Every cell, the likeliest of those of one number of gates first.
static ALL: [&Cell; 9] = [
    &cells::LSTM,
    &cells::GRU,
    &cells::RNN_TANH,
    &cells::RNN_RELU,
    &cells::GRU_RESET_BEFORE,
    &cells::LSTM_PEEPHOLE,
    &cells::LSTM_LAYER_NORM,
    &cells::GRU_LAYER_NORM,
    &cells::SLSTM,
];
static RNN: [&Cell; 2] = [&cells::RNN_TANH, &cells::RNN_RELU];
