//! The order of the house: a folder of `src` imports only folders above it in this list, so that no two import each other.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// From the ground up. `network` is the public name of parts of `model`, `plan` and `session`, which no file of ours uses.
const ORDER: [&str; 14] = [
    "error", "tensor", "num", "expr", "model", "kernels", "plan", "exec", "session", "face", "pool", "decode", "io",
    "tuning",
];
/// The crates around the library, in the same way, by the names that they import each other by.
const CRATES: [(&str, &str); 3] =
    [("formats", "wgpu_rnn_formats"), ("verify", "wgpu_rnn_verify"), ("cli", "wgpu_rnn_cli")];

/// All Rust files of a folder.
fn files(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files(&path, found)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

/// The text without comments and without the tests at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// What stands behind every `crate::` of a text: one name, or those of a list in braces.
fn imports(code: &str) -> BTreeSet<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut all = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(list) = rest.strip_prefix('{') else {
            all.insert(name(rest));
            continue;
        };
        let (mut depth, mut start) = (0, true);
        for (n, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => start = true,
                c if c.is_whitespace() => {}
                _ if start => {
                    all.insert(name(&list[n..]));
                    start = false;
                }
                _ => {}
            }
        }
    }
    all
}

#[test]
fn imports_go_one_way() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&src, &mut all).expect("the sources are there");
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for path in &all {
        let within = path.strip_prefix(&src).expect("below src");
        let first = within.components().next().expect("a name").as_os_str().to_string_lossy().replace(".rs", "");
        // The top is made of all the rest.
        let Some(own) = ORDER.iter().position(|folder| *folder == first) else {
            assert_eq!(first, "lib", "{} stands in no folder of the list", within.display());
            continue;
        };
        seen.insert(own);
        let text = std::fs::read_to_string(path).expect("a source can be read");
        for import in imports(&code(&text)) {
            match ORDER.iter().position(|folder| *folder == import) {
                Some(theirs) if theirs <= own => {}
                Some(_) => wrong.push(format!("{} imports {import}, which is above {first}", within.display())),
                None => {
                    wrong.push(format!("{} imports crate::{import}, which is no folder of the list", within.display()))
                }
            }
        }
    }
    assert_eq!(seen.len(), ORDER.len(), "a folder of the list is gone");
    assert!(wrong.is_empty(), "imports against the order {ORDER:?}:\n{}", wrong.join("\n"));
}

/// The library names none of the crates around it, and they name only those before them.
#[test]
fn crates_import_one_way() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crates = CRATES.map(|(folder, _)| top.join("crates").join(folder).join("src"));
    for (n, src) in std::iter::once(top.join("src")).chain(crates).enumerate() {
        let mut all = Vec::new();
        files(&src, &mut all).expect("the sources are there");
        for path in all {
            let text = code(&std::fs::read_to_string(&path).expect("a source can be read"));
            // The first is the library; a crate names itself `crate`, but for the `main` of a command that is a library too.
            let own = usize::from(path.ends_with("main.rs"));
            for (_, name) in &CRATES[n.saturating_sub(1) + own..] {
                assert!(!text.contains(name), "{} names {name}", path.display());
            }
        }
    }
}

#[test]
fn imports_are_found() {
    let text = "use crate::num::Real; // crate::session\nlet x = crate::error::Error; use crate::{plan::{A, b::C}, exec, \n tensor::View};";
    let expected = ["error", "exec", "num", "plan", "tensor"];
    assert_eq!(imports(&code(text)).iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

/// What a session of layers can do and one of a network does under another name: a network has inputs, outputs, parameters and states by
/// name and any number, where layers have x, y, weights, h and c.
const LIKE: [(&str, &str); 11] = [
    ("for_shape", "sibling"),
    ("from_plan", "new"),
    ("predictions", "output"),
    ("run_backward", "gradients"),
    ("run_for_state", "run"),
    ("set_state", "set_states"),
    ("set_state_of", "set_states_of"),
    ("set_weights", "set_params"),
    ("state", "states"),
    ("state_of", "states_of"),
    ("weights", "params"),
];
/// What networks do not need, or do not have yet (docs/limits.md).
const LAYERS_ALONE: [&str; 5] =
    ["objects_created", "startup", "write_initial_from", "write_targets", "write_upstream_from"];

/// The public methods of a type in the files of a folder, `_async` twins aside.
fn methods(folder: &Path, of: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for entry in std::fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path()) {
        let Ok(text) = std::fs::read_to_string(&entry) else { continue };
        let start = format!("impl<T: Element> {of}<T> {{");
        for (at, _) in text.match_indices(&start) {
            let block = text[at..].split("\n}\n").next().unwrap_or_default();
            for line in block.lines().map(str::trim_start) {
                let name = line.strip_prefix("pub fn ").or_else(|| line.strip_prefix("pub async fn "));
                let name = name.and_then(|rest| rest.split(['(', '<']).next()).unwrap_or_default();
                all.insert(name.trim_end_matches("_async").to_string());
            }
        }
    }
    all.remove("");
    all
}

/// Whatever sessions of layers have, sessions of networks have.
#[test]
fn networks_have_what_layers_have() {
    let session = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/session");
    let (layers, networks) = (methods(&session, "Session"), methods(&session.join("network"), "NetworkSession"));
    assert!(layers.len() > 40 && networks.len() > 30, "{layers:?} {networks:?}");
    for name in &layers {
        let like = LIKE.iter().find(|(of, _)| of == name).map_or(name.as_str(), |(_, like)| like);
        let there = networks.contains(like);
        assert!(
            there != LAYERS_ALONE.contains(&name.as_str()),
            "{name} of a session of layers: networks have {like}: {there}"
        );
    }
}
