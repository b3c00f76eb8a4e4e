//! Measurements as JSON.
//!
//! ```text
//! { "format": 1, "records": [
//!   { "adapter": "..", "driver": "..", "version": "0.1.0", "config": "lstm I=64 ..", "strategy": "step" },
//!   { "adapter": "..", "driver": "..", "version": "0.1.0", "config": "lstm I=64 ..", "strategy": "step", "mode": "F32 ..",
//!     "time": 128, "batch": 16, "tile": 8, "back_units": 1, "project": [4, 8], "weight": [8, 4], "input": 4,
//!     "block": null, "ratio": 0.83 } ] }
//! ```
//!
//! The reader takes nothing else: every field, of its type, within its bounds.

use crate::error::{Error, Result};
use crate::model::stack::Shape;
use crate::plan::Strategy;
use crate::plan::tuning::{Choice, Finding, Machine, Record, TileChoice};
use serde_json::{Map, Value, json};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

const FORMAT: u64 = 1;
/// A file longer than this holds no measurements of ours.
const MAX_BYTES: u64 = 4 << 20;
/// Steps, sequences and blocks beyond this are no plan's.
const MAX_COUNT: u64 = 1 << 30;

/// The records of a file.
pub(super) fn read(path: &Path) -> Result<Vec<Record>> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|e| Error::file(path, e))?;
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(|e| Error::file(path, e))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(Error::file(path, format!("longer than {MAX_BYTES} bytes: no file of measurements")));
    }
    let value = serde_json::from_str(&text).map_err(|e| Error::file(path, e))?;
    records(&value).map_err(|reason| Error::file(path, reason))
}

type Parsed<T> = std::result::Result<T, String>;

fn records(value: &Value) -> Parsed<Vec<Record>> {
    let top = Object::of(value, "the file")?;
    let format = top.number("format", u64::MAX)?;
    if format != FORMAT {
        return Err(format!("format {format}, this version reads {FORMAT}"));
    }
    let list = top.get("records")?.as_array().ok_or("records: expected a list")?;
    list.iter().enumerate().map(|(n, value)| record(value).map_err(|e| format!("record {n}: {e}"))).collect()
}

fn record(value: &Value) -> Parsed<Record> {
    let o = Object::of(value, "it")?;
    let machine = Machine { adapter: o.text("adapter")?, driver: o.text("driver")?, version: o.text("version")? };
    let strategy = match o.text("strategy")?.as_str() {
        "step" => Strategy::Step,
        "sequence" => Strategy::Sequence,
        other => return Err(format!("strategy: expected step or sequence, got {other:?}")),
    };
    let finding = if o.0.contains_key("mode") { shape(&o, strategy)? } else { Finding::Strategy(strategy) };
    Ok(Record { machine, config: o.text("config")?, finding })
}

fn shape(o: &Object<'_>, strategy: Strategy) -> Parsed<Finding> {
    let tiles = TileChoice {
        tile: o.size("tile")?,
        back_units: o.size("back_units")?,
        project: o.pair("project")?,
        weight: o.pair("weight")?,
        input: o.size("input")?,
    };
    tiles.validate().map_err(|e| e.to_string())?;
    let block = if o.get("block")?.is_null() { None } else { Some(o.size("block")?) };
    let ratio = o.get("ratio")?.as_f64().filter(|r| r.is_finite() && *r > 0.0);
    let choice = Choice { tiles, block, ratio: ratio.ok_or("ratio: expected a number above 0")? };
    let shape = Shape { time: o.size("time")?, batch: o.size("batch")? };
    Ok(Finding::Shape { shape, mode: o.text("mode")?, strategy, choice })
}

/// An object whose fields must be there.
struct Object<'a>(&'a Map<String, Value>);

impl<'a> Object<'a> {
    fn of(value: &'a Value, what: &str) -> Parsed<Self> {
        value.as_object().map(Self).ok_or_else(|| format!("{what}: expected an object"))
    }

    fn get(&self, name: &str) -> Parsed<&'a Value> {
        self.0.get(name).ok_or_else(|| format!("{name} is missing"))
    }

    fn text(&self, name: &str) -> Parsed<String> {
        self.get(name)?.as_str().map(str::to_string).ok_or_else(|| format!("{name}: expected text"))
    }

    fn number(&self, name: &str, most: u64) -> Parsed<u64> {
        number(self.get(name)?, most).ok_or_else(|| format!("{name}: expected a whole number in 1..={most}"))
    }

    fn size(&self, name: &str) -> Parsed<usize> {
        self.number(name, MAX_COUNT).map(|n| n as usize)
    }

    fn pair(&self, name: &str) -> Parsed<(usize, usize)> {
        let list = self.get(name)?.as_array().map_or(&[][..], Vec::as_slice);
        let sizes: Option<Vec<u64>> = list.iter().map(|n| number(n, MAX_COUNT)).collect();
        match sizes.as_deref() {
            Some(&[a, b]) => Ok((a as usize, b as usize)),
            _ => Err(format!("{name}: expected two whole numbers")),
        }
    }
}

fn number(value: &Value, most: u64) -> Option<u64> {
    value.as_u64().filter(|n| (1..=most).contains(n))
}

fn as_json(record: &Record) -> Value {
    let Machine { adapter, driver, version } = &record.machine;
    let (Finding::Strategy(strategy) | Finding::Shape { strategy, .. }) = &record.finding;
    let mut value = json!({
        "adapter": adapter, "driver": driver, "version": version, "config": record.config, "strategy": strategy.to_string(),
    });
    if let Finding::Shape { shape, mode, choice: Choice { tiles, block, ratio }, .. } = &record.finding {
        let more = json!({
            "mode": mode, "time": shape.time, "batch": shape.batch, "tile": tiles.tile, "back_units": tiles.back_units,
            "project": [tiles.project.0, tiles.project.1], "weight": [tiles.weight.0, tiles.weight.1],
            "input": tiles.input, "block": block, "ratio": ratio,
        });
        if let (Some(value), Some(more)) = (value.as_object_mut(), more.as_object()) {
            value.extend(more.clone());
        }
    }
    value
}

/// Writes a file of its own beside `path`, which then takes its place.
pub(super) fn write(path: &Path, records: &[Record]) -> Result<()> {
    let list: Vec<Value> = records.iter().map(as_json).collect();
    let text = format!("{:#}\n", json!({ "format": FORMAT, "records": list }));
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).map_err(|e| Error::file(path, e))?;
    }
    let own = beside(path);
    let written = std::fs::File::create(&own)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&own, path));
    written.map_err(|e| {
        // What is left of it is no one's.
        drop(std::fs::remove_file(&own));
        Error::file(path, e)
    })
}

/// A name that no other thread or process writes to.
fn beside(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    // The web has neither processes nor files; asking for the number would panic there.
    let process = if cfg!(target_family = "wasm") { 0 } else { std::process::id() };
    // std's hashers have keys of chance.
    let chance = RandomState::new().hash_one(count) as u32;
    name.push(format!(".{process}.{count}.{chance:08x}"));
    path.with_file_name(name)
}
