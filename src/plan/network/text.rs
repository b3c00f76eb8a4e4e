//! WGSL of operands and rules: how a column is read, how a step's coefficients are made, and how their gradients go back.

use crate::expr::Expr;
use crate::model::network::{Network, Operand, ScanShape, Source};
use crate::model::rule::{Extent, Form, Port};
use std::fmt::Write as _;

/// `port_<n>(row, c)`: column c of an operand.
pub(in crate::plan::network) fn reader(network: &Network, n: usize, operand: &Operand) -> String {
    let (inner, repeat, width) = (operand.inner, operand.repeat, operand.source_width());
    let column = match () {
        () if repeat == 1 => "c".into(),
        () if inner == 1 => format!("c / {repeat}u"),
        () if inner == width => format!("c % {width}u"),
        () => format!("c / {}u * {inner}u + c % {inner}u", inner * repeat),
    };
    let place = match operand.source {
        Source::Value(part) => format!("arena[at_p{n}() + row * {}u + {column}]", network.values[part.value].width),
        Source::Param { .. } => format!("params[at_p{n}() + {column}]"),
    };
    format!("fn port_{n}(row: u32, c: u32) -> f32 {{ return {place}; }}\n")
}

/// What a lane gives the gradient of an operand.
#[derive(Clone, Debug)]
pub(in crate::plan::network) struct Share {
    /// Which operand.
    pub port: usize,
    /// WGSL of the value.
    pub value: String,
    /// Where it goes.
    pub route: Route,
    /// Offset of the gradient's first column, or of the contributions.
    pub at: usize,
}

impl Share {
    /// Whether lanes add up their rows first.
    pub fn is_sum(&self) -> bool {
        self.route == Route::Sums
    }
}

/// How a lane's share reaches a gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plan::network) enum Route {
    /// Added to the gradient, rows of `stride` columns: nothing else adds to that column in this dispatch.
    Direct {
        /// Columns of the value.
        stride: usize,
    },
    /// Stored per row, for `fold`.
    Rows,
    /// Added up over the lane's rows first, stored once, for `fold`.
    Sums,
}

/// `add_gradients(arguments)` and `store_sums(block, …)`: `column` is the WGSL of a lane's column of `width`, of the same arguments;
/// `later`: of whether a lane has given some of it before.
pub(in crate::plan::network) fn writers(
    shares: &[Share],
    arguments: &str,
    lets: &str,
    (column, width): (&str, usize),
    later: &str,
) -> String {
    let mut text = String::new();
    for s in shares.iter().filter(|s| s.route == Route::Sums) {
        let _ = writeln!(text, "var<private> sum_{}: f32;", s.port);
    }
    let _ = writeln!(text, "fn add_gradients(row: u32, step: u32, {arguments}) {{\n{lets}");
    for Share { port, value, route, .. } in shares {
        let _ = match route {
            Route::Direct { stride } => {
                writeln!(text, "    arena[at_g{port}() + row * {stride}u + {column}] += {value};")
            }
            Route::Rows => {
                let place = format!("arena[at_g{port}() + step * {width}u + {column}]");
                writeln!(text, "    {place} = select(0.0, {place}, {later}) + {value};")
            }
            Route::Sums => writeln!(text, "    sum_{port} += {value};"),
        };
    }
    text + "}\n"
}

/// `store_sums`: what lanes have added up, a row per block.
pub(in crate::plan::network) fn sums(shares: &[Share], index: &str, (column, width): (&str, usize)) -> String {
    let mut text = format!("fn store_sums(block: u32, h: u32, {index}: u32) {{\n");
    for s in shares.iter().filter(|s| s.route == Route::Sums) {
        let _ = writeln!(text, "    arena[at_g{0}() + block * {width}u + {column}] = sum_{0};", s.port);
    }
    text + "}\n"
}

/// A rule's expressions with its ports, as WGSL.
pub(in crate::plan::network) struct RuleText<'a> {
    pub shape: &'a ScanShape,
    pub form: &'a Form,
    pub ports: &'a [Port],
}

/// The coefficients of [`Form::of_key`], as `Coefficients` of the text names them.
const COEFFICIENTS: [&str; 6] = ["d", "a", "b", "k", "q", "r"];

impl<'a> RuleText<'a> {
    pub fn new(shape: &'a ScanShape) -> Self {
        Self { shape, form: shape.form(), ports: shape.ports() }
    }

    fn keyed(&self, e: &Expr) -> bool {
        self.ports.iter().enumerate().any(|(n, p)| p.extent == Extent::Key && e.uses(n))
    }

