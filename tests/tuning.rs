//! What was measured on a device: the file that keeps it, and what plans make of it.

use proptest::prelude::{any, prop, prop_assert, proptest};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use wgpu_rnn::*;

mod harness;
use harness::{Case, forced, gpu};

/// No tile of which is the table's.
const CHOICE: Choice = Choice {
    tiles: TileChoice { tile: 2, back_units: 2, project: (2, 4), weight: (4, 2), input: 2 },
    block: Some(5),
    ratio: 0.75,
};

fn config() -> RnnConfig {
    RnnConfig { cell: &cells::LSTM, input_size: 5, hidden_size: 9, ..Default::default() }
}

const SHAPE: Shape = Shape { time: 13, batch: 3 };

fn training(strategy: Strategy) -> Options {
    Options { train: true, ..forced(strategy) }
}

/// Both strategies of inference and training.
fn tuned(device: &Device, choice: Choice) -> Tuning {
    let mut tuning = Tuning::new(device);
    for strategy in [Strategy::Step, Strategy::Sequence] {
        for options in [forced(strategy), training(strategy)] {
            tuning.set(&config(), SHAPE, &options, strategy, choice).unwrap();
        }
    }
    tuning
}

fn with(tuning: Tuning, options: Options) -> Options {
    Options { tuning: Some(Arc::new(tuning)), ..options }
}

fn plan(device: &Device, shape: Shape, options: &Options) -> Plan {
    Plan::new(&config(), shape, &device.caps(), options).unwrap()
}

fn refusal(path: &Path) -> String {
    match Tuning::load(path, &Device::cpu()) {
        Err(e @ Error::File { .. }) => e.to_string(),
        other => panic!("expected Error::File, got {other:?}"),
    }
}

/// A file that holds something, in a directory that must live as long as it does.
fn stored() -> (tempfile::TempDir, PathBuf, Tuning) {
    let directory = tempfile::tempdir().unwrap();
    // Directories on the way are made.
    let path = directory.path().join("a/b/tuning.json");
    let mut tuning = tuned(&Device::cpu(), CHOICE);
    tuning.set_strategy(&config(), Strategy::Step);
    tuning.store(&path).unwrap();
    (directory, path, tuning)
}

#[test]
fn what_is_stored_is_what_is_loaded() {
    let (_directory, path, tuning) = stored();
    let loaded = Tuning::load(&path, &Device::cpu()).unwrap();
    assert_eq!(loaded, tuning);
    assert_eq!(loaded.counts(), (5, 0));
    assert_eq!(loaded.choice(&config(), SHAPE, &Options::default(), Strategy::Step), Some(&CHOICE));
    assert_eq!(loaded.strategy(&config()), Some(Strategy::Step));
    // A class of shapes: T and B up to the next powers of two; nothing beyond, and no other configuration.
    let class = [(9, 3, true), (16, 4, true), (17, 4, false), (16, 5, false), (8, 3, false)];
    for (time, batch, known) in class {
        let choice = loaded.choice(&config(), Shape { time, batch }, &Options::default(), Strategy::Step);
        assert_eq!(choice.is_some(), known, "T={time} B={batch}");
    }
    let other = RnnConfig { hidden_size: 10, ..config() };
    assert_eq!(loaded.choice(&other, SHAPE, &Options::default(), Strategy::Step), None);
    assert_eq!(loaded.strategy(&other), None);
    let f16 = Options { weights: WeightFormat::F16, ..Default::default() };
    assert_eq!(loaded.choice(&config(), SHAPE, &f16, Strategy::Step), None);
}

