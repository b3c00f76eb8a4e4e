//! Mamba, FalconMamba and Mamba-2, after transformers' `modeling_mamba.py` (`slow_forward`), `modeling_falcon_mamba.py` and
//! `modeling_mamba2.py` (the recurrent form).

use super::{Named, dot, multiplied, over_root_mean_square, residual, zeros};
use crate::tape::Number;
use wgpu_rnn::Result;
use wgpu_rnn::blocks::{Mamba, Mamba2};

pub(super) fn mamba<N: Number>(m: &Mamba, all: &Named<'_, N>, x: &[Vec<N>]) -> Result<Vec<Vec<N>>> {
    let mut hidden = x.to_vec();
    for layer in 0..m.num_layers {
        let block = all.within(&format!("layers.{layer}"));
        let normed = hidden.iter().map(|h| block.rms_norm("norm", h, 1, m.epsilon)).collect::<Result<Vec<_>>>()?;
        let mixed = mamba_mixer(m, &block.within("mixer"), &normed)?;
        hidden = residual(&hidden, &mixed);
    }
    hidden.iter().map(|h| all.rms_norm("norm_f", h, 1, m.epsilon)).collect()
}

fn mamba_mixer<N: Number>(m: &Mamba, p: &Named<'_, N>, x: &[Vec<N>]) -> Result<Vec<Vec<N>>> {
    let (channels, states, rank) = (m.intermediate_size, m.state_size, m.time_step_rank);
    let projected = x.iter().map(|x| p.linear("in_proj", x)).collect::<Result<Vec<_>>>()?;
    let inputs: Vec<&[N]> = projected.iter().map(|row| &row[..channels]).collect();
    let convolved = conv(p, &inputs, m.conv_kernel)?;
    let (a_log, d) = (p.get("A_log")?, p.get("D")?);
    let mut state = zeros(channels * states);
    let mut out = Vec::new();
    for (u, row) in convolved.iter().zip(&projected) {
        let selected = p.linear("x_proj", u)?;
        let (dt, b, c) = (&selected[..rank], &selected[rank..][..states], &selected[rank + states..]);
        // FalconMamba's norms, which have no weights.
        let normed = |x: &[N]| m.mixer_epsilon.map_or_else(|| x.to_vec(), |epsilon| over_root_mean_square(x, epsilon));
        let (dt, b, c) = (normed(dt), normed(b), normed(c));
        let dt = p.linear("dt_proj", &dt)?;
        let mut y = Vec::new();
        for e in 0..channels {
            let delta = dt[e].softplus();
            let h = &mut state[e * states..][..states];
            for (n, h) in h.iter_mut().enumerate() {
                let a = a_log[e * states + n].exp().negative();
                *h = (delta * a).exp() * *h + delta * b[n] * u[e];
            }
            y.push((dot(h, &c) + d[e] * u[e]) * row[channels + e].silu());
        }
        out.push(p.linear("out_proj", &y)?);
    }
    Ok(out)
}

/// silu(causal depthwise convolution)
fn conv<N: Number>(p: &Named<'_, N>, x: &[&[N]], taps: usize) -> Result<Vec<Vec<N>>> {
    let (weight, bias) = (p.get("conv1d.weight")?, p.get("conv1d.bias").ok());
    let at = |t: usize, c: usize| {
        let mut sum = bias.map_or_else(|| N::constant(0.0), |b| b[c]);
        for k in 0..taps {
            if t + k + 1 >= taps {
                sum = sum + weight[c * taps + k] * x[t + k + 1 - taps][c];
            }
        }
        sum.silu()
    };
    Ok((0..x.len()).map(|t| (0..x[0].len()).map(|c| at(t, c)).collect()).collect())
}

pub(super) fn mamba2<N: Number>(m: &Mamba2, all: &Named<'_, N>, x: &[Vec<N>]) -> Result<Vec<Vec<N>>> {
    let mut hidden = x.to_vec();
    for layer in 0..m.num_layers {
        let block = all.within(&format!("layers.{layer}"));
        let normed = hidden.iter().map(|h| block.rms_norm("norm", h, 1, m.epsilon)).collect::<Result<Vec<_>>>()?;
        let mixed = mamba2_mixer(m, &block.within("mixer"), &normed)?;
        hidden = residual(&hidden, &mixed);
    }
    hidden.iter().map(|h| all.rms_norm("norm_f", h, 1, m.epsilon)).collect()
}

fn mamba2_mixer<N: Number>(m: &Mamba2, p: &Named<'_, N>, x: &[Vec<N>]) -> Result<Vec<Vec<N>>> {
    let (heads, size, states) = (m.num_heads, m.head_dim, m.state_size);
    let (channels, shared) = (heads * size, m.n_groups * states);
    let projected = x.iter().map(|x| p.linear("in_proj", x)).collect::<Result<Vec<_>>>()?;
    let inputs: Vec<&[N]> = projected.iter().map(|row| &row[channels..][..channels + 2 * shared]).collect();
    let convolved = conv(p, &inputs, m.conv_kernel)?;
    let (a_log, d, dt_bias) = (p.get("A_log")?, p.get("D")?, p.get("dt_bias")?);
    let mut state = zeros(channels * states);
    let mut out = Vec::new();
    for (xbc, row) in convolved.iter().zip(&projected) {
        let (x, b, c) = (&xbc[..channels], &xbc[channels..][..shared], &xbc[channels + shared..]);
        let dt = &row[2 * channels + 2 * shared..];
        let mut y = Vec::new();
        for e in 0..channels {
            let head = e / size;
            let group = head / (heads / m.n_groups) * states;
            let delta = (dt[head] + dt_bias[head]).softplus();
            let decay = (delta * a_log[head].exp().negative()).exp();
            let h = &mut state[e * states..][..states];
            for (n, h) in h.iter_mut().enumerate() {
                *h = decay * *h + delta * b[group + n] * x[e];
            }
            y.push(dot(h, &c[group..][..states]) + d[head] * x[e]);
        }
        let gate: Vec<N> = row[..channels].iter().map(|z| z.silu()).collect();
        let normed = p.rms_norm("norm", &multiplied(&y, &gate), m.n_groups, m.epsilon)?;
        out.push(p.linear("out_proj", &normed)?);
    }
    Ok(out)
}