    /// `let p<n> = …;` for the ports that any of the expressions uses.
    pub fn lets<'e>(&self, expressions: impl IntoIterator<Item = &'e Expr>) -> String {
        let all: Vec<&Expr> = expressions.into_iter().collect();
        let mut text = String::new();
        for (n, port) in self.ports.iter().enumerate().filter(|(n, _)| all.iter().any(|e| e.uses(*n))) {
            let column = match port.extent {
                Extent::Head => "h",
                Extent::Key => "h * KEY + n",
                Extent::Value => "h * VALUE + j",
            };
            let _ = writeln!(text, "    let p{n} = port_{n}(row, {column});");
        }
        text
    }

    /// All that scans read: ports, `head_values`, `coefficients`, `through_of`, `value_at`.
    pub fn functions(&self, network: &Network) -> String {
        let mut text = String::new();
        for (n, operand) in self.shape.operands.iter().enumerate() {
            text += &reader(network, n, operand);
        }
        for (n, port) in self.ports.iter().enumerate().skip(self.shape.operands.len()) {
            let name = port.name;
            let _ = writeln!(
                text,
                "fn port_{n}(row: u32, c: u32) -> f32 {{ return arena[at_{name}() + row * HEADS + c]; }}"
            );
        }
        text += &self.coefficients();
        let plain = |n: usize| format!("p{n}");
        let through = self.form.through.as_ref().filter(|r| !self.keyed(r));
        let (lets, r) = through.map_or(("".into(), "0.0".into()), |r| (self.lets([r]), r.wgsl(&plain)));
        let _ = writeln!(text, "fn through_of(row: u32, h: u32) -> f32 {{\n{lets}    return {r};\n}}");
        let (lets, v) = (self.lets([&self.form.value]), self.form.value.wgsl(&plain));
        text + &format!("fn value_at(row: u32, h: u32, j: u32) -> f32 {{\n{lets}    return {v};\n}}\n")
    }

    /// What the coefficients have in common over the key indices is evaluated once per step, in `head_values`.
    fn coefficients(&self) -> String {
        let mut common = Vec::new();
        let mut of_key = self.form.of_key();
        of_key[5] = of_key[5].filter(|_| !self.through_alone());
        let parts = of_key.map(|e| e.map(|e| self.hoist(e, &mut common)));
        let ports = self.ports.len();
        let plain = |n: usize| if n < ports { format!("p{n}") } else { format!("head.s{}", n - ports) };
        let mut text = "struct Head {\n    none: f32,\n".to_string();
        (0..common.len()).for_each(|n| text += &format!("    s{n}: f32,\n"));
        text += "}\nfn head_values(row: u32, h: u32) -> Head {\n";
        text += &self.lets(&common);
        text += "    var head: Head;\n";
        for (n, e) in common.iter().enumerate() {
            let _ = writeln!(text, "    head.s{n} = {};", e.wgsl(&plain));
        }
        text += "    return head;\n}\nstruct Coefficients {\n";
        COEFFICIENTS.iter().for_each(|c| text += &format!("    {c}: f32,\n"));
        text += "}\nfn coefficients(row: u32, h: u32, n: u32, head: Head) -> Coefficients {\n";
        text += &self.lets(parts.iter().flatten());
        let value = |(e, other): (&Option<Expr>, &str)| e.as_ref().map_or(other.to_string(), |e| e.wgsl(&plain));
        let values: Vec<String> = parts.iter().zip(["1.0", "0.0", "0.0", "0.0", "0.0", "0.0"]).map(value).collect();
        text + &format!("    return Coefficients({});\n}}\n", values.join(", "))
    }

    /// Whether r is the same for all key indices.
    fn through_alone(&self) -> bool {
        self.form.through.as_ref().is_some_and(|r| !self.keyed(r))
    }

    /// The expression with its largest parts that use no key port replaced by inputs beyond the ports, which `found` collects.
    fn hoist(&self, e: &Expr, found: &mut Vec<Expr>) -> Expr {
        let used = (0..self.ports.len()).any(|n| e.uses(n));
        match e {
            _ if used && !self.keyed(e) => {
                let at = found.iter().position(|f| f == e).unwrap_or_else(|| {
                    found.push(e.clone());
                    found.len() - 1
                });
                Expr::Input(self.ports.len() + at)
            }
            Expr::Apply(f, x) => Expr::Apply(*f, self.hoist(x, found).into()),
            Expr::Combine(o, a, b) => Expr::Combine(*o, self.hoist(a, found).into(), self.hoist(b, found).into()),
            Expr::Input(_) | Expr::Constant(_) => e.clone(),
        }
    }

    /// Logarithms of decay and input gate of rules with a stabiliser.
    pub fn gates(&self) -> String {
        let Some(s) = &self.form.stabiliser else { return String::new() };
        let one = |name: &str, e: &Expr| {
            let (lets, value) = (self.lets([e]), e.wgsl(&|n| format!("p{n}")));
            format!("fn {name}(row: u32, h: u32) -> f32 {{\n{lets}    return {value};\n}}\n")
        };
        one("log_decay", &s.decay) + &one("log_input", &s.input)
    }

    /// A port's gradient from those of the coefficients, `d` of the text; `None`: it has none.
    pub fn of_key(&self, port: usize) -> Option<Expr> {
        let mut sum = Expr::Constant(0.0);
        for (n, e) in self.form.of_key().into_iter().enumerate() {
            let Some(e) = e else { continue };
            let alone = n == 5 && self.through_alone();
            let d = Expr::Input(self.ports.len() + if alone { 6 } else { n });
            sum = sum + d * e.derivative(port);
        }
        (sum != Expr::Constant(0.0)).then_some(sum)
    }

    /// A port's gradient from that of v, `dv` of the text.
    pub fn of_value(&self, port: usize) -> Option<Expr> {
        let slope = self.form.value.derivative(port);
        (slope != Expr::Constant(0.0)).then(|| Expr::Input(self.ports.len() + 7) * slope)
    }

    /// WGSL of a gradient, see [`Self::of_key`] and [`Self::of_value`], and what it reads.
    pub fn gradient(&self, e: &Expr) -> String {
        let ports = self.ports.len();
        e.wgsl(&|n| match n.checked_sub(ports) {
            None => format!("p{n}"),
            // r that is the same for all key indices has its gradient from one of them.
            Some(6) => "select(0.0, d.r, n == 0u)".into(),
            Some(7) => "dv".into(),
            Some(c) => format!("d.{}", COEFFICIENTS[c]),
        })
    }
}