/// Storing keeps what others stored, and replaces what was known of the same.
#[test]
fn stores_add_up() {
    let (directory, path, tuning) = stored();
    let mut other = Tuning::new(&Device::cpu());
    let longer = Shape { time: 1000, batch: 3 };
    other.set(&config(), longer, &Options::default(), Strategy::Step, CHOICE).unwrap();
    let better = Choice { block: None, ratio: 0.5, ..CHOICE };
    other.set(&config(), SHAPE, &Options::default(), Strategy::Step, better).unwrap();
    other.store(&path).unwrap();
    let loaded = Tuning::load(&path, &Device::cpu()).unwrap();
    assert_eq!(loaded.counts(), (tuning.counts().0 + 1, 0));
    assert_eq!(loaded.choice(&config(), SHAPE, &Options::default(), Strategy::Step), Some(&better));
    assert_eq!(loaded.choice(&config(), SHAPE, &Options::default(), Strategy::Sequence), Some(&CHOICE));
    // A broken file is replaced.
    let broken = directory.path().join("broken.json");
    std::fs::write(&broken, "{").unwrap();
    tuning.store(&broken).unwrap();
    assert_eq!(Tuning::load(&broken, &Device::cpu()).unwrap(), tuning);
}

#[test]
fn broken_files_are_refused_with_a_reason() {
    let (directory, path, _) = stored();
    let text = std::fs::read_to_string(&path).unwrap();
    let wrong = directory.path().join("wrong.json");
    let mutations = [
        ("\"format\": 1", "\"format\": 2", "format 2, this version reads 1"),
        ("\"format\": 1", "\"format\": -1", "format: expected a whole number"),
        ("\"records\"", "\"record\"", "records is missing"),
        ("\"strategy\": \"step\"", "\"strategy\": \"scan\"", "strategy: expected step or sequence"),
        ("\"strategy\": \"step\"", "\"strategy\": 3", "strategy: expected text"),
        ("\"tile\": 2", "\"tile\": 0", "tile: expected a whole number"),
        ("\"tile\": 2", "\"tile\": 3", "size of a tile: expected one of [1, 2, 4, 8, 16], got 3"),
        ("\"tile\": 2", "\"tile\": 1073741824", "size of a tile"),
        ("\"tile\": 2", "\"tile\": 18446744073709551615", "tile: expected a whole number"),
        ("\"tile\": 2", "\"tile\": 1e300", "tile: expected a whole number"),
        ("\"tile\": 2", "\"tile\": null", "tile: expected a whole number"),
        ("\"input\": 2", "\"output\": 2", "input is missing"),
        ("\"ratio\": 0.75", "\"ratio\": -1", "ratio: expected a number above 0"),
        ("\"ratio\": 0.75", "\"ratio\": \"fast\"", "ratio: expected a number above 0"),
        ("\"block\": 5", "\"block\": 0", "block: expected a whole number"),
        ("\"block\": 5", "\"block\": 99999999999", "block: expected a whole number"),
        ("\"time\": 16", "\"time\": [16]", "time: expected a whole number"),
        ("\"adapter\": ", "\"adapter\": 1, \"other\": ", "adapter: expected text"),
    ];
    for (from, to, reason) in mutations {
        assert!(text.contains(from), "{from} is not in {text}");
        std::fs::write(&wrong, text.replacen(from, to, 1)).unwrap();
        assert!(refusal(&wrong).contains(reason), "{to}: {}", refusal(&wrong));
    }
    let pairs = text.replace(['\n', ' '], "").replacen("\"project\":[2,4]", "\"project\":[2,4,8]", 1);
    std::fs::write(&wrong, pairs).unwrap();
    assert!(refusal(&wrong).contains("project: expected two whole numbers"));
    for whole in
        ["", "null", "[]", "3", "\u{feff}{}", "{\"format\":1,\"records\":{}}", "{\"format\":1,\"records\":[1]}"]
    {
        std::fs::write(&wrong, whole).unwrap();
        refusal(&wrong);
    }
    std::fs::write(&wrong, [0xff; 100]).unwrap();
    refusal(&wrong);
    std::fs::write(&wrong, "[".repeat(100_000)).unwrap();
    refusal(&wrong);
    std::fs::write(&wrong, " ".repeat((4 << 20) + 1)).unwrap();
    assert!(refusal(&wrong).contains("longer than"));
    refusal(directory.path());
    refusal(&directory.path().join("missing.json"));
    // What was written half is not there.
    for end in 0..text.trim_end().len() {
        std::fs::write(&wrong, &text[..end]).unwrap();
        refusal(&wrong);
    }
}

