//! `LinearAttention`: one scan over the query's heads; k, v, decay and β of a group's heads are one head's.
//!
//! Every query head has a state, though those of a group hold the same: heads then need not wait for each other, and the scan is
//! that of any other network. `present_state` is that of each group's first head.

use super::network::{Layout, RecurrenceNetwork};
use super::{RecurrenceOp, Shapes, refused};
use crate::onnx::operator::{AttributeValue, shortened};
use wgpu_rnn::expr::Expr;
use wgpu_rnn::network::{Builder, Network, Operand, Part};
use wgpu_rnn::rule::Rule;
use wgpu_rnn::{Error, Result, Shape, rules};

pub(super) const INPUTS: [(&str, &str); 6] = [
    ("query", "B, T, H_q·d_k"),
    ("key", "B, T, H_kv·d_k"),
    ("value", "B, T, H_kv·d_v"),
    ("past_state", "B, H_kv, d_k, d_v"),
    ("decay", "B, T, H_kv·d_k or H_kv"),
    ("beta", "B, T, H_kv or 1"),
];
const PAST: usize = 3;
const DECAY: usize = 4;
const BETA: usize = 5;

const ATTRIBUTES: [(&str, &str); 5] = [
    ("q_num_heads", "an integer"),
    ("kv_num_heads", "an integer"),
    ("chunk_size", "an integer"),
    ("scale", "a float"),
    ("update_rule", "a string"),
];

/// `update_rule`, with decay e^g and S' the state that a step writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpdateRule {
    /// S' = S + k vᵀ
    Linear,
    /// S' = e^g S + k vᵀ
    Gated,
    /// S' = S + β k (v − Sᵀ k)ᵀ
    Delta,
    /// S' = e^g S + β k (v − (e^g S)ᵀ k)ᵀ
    #[default]
    GatedDelta,
}

impl UpdateRule {
    fn by_name(name: &str) -> Result<Self> {
        match name {
            "linear" => Ok(Self::Linear),
            "gated" => Ok(Self::Gated),
            "delta" => Ok(Self::Delta),
            "gated_delta" => Ok(Self::GatedDelta),
            _ => Err(Error::mismatch("update_rule", "linear, gated, delta or gated_delta", shortened(name))),
        }
    }
    /// Whether states decay.
    pub fn is_gated(self) -> bool {
        matches!(self, Self::Gated | Self::GatedDelta)
    }
    /// Whether what k finds is replaced, by as much as β.
    pub fn is_delta(self) -> bool {
        matches!(self, Self::Delta | Self::GatedDelta)
    }
    /// The rule of this crate, whose ports are query, key, value, decay and β, those of them that it has.
    fn rule(self) -> &'static Rule {
        match self {
            Self::Linear => &rules::LINEAR,
            Self::Gated => &rules::GLA,
            Self::Delta => &rules::DELTA,
            Self::GatedDelta => &rules::GATED_DELTA,
        }
    }
}

/// `LinearAttention`'s attributes.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearAttention {
    /// `update_rule`
    pub update_rule: UpdateRule,
    /// `q_num_heads`: H_q, a multiple of H_kv.
    pub q_num_heads: usize,
    /// `kv_num_heads`: H_kv, each serving H_q / H_kv neighbouring heads of the query.
    pub kv_num_heads: usize,
    /// `scale`: outputs are scale · S'ᵀ q; `None` (0 in the file): 1/√d_k.
    pub scale: Option<f64>,
    /// `chunk_size`, a hint: [`wgpu_rnn::network::NetworkOptions::chunk`]; `None`: this crate's own.
    pub chunk_size: Option<usize>,
}

