//! Every rule of [`wgpu_rnn::rules`] as a naive loop over steps, heads and indices, spelled out from its published equations, not from
//! the rule's expressions: no code in common with the executors. A loop is written over [`Number`]s, so that [`run`] gets its
//! gradients from a [`Tape`].
//!
//! States are laid out as the executors': `[heads, columns, K]` of a sequence, then m `[heads]` of rules with a stabiliser.

use super::tape::{Number, Tape, Var};
use wgpu_rnn::rule::{EMPTY_MAXIMUM, Extent, Rule};
use wgpu_rnn::{Error, Result, Shape};

/// A recurrence to run: what, and on what.
#[derive(Clone, Debug)]
pub struct Problem<N> {
    /// The rule.
    pub rule: &'static Rule,
    /// Heads, K and V.
    pub sizes: [usize; 3],
    /// T and B.
    pub shape: Shape,
    /// One per port: `[T, B, width]` of inputs, `[width]` of parameters; width: heads' values, or fewer heads' that serve as many
    /// neighbouring ones.
    pub ports: Vec<Vec<N>>,
    /// `[B, size]`; empty: an empty state.
    pub initial: Vec<N>,
    /// Each sequence's length; empty: T.
    pub lengths: Vec<usize>,
    /// `[T, B]`: where an episode begins; empty: nowhere.
    pub resets: Vec<bool>,
    /// From each sequence's last step to its first.
    pub reverse: bool,
}

/// What a recurrence gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Results<N> {
    /// y `[T, B, heads · V]`; 0 past a sequence's end.
    pub y: Vec<N>,
    /// The state after each sequence's last step `[B, size]`.
    pub last: Vec<N>,
}

/// And its gradients.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients<N> {
    /// By every port.
    pub ports: Vec<Vec<N>>,
    /// By the state before the first step; 0 by m.
    pub initial: Vec<N>,
}

/// One head's state.
struct Memory<N> {
    /// `[columns][K]`
    s: Vec<Vec<N>>,
    /// Of rules with a stabiliser.
    m: N,
}

/// What one head reads at one step.
struct Head<'a, N> {
    rule: &'static Rule,
    ports: Vec<&'a [N]>,
}

impl<N: Number> Head<'_, N> {
    fn all(&self, name: &str) -> &[N] {
        self.ports[self.rule.port(name)]
    }
    fn one(&self, name: &str) -> N {
        self.all(name)[0]
    }
}

type Step<N> = fn(&Head<'_, N>, &mut Memory<N>) -> Vec<N>;

impl<N: Number> Problem<N> {
    /// The same with every number mapped.
    pub fn map<M>(&self, mut by: impl FnMut(N) -> M) -> Problem<M> {
        let ports = self.ports.iter().map(|p| p.iter().map(|&v| by(v)).collect()).collect();
        let initial = self.initial.iter().map(|&v| by(v)).collect();
        let (lengths, resets) = (self.lengths.clone(), self.resets.clone());
        let Self { rule, sizes, shape, reverse, .. } = *self;
        Problem { rule, sizes, shape, ports, initial, lengths, resets, reverse }
    }

    /// Columns of a head's state.
    pub fn columns(&self) -> usize {
        self.sizes[2] + usize::from(self.stabilised())
    }

    /// Values of a sequence's state.
    pub fn state_size(&self) -> usize {
        let [heads, keys, _] = self.sizes;
        heads * (self.columns() * keys + usize::from(self.stabilised()))
    }

    fn stabilised(&self) -> bool {
        ["rwkv4", "mlstm"].contains(&self.rule.name)
    }

    /// What head h reads at step t of sequence b.
    fn head(&self, t: usize, b: usize, h: usize) -> Head<'_, N> {
        let [heads, keys, values] = self.sizes;
        let of = |(n, extent): (usize, Extent)| {
            let each = match extent {
                Extent::Head => 1,
                Extent::Key => keys,
                Extent::Value => values,
            };
            let rows = if n < self.rule.inputs.len() { self.shape.time * self.shape.batch } else { 1 };
            let width = self.ports[n].len() / rows;
            let row = if rows == 1 { 0 } else { t * self.shape.batch + b };
            // `width / each` heads are given; each serves heads / given neighbours.
            let own = h * (width / each) / heads;
            &self.ports[n][row * width + own * each..][..each]
        };
        let extents = self.rule.inputs.iter().chain(self.rule.params).map(|p| p.extent).enumerate();
        Head { rule: self.rule, ports: extents.map(of).collect() }
    }

    fn empty(&self) -> Vec<Memory<N>> {
        let [heads, keys, _] = self.sizes;
        let zero = || vec![vec![N::constant(0.0); keys]; self.columns()];
        (0..heads).map(|_| Memory { s: zero(), m: N::constant(EMPTY_MAXIMUM) }).collect()
    }

    fn before(&self, b: usize) -> Vec<Memory<N>> {
        let mut heads = self.empty();
        if !self.initial.is_empty() {
            let mut own = self.initial[b * self.state_size()..][..self.state_size()].iter().copied();
            for value in heads.iter_mut().flat_map(|h| h.s.iter_mut().flatten()) {
                *value = own.next().unwrap_or(*value);
            }
            heads.iter_mut().zip(own).for_each(|(h, m)| h.m = m);
        }
        heads
    }
}

