//! RWKV-4 after transformers' `modeling_rwkv.py`, RWKV-6 and -7 after RWKV-LM's `rwkv_v6_demo.py` and `rwkv_v7_demo.py`.

use super::{Named, added, dot, multiplied, residual, zeros};
use crate::tape::Number;
use wgpu_rnn::Result;
use wgpu_rnn::blocks::{Rwkv4, Rwkv6, Rwkv7};

pub(super) fn rwkv4<N: Number>(m: &Rwkv4, all: &Named<'_, N>, x: &[Vec<N>]) -> Result<Vec<Vec<N>>> {
    let norm = |p: &Named<'_, N>, name: &str, rows: &[Vec<N>]| -> Result<Vec<Vec<N>>> {
        rows.iter().map(|row| p.layer_norm(name, row, m.epsilon)).collect()
    };
    let mut hidden = norm(all, "blocks.0.pre_ln", x)?;
    for layer in 0..m.num_layers {
        let block = all.within(&format!("blocks.{layer}"));
        let mixed = rwkv4_attention(&block.within("attention"), &norm(&block, "ln1", &hidden)?)?;
        hidden = residual(&hidden, &mixed);
        let mixed = rwkv4_feed_forward(&block.within("feed_forward"), &norm(&block, "ln2", &hidden)?)?;
        hidden = residual(&hidden, &mixed);
    }
    norm(all, "ln_out", &hidden)
}

/// hidden · mix + shifted · (1 − mix)
fn mixed<N: Number>(p: &Named<'_, N>, name: &str, now: &[N], before: &[N]) -> Result<Vec<N>> {
    let mix = p.get(&format!("time_mix_{name}"))?.iter();
    Ok(mix.zip(now.iter().zip(before)).map(|(m, (&x, &s))| x * *m + s * (N::constant(1.0) - *m)).collect())
}

fn rwkv4_attention<N: Number>(p: &Named<'_, N>, x: &[Vec<N>]) -> Result<Vec<Vec<N>>> {
    let (decay, first) = (p.get("time_decay")?, p.get("time_first")?);
    let mut before = zeros(x[0].len());
    let (mut num, mut den, mut max) = (zeros(decay.len()), zeros(decay.len()), vec![N::constant(-1e38); decay.len()]);
    let mut out = Vec::new();
    for x in x {
        let key = p.linear("key", &mixed(p, "key", x, &before)?)?;
        let value = p.linear("value", &mixed(p, "value", x, &before)?)?;
        let receptance = p.linear("receptance", &mixed(p, "receptance", x, &before)?)?;
        let mut gated = Vec::new();
        for c in 0..decay.len() {
            let w = decay[c].exp().negative();
            let for_output = max[c].larger(key[c] + first[c]);
            let (e1, e2) = ((max[c] - for_output).exp(), (key[c] + first[c] - for_output).exp());
            gated.push(receptance[c].sigmoid() * ((e1 * num[c] + e2 * value[c]) / (e1 * den[c] + e2)));
            let for_state = (max[c] + w).larger(key[c]);
            let (e1, e2) = ((max[c] + w - for_state).exp(), (key[c] - for_state).exp());
            (num[c], den[c], max[c]) = (e1 * num[c] + e2 * value[c], e1 * den[c] + e2, for_state);
        }
        out.push(p.linear("output", &gated)?);
        before.clone_from(x);
    }
    Ok(out)
}

fn rwkv4_feed_forward<N: Number>(p: &Named<'_, N>, x: &[Vec<N>]) -> Result<Vec<Vec<N>>> {
    let mut before = zeros(x[0].len());
    let mut out = Vec::new();
    for x in x {
        let key = squared(p.linear("key", &mixed(p, "key", x, &before)?)?);
        let receptance = p.linear("receptance", &mixed(p, "receptance", x, &before)?)?;
        let receptance: Vec<N> = receptance.iter().map(|r| r.sigmoid()).collect();
        out.push(multiplied(&receptance, &p.linear("value", &key)?));
        before.clone_from(x);
    }
    Ok(out)
}

/// relu²
fn squared<N: Number>(x: Vec<N>) -> Vec<N> {
    x.into_iter().map(|v| v.relu() * v.relu()).collect()
}

/// x + xx · m with xx = the step before − x
fn lerp<N: Number>(x: &[N], xx: &[N], m: &[N]) -> Vec<N> {
    added(x, &multiplied(xx, m))
}

/// The step before − x
fn difference<N: Number>(x: &[Vec<N>], t: usize) -> Vec<N> {
    let zero = zeros(x[0].len());
    let before = if t == 0 { &zero } else { &x[t - 1] };
    before.iter().zip(&x[t]).map(|(&s, &x)| s - x).collect()
}