impl LinearAttention {
    pub(super) fn new(attributes: &[(String, AttributeValue)]) -> Result<Self> {
        use AttributeValue::{Float, Int, Text};
        let (mut q_num_heads, mut kv_num_heads, mut chunk_size) = (None, None, None);
        let (mut scale, mut update_rule) = (0.0, UpdateRule::default());
        for (name, value) in attributes {
            match (name.as_str(), value) {
                ("q_num_heads", Int(n)) => q_num_heads = Some(count(name, *n)?),
                ("kv_num_heads", Int(n)) => kv_num_heads = Some(count(name, *n)?),
                ("chunk_size", Int(n)) => chunk_size = Some(count(name, *n)?),
                // An attribute is f32 in the file.
                ("scale", Float(v)) if (*v as f32).is_finite() => scale = *v,
                ("scale", Float(v)) => return Err(Error::mismatch("scale", "a finite number", v)),
                ("update_rule", Text(text)) => update_rule = UpdateRule::by_name(text)?,
                (name, value) => return Err(refused(RecurrenceOp::LinearAttention, &ATTRIBUTES, name, value)),
            }
        }
        let missing = |what: &str| Error::mismatch(what, "an attribute", "none");
        let q_num_heads = q_num_heads.ok_or_else(|| missing("q_num_heads"))?;
        let kv_num_heads = kv_num_heads.ok_or_else(|| missing("kv_num_heads"))?;
        let scale = Some(scale).filter(|&scale| scale != 0.0);
        Ok(Self { update_rule, q_num_heads, kv_num_heads, scale, chunk_size })
    }

    pub(super) fn network(&self, shapes: &Shapes<'_>) -> Result<RecurrenceNetwork> {
        let (shape, heads) = self.heads(shapes)?;
        let network = self.build(shapes, &heads)?;
        Ok(RecurrenceNetwork::new(
            shapes,
            network,
            shape,
            self.chunk_size.map(|c| c.min(shape.time)),
            Layout::Attention(heads),
        ))
    }

    /// Steps, sequences and heads of inputs of these shapes.
    pub(in crate::onnx) fn heads(&self, shapes: &Shapes<'_>) -> Result<(Shape, Heads)> {
        let (q, kv) = (self.q_num_heads, self.kv_num_heads);
        if kv == 0 || q == 0 || q % kv != 0 {
            return Err(Error::mismatch("q_num_heads", format!("a multiple of kv_num_heads = {kv}, at least 1"), q));
        }
        let [batch, time, query] = shapes.three(0)?;
        let [_, _, value] = shapes.three(2)?;
        let of = |width: usize, heads: usize, what: &str| match width % heads {
            0 => Ok(width / heads),
            _ => Err(Error::mismatch(what, format!("[B, T, a multiple of {heads} heads]"), format!("{width} columns"))),
        };
        let (key, value) = (of(query, q, "query")?, of(value, kv, "value")?);
        // Of these sizes no product overflows: kv·key is at most query, kv·value was given.
        shapes.three(1)?;
        shapes.expect(1, &[batch, time, kv * key])?;
        shapes.expect(2, &[batch, time, kv * value])?;
        shapes.expect(PAST, &[batch, kv, key, value])?;
        let rule = self.update_rule;
        self.check_gate(shapes, DECAY, rule.is_gated(), [batch, time], [kv * key, kv])?;
        self.check_gate(shapes, BETA, rule.is_delta(), [batch, time], [kv, 1])?;
        let heads = Heads { kv, group: q / kv, key, value };
        heads.check_limit()?;
        let shape = Shape { time, batch };
        shape.validate()?;
        Ok((shape, heads))
    }

    /// A gate is there if the rule has it, and only then; its width is one of two.
    fn check_gate(
        &self,
        shapes: &Shapes<'_>,
        n: usize,
        wanted: bool,
        [batch, time]: [usize; 2],
        widths: [usize; 2],
    ) -> Result<()> {
        let (name, dimensions) = INPUTS[n];
        let rule = self.update_rule;
        match (wanted, shapes.get(n)) {
            (false, None) => Ok(()),
            (false, Some(_)) => Err(Error::mismatch(name, format!("none, for update_rule {rule:?} has none"), "one")),
            (true, None) => Err(Error::mismatch(name, format!("an input, for update_rule {rule:?} has one"), "none")),
            (true, Some(shape)) if widths.iter().any(|&width| shape == [batch, time, width]) => Ok(()),
            (true, Some(shape)) => {
                let expected = format!("[{dimensions}] = [{batch}, {time}, {} or {}]", widths[0], widths[1]);
                Err(Error::mismatch(name, expected, format!("{shape:?}")))
            }
        }
    }