/// Runs the loop.
///
/// # Errors
/// [`Error::Unsupported`] for a rule whose equations are not here.
pub fn forward<N: Number>(problem: &Problem<N>) -> Result<Results<N>> {
    let ([heads, _, values], Shape { time, batch }) = (problem.sizes, problem.shape);
    let step = step::<N>(problem.rule)?;
    let mut y = vec![N::constant(0.0); time * batch * heads * values];
    let mut last = Vec::new();
    for b in 0..batch {
        let length = problem.lengths.get(b).copied().unwrap_or(time);
        let mut state = problem.before(b);
        for n in 0..length {
            let t = if problem.reverse { length - 1 - n } else { n };
            // In reverse an episode has ended where the step that was last begins another.
            let begins = |t: usize| problem.resets.get(t * batch + b) == Some(&true);
            if if problem.reverse { n > 0 && begins(t + 1) } else { begins(t) } {
                state = problem.empty();
            }
            for (h, memory) in state.iter_mut().enumerate() {
                let out = step(&problem.head(t, b, h), memory);
                y[((t * batch + b) * heads + h) * values..][..values].copy_from_slice(&out);
            }
        }
        last.extend(state.iter().flat_map(|h| h.s.iter().flatten()).copied());
        if problem.stabilised() {
            last.extend(state.iter().map(|h| h.m));
        }
    }
    Ok(Results { y, last })
}