proptest! {
    /// Whatever bytes are wrong: an error, or measurements that a plan can be made of.
    #[test]
    fn no_file_breaks_a_plan(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let (directory, path, _) = stored();
        let mut bytes = std::fs::read(&path).unwrap();
        for (at, byte) in &changes {
            *at.get_mut(&mut bytes) = *byte;
        }
        let wrong = directory.path().join("wrong.json");
        std::fs::write(&wrong, bytes).unwrap();
        if let Ok(tuning) = Tuning::load(&wrong, &Device::cpu()) {
            let plan = plan(&Device::cpu(), SHAPE, &with(tuning, Options { train: true, ..Default::default() }));
            prop_assert!(plan.block >= 1);
        }
    }
}

/// Records of another adapter, driver or version stay in the file and are not used.
#[test]
fn records_of_other_machines_are_kept_and_not_used() {
    let (directory, path, tuning) = stored();
    let text = std::fs::read_to_string(&path).unwrap();
    let own = [
        ("\"adapter\": \"", "\"adapter\": \"another "),
        ("\"driver\": \"", "\"driver\": \"another "),
        ("\"version\": \"", "\"version\": \"9."),
    ];
    for (from, to) in own {
        let other = directory.path().join("other.json");
        std::fs::write(&other, text.replace(from, to)).unwrap();
        let loaded = Tuning::load(&other, &Device::cpu()).unwrap();
        assert_eq!(loaded.counts(), (0, 5), "{to}");
        let plan = plan(&Device::cpu(), SHAPE, &with(loaded, Options::default()));
        let table =
            Choices { strategy: Origin::Table, tiles: Origin::Table, block: Origin::Table, refused: Vec::new() };
        assert_eq!(plan.choices, table, "{to}");
        tuning.store(&other).unwrap();
        assert_eq!(Tuning::load(&other, &Device::cpu()).unwrap().counts(), (5, 5), "{to}");
    }
}

#[test]
fn concurrent_writers_leave_a_whole_file() {
    let (directory, path, tuning) = stored();
    std::thread::scope(|scope| {
        for writer in 1..=4 {
            let (path, mut own) = (&path, tuning.clone());
            scope.spawn(move || {
                for n in 0..20 {
                    let shape = Shape { time: 1 << n, batch: writer };
                    own.set(&config(), shape, &Options::default(), Strategy::Step, CHOICE).unwrap();
                    own.store(path).unwrap();
                    Tuning::load(path, &Device::cpu()).unwrap();
                }
            });
        }
    });
    // The last one wrote at least all of its own; one of them is of a class that was there.
    assert!(Tuning::load(&path, &Device::cpu()).unwrap().counts().0 >= 4 + 20);
    let left: Vec<_> = std::fs::read_dir(directory.path().join("a/b")).unwrap().map(|f| f.unwrap().path()).collect();
    assert_eq!(left, [path]);
}

#[test]
fn a_measured_choice_changes_the_plan_and_not_one_bit() {
    let case = Case::new(config(), SHAPE.time, SHAPE.batch, 3).with_lengths(&[13, 7, 11]);
    for device in [Device::cpu(), gpu()] {
        for strategy in [Strategy::Step, Strategy::Sequence] {
            let tuning = tuned(&device, CHOICE);
            // Nothing measured: the table. (Without a tuning the harness takes tiles of its own.)
            let mut table: Session = case.training(&device, with(Tuning::new(&device), training(strategy)));
            let mut fast: Session = case.training(&device, with(tuning, training(strategy)));
            let (from, to) = (table.plan(), fast.plan());
            assert_eq!((from.choices.tiles, from.choices.block), (Origin::Table, Origin::Table));
            assert_eq!((to.choices.tiles, to.choices.block), (Origin::Cache, Origin::Cache));
            assert_eq!(to.choices.strategy, Origin::Forced);
            assert_eq!((TileChoice::of(&to.tiles), to.block), (CHOICE.tiles, 5), "{to}");
            assert!(from.tiles != to.tiles && from.block != to.block && from.steps != to.steps, "{to}");
            assert!(
                to.to_string().contains("\nchoices: strategy forced, tiles from cache, block from cache\n"),
                "{to}"
            );
            assert_eq!(case.poisoned(&mut table), case.poisoned(&mut fast), "{device} {strategy}");
        }
    }
}

