//! RWKV's time mixing, versions 4 to 7.
//!
//! ```text
//! rwkv4   per channel, w = −e^time_decay < 0, u = time_first:
//!         y = (Σ_{s<t} e^{(t−1−s) w + k_s} v_s + e^{u+k_t} v_t) / (the same without v)                       Peng et al. 2023
//! rwkv5   per head, S ∈ R^{K×V}:  y = Sᵀ r + (r·(u ∘ k)) v      S' = diag(e^{−e^w}) S + k vᵀ;  w fixed       Peng et al. 2024
//! rwkv6   the same with w per step
//! rwkv7   S' = diag(d) S + b (Sᵀ a)ᵀ + k vᵀ,  d = e^{−e^{−1/2} σ(w)}      y = S'ᵀ r                          Peng et al. 2025
//! ```
//!
//! arXiv 2305.13048, 2404.05892, 2503.14456. RWKV-4's sums are kept relative to e^m, m the largest exponent so far (`pp` of the
//! published code).

use crate::expr::{Expr, exp, hold, max, sigmoid};
use crate::model::rule::{Divisor, Form, HeadState, Port, Read, Rule, Stabiliser};

/// RWKV-4: a head per channel, K = V = 1.
pub static RWKV4: Rule = Rule {
    name: "rwkv4",
    inputs: &[Port::head("k"), Port::value("v")],
    params: &[Port::head("time_decay"), Port::head("time_first")],
    state: HeadState::Scalar,
    form: || {
        let input = |name| Expr::input(RWKV4.port(name));
        let (decay, now) = (|| -exp(input("time_decay")), || input("time_first") + input("k"));
        // The largest exponent of the output; it scales sums and divisor alike.
        let largest = || hold(max(input("m_before"), now()));
        Form {
            decay: Some(exp(decay() + input("m_before") - input("m"))),
            erase: None,
            write: exp(input("k") - input("m")),
            query: exp(input("m_before") - largest()),
            through: Some(exp(now() - largest())),
            value: input("v"),
            read: Read::Before,
            stabiliser: Some(Stabiliser { decay: decay(), input: input("k"), divisor: Divisor::Sum }),
        }
    },
};

fn bonus(rule: &Rule) -> Form {
    let input = |name| Expr::input(rule.port(name));
    Form {
        decay: Some(exp(-exp(input("w")))),
        erase: None,
        write: input("k"),
        query: input("r"),
        through: Some(input("r") * input("u") * input("k")),
        value: input("v"),
        read: Read::Before,
        stabiliser: None,
    }
}

/// RWKV-5: a fixed decay per key index.
pub static RWKV5: Rule = Rule {
    name: "rwkv5",
    inputs: &[Port::key("r"), Port::key("k"), Port::value("v")],
    params: &[Port::key("w"), Port::key("u")],
    state: HeadState::Matrix,
    form: || bonus(&RWKV5),
};

/// RWKV-6: a decay per key index and step.
pub static RWKV6: Rule = Rule {
    name: "rwkv6",
    inputs: &[Port::key("r"), Port::key("w"), Port::key("k"), Port::value("v")],
    params: &[Port::key("u")],
    state: HeadState::Matrix,
    form: || bonus(&RWKV6),
};

/// RWKV-7: the generalised delta rule.
pub static RWKV7: Rule = Rule {
    name: "rwkv7",
    inputs: &[Port::key("r"), Port::key("w"), Port::key("k"), Port::value("v"), Port::key("a"), Port::key("b")],
    params: &[],
    state: HeadState::Matrix,
    form: || {
        let input = |name| Expr::input(RWKV7.port(name));
        Form {
            decay: Some(exp(Expr::from(-(-0.5f64).exp()) * sigmoid(input("w")))),
            erase: Some((input("a"), input("b"))),
            write: input("k"),
            query: input("r"),
            through: None,
            value: input("v"),
            read: Read::After,
            stabiliser: None,
        }
    },
};