    fn build(&self, shapes: &Shapes<'_>, heads: &Heads) -> Result<Network> {
        let mut b = Builder::new();
        let mut parts = Vec::new();
        for n in VALUES {
            let Some(&[_, _, width]) = shapes.get(n) else { continue };
            parts.push((n, b.input(INPUTS[n].0, width)?));
        }
        let y = self.add(&mut b, &["state".into(), "scaled".into()], &parts, heads)?;
        b.output("output", y)?;
        b.finish()
    }

    /// Adds the scan and the scaling behind it, of those names, to a network; `parts`: which input each value is, in the order of `VALUES`.
    pub(in crate::onnx) fn add(
        &self,
        b: &mut Builder,
        names: &[String; 2],
        parts: &[(usize, Part)],
        heads: &Heads,
    ) -> Result<Part> {
        let operand = |&(n, part): &(usize, Part)| {
            // The scan gives a head's own values to its group; of one decay per head it would take d_k heads' for one head's.
            let per_head = n == DECAY && part.width == heads.kv;
            let operand = Operand::from(part);
            if per_head { operand.each(heads.key * heads.group) } else { operand }
        };
        let operands: Vec<Operand> = parts.iter().map(operand).collect();
        let sizes = [heads.kv * heads.group, heads.key, heads.value];
        let y = b.scan(&names[0], self.update_rule.rule(), sizes, &operands, false)?;
        let scale = self.scale.unwrap_or_else(|| 1.0 / (heads.key as f64).sqrt());
        b.map(&names[1], Expr::from(scale) * Expr::input(0), &[y.into()])
    }
}

/// Inputs with a step's values, as the rule's ports are ordered.
pub(in crate::onnx) const VALUES: [usize; 5] = [0, 1, 2, DECAY, BETA];

/// Sizes of the heads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::onnx) struct Heads {
    /// H_kv
    kv: usize,
    /// H_q / H_kv
    group: usize,
    /// d_k
    key: usize,
    /// d_v
    value: usize,
}

impl Heads {
    /// Which input is the state before.
    pub const PAST: usize = PAST;

    /// Refuses a state whose elements the kernels could not number, before anything is multiplied.
    fn check_limit(&self) -> Result<()> {
        let sizes = [self.kv, self.group, self.key, self.value];
        let needs = sizes.iter().try_fold(1u64, |n, &size| n.checked_mul(size as u64)).unwrap_or(u64::MAX);
        let limit = u64::from(u32::MAX);
        if needs > limit {
            let what = format!("state of {} heads, {} x {}", self.kv.saturating_mul(self.group), self.key, self.value);
            let limit_name = "the kernels' index range";
            return Err(Error::Limit { what, needs, limit, unit: "elements", limit_name, hint: String::new() });
        }
        Ok(())
    }

    /// `past_state` `[B, H_kv, d_k, d_v]` as the scan's `[B, H_q, d_v, d_k]`.
    pub fn state<T: Copy>(&self, past: &[T]) -> Vec<T> {
        let Self { kv, group, key, value } = *self;
        let head = |head: usize| (0..value).flat_map(move |v| (0..key).map(move |k| (head * key + k) * value + v));
        let heads = past
            .chunks_exact(kv * key * value)
            .flat_map(|one| (0..kv * group).flat_map(move |h| head(h / group)).map(|at| one[at]));
        heads.collect()
    }

    /// Values of a sequence's state in the scan.
    pub fn size(&self) -> usize {
        self.kv * self.group * self.key * self.value
    }

    /// `present_state` out of the scan's state.
    pub fn present<T: Copy>(&self, state: &[T]) -> Vec<T> {
        let Self { kv, group, key, value } = *self;
        let head = |head: usize| (0..key).flat_map(move |k| (0..value).map(move |v| (head * value + v) * key + k));
        let heads = state
            .chunks_exact(self.size())
            .flat_map(|one| (0..kv).flat_map(move |h| head(h * group)).map(|at| one[at]));
        heads.collect()
    }

    /// The shapes of output and `present_state`.
    pub fn outputs(&self, shape: Shape) -> [Vec<usize>; 2] {
        let Self { kv, group, key, value } = *self;
        [vec![shape.batch, shape.time, kv * group * value], vec![shape.batch, kv, key, value]]
    }
}

fn count(name: &str, n: i64) -> Result<usize> {
    usize::try_from(n).ok().filter(|&n| n > 0).ok_or_else(|| Error::mismatch(name, "at least 1", n))
}