/// x @ M, M [x.len(), out]
fn product<N: Number>(x: &[N], m: &[N]) -> Vec<N> {
    let out = m.len() / x.len();
    (0..out).map(|o| x[1..].iter().enumerate().fold(x[0] * m[o], |s, (i, &x)| s + x * m[(i + 1) * out + o])).collect()
}

fn tanh<N: Number>(x: Vec<N>) -> Vec<N> {
    x.into_iter().map(N::tanh).collect()
}

fn sigmoid<N: Number>(x: Vec<N>) -> Vec<N> {
    x.into_iter().map(N::sigmoid).collect()
}

const EPSILON: f64 = 1e-5;

fn normed<N: Number>(p: &Named<'_, N>, name: &str, rows: &[Vec<N>]) -> Result<Vec<Vec<N>>> {
    rows.iter().map(|row| p.layer_norm(name, row, EPSILON)).collect()
}

pub(super) fn rwkv6<N: Number>(m: &Rwkv6, all: &Named<'_, N>, x: &[Vec<N>]) -> Result<Vec<Vec<N>>> {
    let mut x = normed(all, "blocks.0.ln0", x)?;
    for layer in 0..m.num_layers {
        let block = all.within(&format!("blocks.{layer}"));
        x = residual(&x, &rwkv6_time_mix(m, &block.within("att"), &normed(&block, "ln1", &x)?)?);
        x = residual(&x, &rwkv6_channel_mix(&block.within("ffn"), &normed(&block, "ln2", &x)?)?);
    }
    normed(all, "ln_out", &x)
}

fn rwkv6_time_mix<N: Number>(m: &Rwkv6, p: &Named<'_, N>, x: &[Vec<N>]) -> Result<Vec<Vec<N>>> {
    let (width, size) = (m.hidden_size, m.head_size);
    let u = p.get("time_faaaa")?;
    let mut state = zeros(width * size);
    let mut out = Vec::new();
    for t in 0..x.len() {
        let (x, xx) = (&x[t], difference(x, t));
        let low = tanh(product(&lerp(x, &xx, p.get("time_maa_x")?), p.get("time_maa_w1")?));
        let rank = low.len() / 5;
        let mix = |n: usize, name: &str| {
            let slice = &p.get("time_maa_w2")?[n * rank * width..][..rank * width];
            let chosen = product(&low[n * rank..][..rank], slice);
            Ok::<_, wgpu_rnn::Error>(lerp(x, &xx, &added(p.get(&format!("time_maa_{name}"))?, &chosen)))
        };
        let (xw, xk, xv, xr, xg) = (mix(0, "w")?, mix(1, "k")?, mix(2, "v")?, mix(3, "r")?, mix(4, "g")?);
        let (r, k, v) = (p.linear("receptance", &xr)?, p.linear("key", &xk)?, p.linear("value", &xv)?);
        let gate: Vec<N> = p.linear("gate", &xg)?.into_iter().map(N::silu).collect();
        let w = tanh(product(&xw, p.get("time_decay_w1")?));
        let w = added(p.get("time_decay")?, &product(&w, p.get("time_decay_w2")?));
        let mut y = Vec::new();
        for head in 0..width / size {
            for i in 0..size {
                let mut sum = N::constant(0.0);
                for j in 0..size {
                    let (c, s) = (head * size + j, &mut state[(head * size + j) * size + i]);
                    let kv = k[c] * v[head * size + i];
                    sum = sum + r[c] * (u[c] * kv + *s);
                    *s = *s * w[c].exp().negative().exp() + kv;
                }
                y.push(sum);
            }
        }
        let y = p.group_norm("ln_x", &y, width / size, 64e-5)?;
        out.push(p.linear("output", &multiplied(&y, &gate))?);
    }
    Ok(out)
}

fn rwkv6_channel_mix<N: Number>(p: &Named<'_, N>, x: &[Vec<N>]) -> Result<Vec<Vec<N>>> {
    let step = |t: usize| {
        let xx = difference(x, t);
        let k = squared(p.linear("key", &lerp(&x[t], &xx, p.get("time_maa_k")?))?);
        let r = sigmoid(p.linear("receptance", &lerp(&x[t], &xx, p.get("time_maa_r")?))?);
        Ok(multiplied(&r, &p.linear("value", &k)?))
    };
    (0..x.len()).map(step).collect()
}

pub(super) fn rwkv7<N: Number>(m: &Rwkv7, all: &Named<'_, N>, x: &[Vec<N>]) -> Result<Vec<Vec<N>>> {
    let mut x = normed(all, "blocks.0.ln0", x)?;
    let mut first = None;
    for layer in 0..m.num_layers {
        let block = all.within(&format!("blocks.{layer}"));
        let (y, v) = rwkv7_time_mix(m, &block.within("att"), &normed(&block, "ln1", &x)?, first.as_deref())?;
        x = residual(&x, &y);
        x = residual(&x, &rwkv7_channel_mix(&block.within("ffn"), &normed(&block, "ln2", &x)?)?);
        first = first.or(Some(v));
    }
    normed(all, "ln_out", &x)
}

