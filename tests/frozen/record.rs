//! Files of hashes: one line per entry, `name: part=hash part=hash …`; lines that begin with `#` are for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// What there is to hold fast of an entry: parts by name, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub entry: String,
    pub parts: Vec<(String, String)>,
}

impl Line {
    pub fn new(entry: impl Into<String>) -> Self {
        Self { entry: entry.into(), parts: Vec::new() }
    }

    /// Adds a part; a second one of the same name is `name#2`, and so on.
    pub fn put(&mut self, name: &str, value: impl Into<String>) {
        let taken = |n: &str| self.parts.iter().any(|(part, _)| part == n);
        let again = (2..).map(|n| format!("{name}#{n}"));
        let free = std::iter::once(name.to_string()).chain(again).find(|n| !taken(n));
        self.parts.extend(free.map(|name| (name, value.into())));
    }

    fn parse(text: &str) -> Option<Self> {
        let (entry, parts) = text.split_once(": ")?;
        let part = |text: &str| text.split_once('=').map(|(name, value)| (name.into(), value.into()));
        Some(Self { entry: entry.into(), parts: parts.split_whitespace().map(part).collect::<Option<_>>()? })
    }

    fn text(&self) -> String {
        let parts: Vec<String> = self.parts.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{}: {}", self.entry, parts.join(" "))
    }
}

/// FNV-1a of 64 bits.
pub fn hash(bytes: impl IntoIterator<Item = u8>) -> String {
    let one = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    format!("{:016x}", bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, one))
}

/// The same of a text.
pub fn hash_text(text: &str) -> String {
    hash(text.bytes())
}

/// One line on stderr that is seen whether or not the test passes (`eprintln!` is kept back where it does).
pub fn say(line: &str) {
    // Where stderr is closed nobody can be told.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// How many differences are told one by one.
const TOLD: usize = 12;

/// Compares lines with a file of `tests/data/frozen`; whether there is one. With `WGPU_RNN_RECORD=1` writes it instead.
///
/// # Panics
/// If anything differs.
pub fn hold(file: &str, what: &str, lines: &[Line]) -> bool {
    let path = folder().join(file);
    if std::env::var("WGPU_RNN_RECORD").is_ok_and(|v| v == "1") {
        write(&path, what, lines);
        say(&format!("frozen: {} entries recorded in tests/data/frozen/{file}", lines.len()));
        return true;
    }
    let Ok(text) = std::fs::read_to_string(&path) else { return false };
    let recorded = read(&text).unwrap_or_else(|line| panic!("tests/data/frozen/{file}, line {line} is no entry"));
    let (entries, differences) = differences(&recorded, lines);
    if entries > 0 {
        let rest = differences.len().saturating_sub(TOLD);
        let rest = if rest > 0 { format!("\n  and {rest} more") } else { String::new() };
        panic!(
            "{entries} of {} entries are not as recorded in tests/data/frozen/{file}:\n  {}{rest}\n\
             If this is meant, record anew and say why in the commit:\n  \
             WGPU_RNN_RECORD=1 cargo test --release --test frozen",
            recorded.len(),
            differences[..differences.len().min(TOLD)].join("\n  ")
        );
    }
    true
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/frozen")
}

fn write(path: &Path, what: &str, lines: &[Line]) {
    let mut text = format!("# {what}\n# Written by tests/frozen (README.md says how); not to be edited by hand.\n");
    for line in lines {
        let _ = writeln!(text, "{}", line.text());
    }
    std::fs::write(path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// All entries, or the number of the first line that is none.
fn read(text: &str) -> Result<Vec<Line>, usize> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#'));
    lines.map(|(n, line)| Line::parse(line).ok_or(n + 1)).collect()
}

/// How many entries differ, and in what: entry, part, recorded value, value now.
fn differences(recorded: &[Line], now: &[Line]) -> (usize, Vec<String>) {
    let by_name = |lines: &[Line]| -> BTreeMap<String, Line> {
        lines.iter().map(|line| (line.entry.clone(), line.clone())).collect()
    };
    let (old, new) = (by_name(recorded), by_name(now));
    let (mut entries, mut list) = (0, Vec::new());
    // In the order of the file, then what it lacks.
    let added = now.iter().filter(|line| !old.contains_key(&line.entry));
    for Line { entry, .. } in recorded.iter().chain(added) {
        let before = list.len();
        match (old.get(entry), new.get(entry)) {
            (Some(old), Some(new)) => list.extend(parts_that_differ(old, new)),
            (Some(_), None) => list.push(format!("{entry}: recorded, but no entry any more")),
            _ => list.push(format!("{entry}: not recorded")),
        }
        entries += usize::from(list.len() > before);
    }
    (entries, list)
}

fn parts_that_differ(old: &Line, new: &Line) -> Vec<String> {
    let value = |line: &Line, name: &str| line.parts.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    let added = new.parts.iter().filter(|(name, _)| value(old, name).is_none());
    let mut list = Vec::new();
    for (name, _) in old.parts.iter().chain(added) {
        let [was, is] = [old, new].map(|line| value(line, name).unwrap_or_else(|| "nothing".into()));
        if was != is {
            list.push(format!("{}, {name}: expected {was}, got {is}", old.entry));
        }
    }
    if list.is_empty() && old != new {
        list.push(format!("{}: the same parts in another order", old.entry));
    }
    list
}

#[test]
fn the_hash_is_fnv_1a() {
    assert_eq!((hash_text("").as_str(), hash_text("foobar").as_str()), ("cbf29ce484222325", "85944171f73967e8"));
}

#[test]
fn every_difference_is_told() {
    let line = |text: &str| Line::parse(text).unwrap();
    let old = [line("a: x=1 y=2"), line("b: x=1"), line("c: x=1 y=2"), line("e: x=3")];
    let new = [line("a: x=1 y=3 z=4"), line("c: y=2 x=1"), line("d: x=1"), line("e: x=3")];
    let told = [
        "a, y: expected 2, got 3",
        "a, z: expected nothing, got 4",
        "b: recorded, but no entry any more",
        "c: the same parts in another order",
        "d: not recorded",
    ];
    assert_eq!(differences(&old, &new), (4, told.map(String::from).to_vec()));
    assert_eq!(differences(&old, &old), (0, Vec::new()));
    let text: String = old.iter().map(|line| line.text() + "\n").collect();
    assert_eq!(read(&format!("# for people\n{text}")), Ok(old.to_vec()));
    assert_eq!(read(&format!("{text}nonsense\n")), Err(5));
}
