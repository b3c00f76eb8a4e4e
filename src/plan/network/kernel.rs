//! One dispatch: a kernel's text with its constants and functions, the words of its uniform block, and its grid.

use std::fmt::Write as _;

/// Lanes of a workgroup, as `LANES` of `frame.wgsl`.
pub(in crate::plan::network) const LANES: usize = 64;

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

/// A word's name and value; without one the text names it, but the variant at hand has no use for it.
type Word = (String, Option<usize>);

/// A dispatch as it is put together.
pub(in crate::plan::network) struct Kernel {
    name: &'static str,
    bodies: Vec<&'static str>,
    items: usize,
    words: Vec<Word>,
    /// Words of an operation, of which a text takes those that it names.
    offers: Vec<Word>,
    constants: String,
    functions: String,
    rounds: usize,
}

impl Kernel {
    /// `bodies`: files of `shaders/network`, the kernel's own last; `items`: one lane each.
    pub fn new(name: &'static str, bodies: &[&'static str], items: usize) -> Self {
        let (words, offers, constants, functions) = (Vec::new(), Vec::new(), String::new(), String::new());
        Self { name, bodies: bodies.to_vec(), items, words, offers, constants, functions, rounds: 0 }
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

    /// `at_<name>()` of the text, which must name it; `None`: this variant has no use for it.
    pub fn word(mut self, name: impl Into<String>, value: impl Into<Option<usize>>) -> Self {
        self.words.push((name.into(), value.into()));
        self
    }

    /// A word that the text names and this variant has no use for.
    pub fn without(self, name: &str) -> Self {
        self.word(name, None::<usize>)
    }

    /// The same for a text that need not name it, unless [`Kernel::word`] gives it.
    pub fn offer(mut self, name: impl Into<String>, value: impl Into<Option<usize>>) -> Self {
        self.offers.push((name.into(), value.into()));
        self
    }

    /// Generated functions.
    pub fn functions(mut self, text: &str) -> Self {
        self.functions += text;
        self
    }

    /// The dispatch, for T and B, where a dimension has at most `limit` workgroups.
    ///
    /// # Errors
    /// What is wrong where the text names a word that nothing gives, or something gives one that it does not name (or gives it twice):
    /// in a shader that checks nothing an offset of 0 would read whatever comes first.
    pub fn job(self, [time, batch]: [usize; 2], limit: usize) -> Result<Job, String> {
        let groups = self.items.div_ceil(LANES).max(1);
        let wide = groups.min(limit.max(1));
        let standard = [("groups", wide), ("items", self.items), ("time", time), ("batch", batch)];
        let given = |name: &str| {
            let own = self.words.iter().chain(&self.offers).find(|(given, _)| given == name);
            let own = own.map(|(_, value)| value.unwrap_or(0));
            own.or_else(|| standard.iter().find(|(given, _)| *given == name).map(|(_, value)| *value))
        };
        let body = self.bodies.concat();
        let calls = |text: &str| ["expr_", "safe_", "relu("].into_iter().any(|name| text.contains(name));
        let math = if calls(&self.functions) || calls(&body) {
            ["alias real = f32;\n", MATH, EXPR].concat()
        } else {
            String::new()
        };
        let rest = [&self.constants, FRAME, &math, &self.functions, &body].concat();
        let names = named(&rest);
        for (n, (name, _)) in self.words.iter().enumerate() {
            if !names.contains(name) {
                return Err(format!("{}: the word {name} is given, but the text does not name it", self.name));
            }
            if self.words[..n].iter().any(|(other, _)| other == name) {
                return Err(format!("{}: the word {name} is given twice", self.name));
            }
        }
        let mut words: Vec<(String, usize)> = Vec::new();
        for name in names {
            let unknown = || format!("{}: the text names the word {name}, but nothing gives it", self.name);
            let value = given(&name).ok_or_else(unknown)?;
            words.push((name, value));
        }
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
        let groups = [wide as u32, groups.div_ceil(wide) as u32];
        Ok(Job { name: self.name, text, words, groups, rounds: self.rounds })
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

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "fn main() { arena[at_y()] = arena[at_x() + at_items()]; }";

    fn kernel() -> Kernel {
        Kernel::new("test", &[TEXT], 3)
    }

    #[test]
    fn words_are_those_that_the_text_names() {
        let job = kernel().offer("unnamed", 9).offer("x", 1).word("x", 5).without("y").job([7, 2], 100).unwrap();
        // groups, batch, y, x, items
        let place = |name: &str| {
            let line = job.text.lines().find(|l| l.contains(&format!("at_{name}()"))).unwrap();
            let (row, column) = line.split_once("words.w[").unwrap().1.split_once("].").unwrap();
            4 * row.parse::<usize>().unwrap() + ["x", "y", "z", "w"].iter().position(|c| column.starts_with(c)).unwrap()
        };
        let value = |name: &str| job.words[place(name)];
        assert_eq!([value("x"), value("y"), value("items"), value("batch")], [5, 0, 3, 2]);
    }

    #[test]
    fn words_that_are_not_right_make_no_dispatch() {
        let wrong = |kernel: Kernel| kernel.job([7, 2], 100).unwrap_err();
        assert!(wrong(kernel().word("x", 5)).contains("names the word y, but nothing gives it"));
        assert!(wrong(kernel().word("x", 5).word("y", 1).word("z", 1)).contains("z is given, but the text does not"));
        assert!(wrong(kernel().word("x", 5).word("y", 1).word("x", 1)).contains("x is given twice"));
    }
}