/// Runs the loop, and the gradients of Σ `up_y` · y + Σ `up_last` · last. States of rules with a stabiliser are multiples of e^m:
/// the gradient is that of a function which sees only the multiple, as of executors (where m is held).
///
/// # Errors
/// As [`forward`].
pub fn run<N: Number>(problem: &Problem<N>, up_y: &[N], up_last: &[N]) -> Result<(Results<N>, Gradients<N>)> {
    let tape = Tape::new();
    let on_tape = problem.map(|v| tape.variable(v));
    let results = forward(&on_tape)?;
    let gradients = tape.gradients(&weighted(&on_tape, &results, up_y, up_last));
    let of = |vars: &[Var<'_, N>]| vars.iter().map(|&v| gradients.of(v)).collect::<Vec<N>>();
    let mut initial = of(&on_tape.initial);
    for own in initial.chunks_mut(problem.state_size()) {
        if problem.stabilised() {
            let sums = own.len() - problem.sizes[0];
            own[sums..].fill(N::constant(0.0));
        }
    }
    let plain = |vars: &[Var<'_, N>]| vars.iter().map(|v| v.plain()).collect();
    let ports = on_tape.ports.iter().map(|p| of(p)).collect();
    Ok((Results { y: plain(&results.y), last: plain(&results.last) }, Gradients { ports, initial }))
}

/// The terms of the loss.
fn weighted<'t, N: Number>(
    problem: &Problem<Var<'t, N>>,
    results: &Results<Var<'t, N>>,
    up_y: &[N],
    up_last: &[N],
) -> Vec<(Var<'t, N>, N)> {
    let mut sum: Vec<_> = results.y.iter().copied().zip(up_y.iter().copied()).collect();
    let size = problem.state_size();
    let ([heads, keys, _], columns) = (problem.sizes, problem.columns());
    for (own, up) in results.last.chunks(size).zip(up_last.chunks(size)) {
        for (n, (&s, &up)) in own.iter().zip(up).enumerate().take(heads * columns * keys) {
            let seen = match own.get(heads * columns * keys + n / (columns * keys)) {
                // Its value is s, its derivative that of s e^m.
                Some(&m) => s * (m - Var::constant(m.value())).exp(),
                None => s,
            };
            sum.push((seen, up));
        }
    }
    sum
}

fn step<N: Number>(rule: &Rule) -> Result<Step<N>> {
    Ok(match rule.name {
        "linear" => linear,
        "retention" => retention,
        "gla" => gla,
        "delta" => delta,
        "gated-delta" => gated_delta,
        "selective-scan" => selective_scan,
        "mamba" => mamba,
        "mamba2" => mamba2,
        "rwkv4" => rwkv4,
        "rwkv5" | "rwkv6" => rwkv5_and_6,
        "rwkv7" => rwkv7,
        "mlstm" => mlstm,
        "mingru" => mingru,
        "minlstm" => minlstm,
        "sru" => sru,
        "qrnn" => qrnn,
        "indrnn" => indrnn,
        "rg-lru" => rg_lru,
        name => {
            let reason = "its equations are not spelled out here".into();
            return Err(Error::Unsupported { what: format!("naive loop of {name}"), reason });
        }
    })
}

/// Sᵀ x
fn read<N: Number>(s: &[Vec<N>], x: &[N]) -> Vec<N> {
    let dot = |column: &Vec<N>| column.iter().zip(x).fold(N::constant(0.0), |sum, (&s, &x)| sum + s * x);
    s.iter().map(dot).collect()
}

/// S += k vᵀ
fn write<N: Number>(s: &mut [Vec<N>], k: &[N], v: &[N]) {
    for (column, &v) in s.iter_mut().zip(v) {
        column.iter_mut().zip(k).for_each(|(s, &k)| *s = *s + k * v);
    }
}

/// S = diag(d) S; one d for all rows, or one each.
fn fade<N: Number>(s: &mut [Vec<N>], d: &[N]) {
    for column in s {
        column.iter_mut().zip(d.iter().cycle()).for_each(|(s, &d)| *s = *s * d);
    }
}

fn exps<N: Number>(x: &[N]) -> Vec<N> {
    x.iter().map(|x| x.exp()).collect()
}

fn scaled<N: Number>(x: &[N], by: N) -> Vec<N> {
    x.iter().map(|&x| x * by).collect()
}

/// S_t = S_{t−1} + k_t v_tᵀ, o_t = S_tᵀ q_t
fn linear<N: Number>(x: &Head<'_, N>, m: &mut Memory<N>) -> Vec<N> {
    write(&mut m.s, x.all("k"), x.all("v"));
    read(&m.s, x.all("q"))
}

/// S_n = γ S_{n−1} + K_nᵀ V_n, with γ = e^gamma
fn retention<N: Number>(x: &Head<'_, N>, m: &mut Memory<N>) -> Vec<N> {
    fade(&mut m.s, &exps(x.all("gamma")));
    linear(x, m)
}

/// S_t = Diag(α_t) S_{t−1} + k_tᵀ v_t, with α = e^g
fn gla<N: Number>(x: &Head<'_, N>, m: &mut Memory<N>) -> Vec<N> {
    fade(&mut m.s, &exps(x.all("g")));
    linear(x, m)
}

/// v_old = Sᵀ k; S += β k (v − v_old)ᵀ
fn delta<N: Number>(x: &Head<'_, N>, m: &mut Memory<N>) -> Vec<N> {
    let (k, beta) = (x.all("k"), x.one("beta"));
    let old = read(&m.s, k);
    let new: Vec<N> = x.all("v").iter().zip(&old).map(|(&v, &old)| (v - old) * beta).collect();
    write(&mut m.s, k, &new);
    read(&m.s, x.all("q"))
}

/// S = α S, then the delta rule
fn gated_delta<N: Number>(x: &Head<'_, N>, m: &mut Memory<N>) -> Vec<N> {
    fade(&mut m.s, &exps(x.all("g")));
    delta(x, m)
}

/// Ā = exp(Δ A), B̄ u = Δ B u; h = Ā h + B̄ u, y = C h + D u, A = −exp(A_log)
fn selective<N: Number>(x: &Head<'_, N>, m: &mut Memory<N>, u: &[N], delta: N) -> Vec<N> {
    let a: Vec<N> = x.all("A_log").iter().map(|a| (delta * a.exp().negative()).exp()).collect();
    fade(&mut m.s, &a);
    write(&mut m.s, &scaled(x.all("B"), delta), u);
    let y = read(&m.s, x.all("C"));
    y.iter().zip(u).map(|(&y, &u)| y + x.one("D") * u).collect()
}

fn selective_scan<N: Number>(x: &Head<'_, N>, m: &mut Memory<N>) -> Vec<N> {
    selective(x, m, x.all("u"), x.one("dt"))
}

/// Δ = softplus(dt + bias)
fn mamba<N: Number>(x: &Head<'_, N>, m: &mut Memory<N>) -> Vec<N> {
    selective(x, m, x.all("u"), (x.one("dt") + x.one("dt_bias")).softplus())
}

/// Δ = softplus(dt + bias), and one A for all of a head's state
fn mamba2<N: Number>(x: &Head<'_, N>, m: &mut Memory<N>) -> Vec<N> {
    selective(x, m, x.all("x"), (x.one("dt") + x.one("dt_bias")).softplus())
}

/// The published loop: aa, bb, pp are numerator, denominator and the exponent that both are relative to.
fn rwkv4<N: Number>(x: &Head<'_, N>, memory: &mut Memory<N>) -> Vec<N> {
    let (k, v, u, w) = (x.one("k"), x.one("v"), x.one("time_first"), x.one("time_decay").exp().negative());
    let (aa, bb, pp) = (memory.s[0][0], memory.s[1][0], memory.m);
    let ww = u + k;
    let p = pp.larger(ww);
    let (e1, e2) = ((pp - p).exp(), (ww - p).exp());
    let y = (e1 * aa + e2 * v) / (e1 * bb + e2);
    let ww = pp + w;
    let p = ww.larger(k);
    let (e1, e2) = ((ww - p).exp(), (k - p).exp());
    memory.s = vec![vec![e1 * aa + e2 * v], vec![e1 * bb + e2]];
    memory.m = p;
    vec![y]
}

/// wkv = S + diag(u) k vᵀ; y = r wkv; S = diag(w) S + k vᵀ, with w = exp(−exp(w))
fn rwkv5_and_6<N: Number>(x: &Head<'_, N>, m: &mut Memory<N>) -> Vec<N> {
    let (r, w, k, v, u) = (x.all("r"), x.all("w"), x.all("k"), x.all("v"), x.all("u"));
    let mut y = Vec::new();
    for (column, &v) in m.s.iter_mut().zip(v) {
        let mut sum = N::constant(0.0);
        for (i, s) in column.iter_mut().enumerate() {
            sum = sum + r[i] * (*s + u[i] * (k[i] * v));
            *s = w[i].exp().negative().exp() * *s + k[i] * v;
        }
        y.push(sum);
    }
    y
}

/// S = S diag(d) + (S a) bᵀ + v kᵀ, y = S r, one row of S per value; d = exp(−e^{−1/2} σ(w))
fn rwkv7<N: Number>(x: &Head<'_, N>, m: &mut Memory<N>) -> Vec<N> {
    let (w, a, b) = (x.all("w"), x.all("a"), x.all("b"));
    let sa = read(&m.s, a);
    let rate = N::constant((-0.5f64).exp());
    let d: Vec<N> = w.iter().map(|w| (rate * w.sigmoid()).negative().exp()).collect();
    fade(&mut m.s, &d);
    write(&mut m.s, b, &sa);
    write(&mut m.s, x.all("k"), x.all("v"));
    read(&m.s, x.all("r"))
}

/// m = max(log f + m, log i), C = f' C + i' k vᵀ, n = f' n + i' k with f' = exp(log f + m_before − m), i' = exp(log i − m);
/// h = Cᵀ q / max(|nᵀ q|, exp(−m)), log f = log σ(f)
fn mlstm<N: Number>(x: &Head<'_, N>, memory: &mut Memory<N>) -> Vec<N> {
    let (log_f, log_i) = (x.one("f").negative().softplus().negative(), x.one("i"));
    let m = (log_f + memory.m).larger(log_i);
    let (f, i) = ((log_f + memory.m - m).exp(), (log_i - m).exp());
    fade(&mut memory.s, &[f]);
    let mut v = x.all("v").to_vec();
    v.push(N::constant(1.0));
    write(&mut memory.s, &scaled(x.all("k"), i), &v);
    memory.m = m;
    let sums = read(&memory.s, x.all("q"));
    let divisor = sums[sums.len() - 1].magnitude().larger(m.negative().exp());
    sums[..sums.len() - 1].iter().map(|&s| s / divisor).collect()
}

fn keep<N: Number>(memory: &mut Memory<N>, h: N) -> Vec<N> {
    memory.s = vec![vec![h]];
    vec![h]
}

/// h = (1 − z) h + z h~, with z = σ(z)
fn mingru<N: Number>(x: &Head<'_, N>, m: &mut Memory<N>) -> Vec<N> {
    let z = x.one("z").sigmoid();
    keep(m, (N::constant(1.0) - z) * m.s[0][0] + z * x.one("h"))
}

/// f' = f / (f + i), i' = i / (f + i); h = f' h + i' h~, with f = σ(f), i = σ(i)
fn minlstm<N: Number>(x: &Head<'_, N>, m: &mut Memory<N>) -> Vec<N> {
    let (f, i) = (x.one("f").sigmoid(), x.one("i").sigmoid());
    keep(m, f / (f + i) * m.s[0][0] + i / (f + i) * x.one("h"))
}

/// c = f c + (1 − f) x~
fn sru<N: Number>(x: &Head<'_, N>, m: &mut Memory<N>) -> Vec<N> {
    let f = x.one("f").sigmoid();
    keep(m, f * m.s[0][0] + (N::constant(1.0) - f) * x.one("x"))
}

/// c = f c + (1 − f) z, with z = tanh(z)
fn qrnn<N: Number>(x: &Head<'_, N>, m: &mut Memory<N>) -> Vec<N> {
    let f = x.one("f").sigmoid();
    keep(m, f * m.s[0][0] + (N::constant(1.0) - f) * x.one("z").tanh())
}

/// h = u h + x
fn indrnn<N: Number>(x: &Head<'_, N>, m: &mut Memory<N>) -> Vec<N> {
    keep(m, x.one("u") * m.s[0][0] + x.one("x"))
}

/// log a = −8 softplus(Λ) r, h = a h + √(1 − a²) (i x), with r = σ(r), i = σ(i)
fn rg_lru<N: Number>(x: &Head<'_, N>, m: &mut Memory<N>) -> Vec<N> {
    let log_a = N::constant(-8.0) * x.one("lambda").softplus() * x.one("r").sigmoid();
    let scale = (N::constant(2.0) * log_a).exp_m1().negative().sqrt();
    keep(m, log_a.exp() * m.s[0][0] + scale * (x.one("i").sigmoid() * x.one("x")))
}
