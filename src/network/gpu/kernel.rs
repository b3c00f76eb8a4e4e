//! One dispatch: a kernel's text with its constants and functions, the words of its uniform block, and its grid.

use std::fmt::Write as _;

/// Lanes of a workgroup, as `LANES` of `frame.wgsl`.
pub(super) const LANES: usize = 64;

const FRAME: &str = include_str!("../../../shaders/network/frame.wgsl");
const MATH: &str = include_str!("../../../shaders/lib/math.wgsl");
const EXPR: &str = include_str!("../../../shaders/lib/expr.wgsl");

/// A dispatch.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Job {
    /// The kernel, for labels.
    pub name: &'static str,
    /// All of its WGSL.
    pub text: String,
    /// Its uniform block.
    pub words: Vec<u32>,
    /// Workgroups in x and y.
    pub groups: [u32; 2],
    /// Rounds of all loops of a lane, at most; 0: few.
    pub rounds: usize,
}

/// A dispatch as it is put together.
pub(super) struct Kernel {
    name: &'static str,
    bodies: Vec<&'static str>,
    items: usize,
    words: Vec<(String, usize)>,
    constants: String,
    functions: String,
    rounds: usize,
}

impl Kernel {
    /// `bodies`: files of `shaders/network`, the kernel's own last; `items`: one lane each.
    pub fn new(name: &'static str, bodies: &[&'static str], items: usize) -> Self {
        let (words, constants, functions) = (Vec::new(), String::new(), String::new());
        Self { name, bodies: bodies.to_vec(), items, words, constants, functions, rounds: 0 }
    }

    /// Rounds of all loops of a lane, at most, where they may be many.
    pub fn rounds(mut self, rounds: usize) -> Self {
        self.rounds = rounds;
        self
    }

    /// A constant size.
    pub fn size(mut self, name: &str, value: usize) -> Self {
        let _ = writeln!(self.constants, "const {name}: u32 = {value}u;");
        self
    }

    /// A constant choice.
    pub fn flag(mut self, name: &str, value: bool) -> Self {
        let _ = writeln!(self.constants, "const {name}: bool = {value};");
        self
    }

    /// A constant number.
    pub fn float(mut self, name: &str, value: f64) -> Self {
        let _ = writeln!(self.constants, "const {name}: f32 = {:e};", value as f32);
        self
    }

    /// `at_<name>()` of the text, which may not name it; one that it names and nothing gives is 0: its variant has no use for it.
    pub fn word(mut self, name: impl Into<String>, value: usize) -> Self {
        self.words.push((name.into(), value));
        self
    }

    /// Generated functions.
    pub fn functions(mut self, text: &str) -> Self {
        self.functions += text;
        self
    }

    /// The dispatch, for T and B, where a dimension has at most `limit` workgroups.
    pub fn job(self, [time, batch]: [usize; 2], limit: usize) -> Job {
        let groups = self.items.div_ceil(LANES).max(1);
        let wide = groups.min(limit.max(1));
        let standard = [("groups", wide), ("items", self.items), ("time", time), ("batch", batch)];
        let given = |name: &str| {
            let own = self.words.iter().find(|(given, _)| given == name).map(|(_, value)| *value);
            own.or_else(|| standard.iter().find(|(given, _)| *given == name).map(|(_, value)| *value)).unwrap_or(0)
        };
        let body = self.bodies.concat();
        let calls = |text: &str| ["expr_", "safe_", "relu("].into_iter().any(|name| text.contains(name));
        let math = if calls(&self.functions) || calls(&body) {
            ["alias real = f32;\n", MATH, EXPR].concat()
        } else {
            String::new()
        };
        let rest = [&self.constants, FRAME, &math, &self.functions, &body].concat();
        let words: Vec<(String, usize)> = named(&rest).into_iter().map(|name| (name.clone(), given(&name))).collect();
        let mut text = format!(
            "struct Words {{ w: array<vec4<u32>, {}> }}\n@group(0) @binding(0) var<uniform> words: Words;\n",
            words.len().div_ceil(4)
        );
        for (n, (name, _)) in words.iter().enumerate() {
            let _ = writeln!(
                text,
                "fn at_{name}() -> u32 {{ return words.w[{}].{}; }}",
                n / 4,
                ["x", "y", "z", "w"][n % 4]
            );
        }
        text += &rest;
        let mut words: Vec<u32> = words.into_iter().map(|(_, value)| value as u32).collect();
        words.resize(words.len().next_multiple_of(4), 0);
        Job { name: self.name, text, words, groups: [wide as u32, groups.div_ceil(wide) as u32], rounds: self.rounds }
    }
}

/// The names of the words that a text calls.
fn named(text: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (at, _) in text.match_indices("at_") {
        let before = text[..at].chars().next_back();
        let name: String = text[at + 3..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        let call = text[at + 3 + name.len()..].starts_with("()");
        if call && !before.is_some_and(|c| c.is_alphanumeric() || c == '_') && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}
