//! Elementwise recurrences h' = a ∘ h + b: a head per channel, K = V = 1, y = h'. Inputs are pre-activations.
//!
//! ```text
//! mingru    h' = (1 − σ(z)) h + σ(z) h~                                   Feng et al. 2024 (arXiv 2410.01201)
//! minlstm   h' = f' h + i' h~,  f' = σ(f) / (σ(f) + σ(i)),  i' = 1 − f'   the same
//! sru       c' = σ(f) c + (1 − σ(f)) x                                    Lei et al. 2018 (arXiv 1709.02755), without its highway
//! qrnn      c' = σ(f) c + (1 − σ(f)) tanh(z)                              Bradbury et al. 2017 (arXiv 1611.01576), f-pooling
//! indrnn    h' = u h + x                                                  Li et al. 2018 (arXiv 1803.04831), without activation
//! rg-lru    h' = a h + √(1 − a²) σ(i) x,  log a = −8 softplus(Λ) σ(r)     De et al. 2024 (arXiv 2402.19427)
//! ```
//!
//! minLSTM's f' is σ(softplus(−i) − softplus(−f)): the quotient of two sigmoids that may both be 0 in floating point never is formed.

use crate::expr::{Expr, exp, exp_m1, sigmoid, softplus, sqrt, tanh};
use crate::model::rule::{Form, HeadState, Port, Read, Rule};

/// h' = decay · h + write · value
fn pooled(decay: Expr, write: Expr, value: Expr) -> Form {
    Form {
        decay: Some(decay),
        erase: None,
        write,
        query: Expr::Constant(1.0),
        through: None,
        value,
        read: Read::After,
        stabiliser: None,
    }
}

/// minGRU; z: the update gate, h: the candidate.
pub static MINGRU: Rule = Rule {
    name: "mingru",
    inputs: &[Port::head("z"), Port::value("h")],
    params: &[],
    state: HeadState::Scalar,
    form: || {
        let z = || Expr::input(MINGRU.port("z"));
        pooled(sigmoid(-z()), sigmoid(z()), Expr::input(MINGRU.port("h")))
    },
};

/// minLSTM; f, i: the gates, h: the candidate.
pub static MINLSTM: Rule = Rule {
    name: "minlstm",
    inputs: &[Port::head("f"), Port::head("i"), Port::value("h")],
    params: &[],
    state: HeadState::Scalar,
    form: || {
        let input = |name| Expr::input(MINLSTM.port(name));
        let difference = || softplus(-input("i")) - softplus(-input("f"));
        pooled(sigmoid(difference()), sigmoid(-difference()), input("h"))
    },
};

/// SRU's cell; f: the forget gate, x: its transformed input.
pub static SRU: Rule = Rule {
    name: "sru",
    inputs: &[Port::head("f"), Port::value("x")],
    params: &[],
    state: HeadState::Scalar,
    form: || {
        let f = || Expr::input(SRU.port("f"));
        pooled(sigmoid(f()), sigmoid(-f()), Expr::input(SRU.port("x")))
    },
};

/// QRNN's f-pooling; f: the forget gate, z: the candidate.
pub static QRNN: Rule = Rule {
    name: "qrnn",
    inputs: &[Port::head("f"), Port::value("z")],
    params: &[],
    state: HeadState::Scalar,
    form: || {
        let f = || Expr::input(QRNN.port("f"));
        pooled(sigmoid(f()), sigmoid(-f()), tanh(Expr::input(QRNN.port("z"))))
    },
};

/// IndRNN without its activation; u: what a channel keeps.
pub static INDRNN: Rule = Rule {
    name: "indrnn",
    inputs: &[Port::value("x")],
    params: &[Port::head("u")],
    state: HeadState::Scalar,
    form: || {
        let input = |name| Expr::input(INDRNN.port(name));
        pooled(input("u"), Expr::Constant(1.0), input("x"))
    },
};

/// The real-gated linear recurrent unit of Griffin; r: the recurrence gate, i: the input gate.
pub static RG_LRU: Rule = Rule {
    name: "rg-lru",
    inputs: &[Port::head("r"), Port::head("i"), Port::value("x")],
    params: &[Port::head("lambda")],
    state: HeadState::Scalar,
    form: || {
        let input = |name| Expr::input(RG_LRU.port(name));
        let log = || Expr::Constant(-8.0) * softplus(input("lambda")) * sigmoid(input("r"));
        let scale = sqrt(-exp_m1(log() + log()));
        pooled(exp(log()), scale * sigmoid(input("i")), input("x"))
    },
};