/// Also gives v of every step.
#[expect(clippy::type_complexity, reason = "rows of two kinds")]
fn rwkv7_time_mix<N: Number>(
    m: &Rwkv7,
    p: &Named<'_, N>,
    x: &[Vec<N>],
    first: Option<&[Vec<N>]>,
) -> Result<(Vec<Vec<N>>, Vec<Vec<N>>)> {
    let (width, size) = (m.hidden_size, m.head_size);
    let mut state = zeros(width * size);
    let (mut out, mut values) = (Vec::new(), Vec::new());
    for t in 0..x.len() {
        let (x, xx) = (&x[t], difference(x, t));
        let mix = |name: &str| Ok::<_, wgpu_rnn::Error>(lerp(x, &xx, p.get(&format!("x_{name}"))?));
        let r = p.linear("receptance", &mix("r")?)?;
        let w = tanh(product(&mix("w")?, p.get("w1")?));
        let w = added(p.get("w0")?, &product(&w, p.get("w2")?));
        let w: Vec<N> =
            w.iter().map(|w| (w.negative().softplus().negative() - N::constant(0.5)).exp().negative().exp()).collect();
        let k = p.linear("key", &mix("k")?)?;
        let mut v = p.linear("value", &mix("v")?)?;
        if let Some(first) = first {
            let much = product(&product(&mix("v")?, p.get("v1")?), p.get("v2")?);
            let much = sigmoid(added(p.get("v0")?, &much));
            v = (0..width).map(|c| v[c] + (first[t][c] - v[c]) * much[c]).collect();
        }
        let a = product(&product(&mix("a")?, p.get("a1")?), p.get("a2")?);
        let a = sigmoid(added(p.get("a0")?, &a));
        let g = product(&sigmoid(product(&mix("g")?, p.get("g1")?)), p.get("g2")?);
        let kk = normalised(&multiplied(&k, p.get("k_k")?), size);
        let (k_a, one) = (p.get("k_a")?, N::constant(1.0));
        let k: Vec<N> = (0..width).map(|c| k[c] * (one + (a[c] - one) * k_a[c])).collect();

        let y = rwkv7_step(&mut state, size, &w, &k, &v, &kk, &a, &r);
        let y = p.group_norm("ln_x", &y, width / size, 64e-5)?;
        let r_k = multiplied(&multiplied(&r, &k), p.get("r_k")?);
        let bonus = |c: usize| super::sum(&r_k[c / size * size..][..size]) * v[c];
        let y: Vec<N> = (0..width).map(|c| (y[c] + bonus(c)) * g[c]).collect();
        out.push(p.linear("output", &y)?);
        values.push(v);
    }
    Ok((out, values))
}

/// x / ‖x‖ per head
fn normalised<N: Number>(x: &[N], size: usize) -> Vec<N> {
    let one = |head: &[N]| -> Vec<N> {
        let length = dot(head, head).sqrt();
        let length = length.larger(N::constant(1e-12));
        head.iter().map(|&v| v / length).collect()
    };
    x.chunks_exact(size).flat_map(one).collect()
}

/// S ← S diag(w) − (S κ)(κ·a)ᵀ + v kᵀ per head, S [V, K]; gives S r.
#[expect(clippy::too_many_arguments, reason = "the operator has as many")]
fn rwkv7_step<N: Number>(
    state: &mut [N],
    size: usize,
    w: &[N],
    k: &[N],
    v: &[N],
    kk: &[N],
    a: &[N],
    r: &[N],
) -> Vec<N> {
    let mut y = Vec::new();
    for (c, row) in state.chunks_exact_mut(size).enumerate() {
        let head = c / size * size;
        let found = dot(row, &kk[head..][..size]);
        for (j, s) in row.iter_mut().enumerate() {
            let j = head + j;
            *s = *s * w[j] - found * (kk[j] * a[j]) + v[c] * k[j];
        }
        y.push(dot(row, &r[head..][..size]));
    }
    y
}

fn rwkv7_channel_mix<N: Number>(p: &Named<'_, N>, x: &[Vec<N>]) -> Result<Vec<Vec<N>>> {
    let step = |t: usize| {
        let xx = difference(x, t);
        let k = squared(p.linear("key", &lerp(&x[t], &xx, p.get("x_k")?))?);
        p.linear("value", &k)
    };
    (0..x.len()).map(step).collect()
}