#[test]
fn a_measured_strategy_holds_in_all_shapes_and_the_caller_goes_before_it() {
    for device in [Device::cpu(), gpu()] {
        let table = plan(&device, SHAPE, &Options::default());
        assert_eq!((table.strategy, table.choices.strategy), (Strategy::Sequence, Origin::Table));
        let mut tuning = Tuning::new(&device);
        tuning.set_strategy(&config(), Strategy::Step);
        for shape in [SHAPE, Shape { time: 1, batch: 1 }, Shape { time: 700, batch: 33 }] {
            let p = plan(&device, shape, &with(tuning.clone(), Options::default()));
            assert_eq!((p.strategy, p.choices.strategy), (Strategy::Step, Origin::Cache), "{p}");
            assert!(p.to_string().contains("choices: strategy from cache, tiles from table"), "{p}");
            let p = plan(&device, shape, &with(tuning.clone(), forced(Strategy::Sequence)));
            assert_eq!((p.strategy, p.choices.strategy), (Strategy::Sequence, Origin::Forced), "{p}");
        }
        let options = with(tuned(&device, CHOICE), Options { max_block: Some(3), ..Default::default() });
        assert_eq!(
            (plan(&device, SHAPE, &options).block, plan(&device, SHAPE, &options).choices.block),
            (3, Origin::Forced)
        );
        // A session for another shape stays with what it began with.
        let case = Case::new(config(), SHAPE.time, SHAPE.batch, 4);
        let first = plan(&device, SHAPE, &with(tuning, Options::default()));
        let first = Session::from_plan(&device, first, &case.weights).unwrap();
        let sibling = first.for_shape(Shape { time: 2, batch: 5 }).unwrap();
        assert_eq!((sibling.plan().strategy, sibling.plan().choices.strategy), (Strategy::Step, Origin::Cache));
    }
}

/// What a file says but the device cannot do is told, and the table stands in for it.
#[test]
fn what_does_not_fit_is_told() {
    let device = gpu();
    // 16 sequences of 250 units do not fit the workgroup memory of WebGPU's defaults.
    let wide = RnnConfig { hidden_size: 250, ..config() };
    let caps = Caps { max_workgroup_memory: 16384, max_invocations: 256, ..device.caps() };
    let sixteen = Choice { tiles: TileChoice { tile: 16, ..CHOICE.tiles }, block: Some(1), ..CHOICE };
    let long = Shape { time: 1 << 21, batch: 1 };
    for (shape, what) in [(SHAPE, "tiles of 16 sequences"), (long, "blocks of 1 steps")] {
        let mut tuning = Tuning::new(&device);
        tuning.set(&wide, shape, &forced(Strategy::Sequence), Strategy::Sequence, sixteen).unwrap();
        let options = with(tuning, Options { keep_y: false, ..forced(Strategy::Sequence) });
        let p = Plan::new(&RnnConfig { input_size: 1, ..wide.clone() }, shape, &caps, &options).unwrap();
        assert!(p.choices.refused.is_empty(), "another configuration: {}", p.choices);
        let small = RnnConfig { input_size: 5, ..wide.clone() };
        let p = Plan::new(&small, shape, &caps, &options).unwrap();
        assert_eq!(p.choices.tiles, Origin::Table, "{}", p.choices);
        assert!(p.choices.to_string().contains(&format!("; measured but refused: {what}")), "{}", p.choices);
    }
    // A strategy too.
    let mut tuning = Tuning::new(&device);
    tuning.set_strategy(&RnnConfig { hidden_size: 300, ..config() }, Strategy::Sequence);
    let p = Plan::new(&RnnConfig { hidden_size: 300, ..config() }, SHAPE, &caps, &with(tuning, Options::default()));
    let p = p.unwrap();
    assert_eq!((p.strategy, p.choices.strategy), (Strategy::Step, Origin::Table));
    assert!(p.choices.to_string().contains("refused: strategy sequence: it needs"), "{}", p.choices);
    let wrong = Choice { block: Some(0), ..CHOICE };
    let refused = Tuning::new(&device).set(&config(), SHAPE, &Options::default(), Strategy::Step, wrong);
    assert!(matches!(refused, Err(Error::Mismatch { .. })));
}
