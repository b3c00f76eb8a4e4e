//! Linear attention and the delta rules, per head with q, k ∈ R^K, v ∈ R^V.
//!
//! ```text
//! linear       S' = S + k vᵀ                                      y = S'ᵀ q      Katharopoulos et al. 2020 (arXiv 2006.16236)
//! retention    S' = e^γ S + k vᵀ                                  y = S'ᵀ q      Sun et al. 2023 (arXiv 2307.08621); γ per head
//! gla          S' = diag(e^g) S + k vᵀ                            y = S'ᵀ q      Yang et al. 2023 (arXiv 2312.06635)
//! delta        S' = S + β k (v − Sᵀ k)ᵀ                           y = S'ᵀ q      Schlag et al. 2021 (arXiv 2102.11174)
//! gated-delta  S' = diag(e^g) S + β k (v − (diag(e^g) S)ᵀ k)ᵀ     y = S'ᵀ q      Yang et al. 2024 (arXiv 2412.06464)
//! ```
//!
//! `g` and `γ` are logarithms of decays. The scale of q (ONNX's `scale`, 1/√K) is the caller's.

use crate::expr::{Expr, exp};
use crate::model::rule::{Form, HeadState, Port, Read, Rule};

fn plain(rule: &Rule) -> Form {
    let input = |name| Expr::input(rule.port(name));
    Form {
        decay: None,
        erase: None,
        write: input("k"),
        query: input("q"),
        through: None,
        value: input("v"),
        read: Read::After,
        stabiliser: None,
    }
}

/// Linear attention without a feature map or a divisor.
pub static LINEAR: Rule = Rule {
    name: "linear",
    inputs: &[Port::key("q"), Port::key("k"), Port::value("v")],
    params: &[],
    state: HeadState::Matrix,
    form: || plain(&LINEAR),
};

/// Retention: a fixed decay e^γ per head.
pub static RETENTION: Rule = Rule {
    name: "retention",
    inputs: &[Port::key("q"), Port::key("k"), Port::value("v")],
    params: &[Port::head("gamma")],
    state: HeadState::Matrix,
    form: || Form { decay: Some(exp(Expr::input(RETENTION.port("gamma")))), ..plain(&RETENTION) },
};

/// Gated linear attention: a decay e^g per key index and step.
pub static GLA: Rule = Rule {
    name: "gla",
    inputs: &[Port::key("q"), Port::key("k"), Port::value("v"), Port::key("g")],
    params: &[],
    state: HeadState::Matrix,
    form: || Form { decay: Some(exp(Expr::input(GLA.port("g")))), ..plain(&GLA) },
};

/// DeltaNet: what k finds is replaced by v, by as much as β.
pub static DELTA: Rule = Rule {
    name: "delta",
    inputs: &[Port::key("q"), Port::key("k"), Port::value("v"), Port::head("beta")],
    params: &[],
    state: HeadState::Matrix,
    form: || {
        let input = |name| Expr::input(DELTA.port(name));
        let write = input("beta") * input("k");
        Form { erase: Some((input("k"), -write.clone())), write, ..plain(&DELTA) }
    },
};

/// Gated DeltaNet: the state decays by e^g, then the delta rule.
pub static GATED_DELTA: Rule = Rule {
    name: "gated-delta",
    inputs: &[Port::key("q"), Port::key("k"), Port::value("v"), Port::key("g"), Port::head("beta")],
    params: &[],
    state: HeadState::Matrix,
    form: || {
        let input = |name| Expr::input(GATED_DELTA.port(name));
        let (decay, write) = (exp(input("g")), input("beta") * input("k"));
        Form {
            erase: Some((decay.clone() * input("k"), -write.clone())),
            decay: Some(decay),
            write,
            ..plain(&GATED_DELTA)
        }
    },
};
