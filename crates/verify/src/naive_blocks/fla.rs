//! RWKV-7 after flash-linear-attention 0.6.0: `modeling_rwkv7.py`, `layers/rwkv7.py` with `fuse_norm` false, and `dplr_recurrence`.

use super::{Named, added, dot, multiplied, residual, zeros};
use crate::tape::Number;
use wgpu_rnn::Result;
use wgpu_rnn::blocks::{Rwkv7, Rwkv7Names};

pub(super) fn rwkv7<N: Number>(m: &Rwkv7, all: &Named<'_, N>, x: &[Vec<N>]) -> Result<Vec<Vec<N>>> {
    let norm = |p: &Named<'_, N>, name: &str, rows: &[Vec<N>]| -> Result<Vec<Vec<N>>> {
        rows.iter().map(|row| p.layer_norm(name, row, 1e-5)).collect()
    };
    let mut hidden = norm(all, "layers.0.pre_norm", x)?;
    let mut v_first = Vec::new();
    for layer in 0..m.num_layers {
        let block = all.within(&format!("layers.{layer}"));
        let normed = norm(&block, "attn_norm", &hidden)?;
        hidden = residual(&hidden, &attention(m, &block.within("attn"), &normed, layer, &mut v_first)?);
        let normed = norm(&block, "ffn_norm", &hidden)?;
        hidden = residual(&hidden, &feed_forward(&block.within("ffn"), &normed)?);
    }
    norm(all, "norm", &hidden)
}

/// token_shift: the step before − x
fn delta<N: Number>(x: &[Vec<N>], t: usize) -> Vec<N> {
    let before = |c: usize| if t == 0 { N::constant(0.0) } else { x[t - 1][c] };
    x[t].iter().enumerate().map(|(c, &v)| before(c) - v).collect()
}

/// x.addcmul(delta, by)
fn addcmul<N: Number>(x: &[N], delta: &[N], by: &[N]) -> Vec<N> {
    added(x, &multiplied(delta, by))
}

fn attention<N: Number>(
    m: &Rwkv7,
    p: &Named<'_, N>,
    x: &[Vec<N>],
    layer: usize,
    v_first: &mut Vec<Vec<N>>,
) -> Result<Vec<Vec<N>>> {
    let (width, size, one) = (m.hidden_size, m.head_size, N::constant(1.0));
    let mut state = zeros(width * size);
    let mut out = Vec::new();
    for t in 0..x.len() {
        let (x, delta) = (&x[t], delta(x, t));
        let mixed = |name: &str, at: usize| -> Result<Vec<N>> {
            let by = match m.names {
                Rwkv7Names::FlaStacked => &p.get("x_x")?[at * width..][..width],
                _ => p.get(&format!("x_{name}"))?,
            };
            Ok(addcmul(x, &delta, by))
        };
        let (xr, xw, xk) = (mixed("r", 0)?, mixed("w", 1)?, mixed("k", 2)?);
        let (xv, xa, xg) = (mixed("v", 3)?, mixed("a", 4)?, mixed("g", 5)?);
        let lora = |name: &str, x: &[N], f: &dyn Fn(N) -> N| -> Result<Vec<N>> {
            let low: Vec<N> = p.linear(&format!("{name}_lora.lora.0"), x)?.into_iter().map(f).collect();
            p.linear(&format!("{name}_lora.lora.2"), &low)
        };
        let sigmoid = |x: Vec<N>| -> Vec<N> { x.into_iter().map(N::sigmoid).collect() };

        let r = p.linear("r_proj", &xr)?;
        let w = sigmoid(lora("w", &xw, &N::tanh)?);
        let w: Vec<N> = w.into_iter().map(|w| (w * N::constant(-0.6065306597126334)).exp()).collect();
        let (k, mut v) = (p.linear("k_proj", &xk)?, p.linear("v_proj", &xv)?);
        if layer == 0 {
            v_first.push(v.clone());
        } else {
            let weight = sigmoid(lora("v", &xv, &|v| v)?);
            v = (0..width).map(|c| v[c] + weight[c] * (v_first[t][c] - v[c])).collect();
        }
        let a = sigmoid(lora("a", &xa, &|v| v)?);
        let g = lora("g", &xg, &N::sigmoid)?;
        let kk = normalize(&multiplied(&k, p.get("k_k")?), size);
        let rate: Vec<N> = a.iter().map(|&a| a - one).collect();
        let k = addcmul(&k, &multiplied(&k, &rate), p.get("k_a")?);

        let alpha: Vec<N> = kk.iter().map(|&v| v.negative()).collect();
        let y = recurrence(&mut state, size, [&r, &w, &k, &v, &alpha, &multiplied(&kk, &a)]);
        let y = p.group_norm("g_norm", &y, width / size, size as f64 * 1e-5)?;
        // gate_output_correction
        let r_k = multiplied(&multiplied(&r, &k), p.get("r_k")?);
        let correction = |c: usize| super::sum(&r_k[c / size * size..][..size]) * v[c];
        let y: Vec<N> = (0..width).map(|c| (y[c] + correction(c)) * g[c]).collect();
        out.push(p.linear("o_proj", &y)?);
    }
    Ok(out)
}

/// x / max(‖x‖, 1e-12) per head
fn normalize<N: Number>(x: &[N], size: usize) -> Vec<N> {
    let one = |head: &[N]| -> Vec<N> {
        let length = dot(head, head).sqrt().larger(N::constant(1e-12));
        head.iter().map(|&v| v / length).collect()
    };
    x.chunks_exact(size).flat_map(one).collect()
}

/// S ← diag(w) S + k vᵀ + β (αᵀ S) per head, S [K, V]; gives rᵀ S.
fn recurrence<N: Number>(state: &mut [N], size: usize, [r, w, k, v, alpha, beta]: [&[N]; 6]) -> Vec<N> {
    let mut y = Vec::new();
    for (head, s) in state.chunks_exact_mut(size * size).enumerate() {
        let at = head * size;
        for c in 0..size {
            let column = |s: &[N]| -> Vec<N> { (0..size).map(|j| s[j * size + c]).collect() };
            let found = dot(&alpha[at..][..size], &column(s));
            for j in 0..size {
                s[j * size + c] = s[j * size + c] * w[at + j] + k[at + j] * v[at + c] + found * beta[at + j];
            }
            y.push(dot(&r[at..][..size], &column(s)));
        }
    }
    y
}

/// value(relu²(key(x.addcmul(delta, x_k))))
fn feed_forward<N: Number>(p: &Named<'_, N>, x: &[Vec<N>]) -> Result<Vec<Vec<N>>> {
    let step = |t: usize| {
        let key = p.linear("key", &addcmul(&x[t], &delta(x, t), p.get("x_k")?))?;
        p.linear("value", &key.into_iter().map(|v| v.relu() * v.relu()).collect::<Vec<N>>())
    };
    (0..x.len()).map(step).collect()
}
