//! `wgpu-rnn run`, on the goldens and on files that do not fit.

use super::{command, complaint, printed, stderr, stdout, top};
use npyz::WriterBuilder;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use wgpu_rnn::{Layout, Tensor, View};
use wgpu_rnn_formats::npy;
use wgpu_rnn_verify::{Case, Golden, Layers, Truth, tolerance};

/// A golden, its arrays as `.npy`, and where a run's results go.
struct Fixture {
    path: PathBuf,
    golden: Layers,
    truths: Vec<Truth>,
    dir: TempDir,
}

impl Fixture {
    fn new(name: &str) -> Self {
        let path = top("tests/data/torch_golden").join(format!("{name}.safetensors"));
        let Golden { case: Case::Layers(golden), truths, .. } = Golden::open(&path).unwrap() else {
            panic!("{name} is no golden of a stack");
        };
        let fixture = Self { path, golden, truths, dir: tempfile::tempdir().unwrap() };
        let Layers { x, h0, c0, .. } = &fixture.golden;
        for (name, tensor) in [("x", Some(x)), ("h0", h0.as_ref()), ("c0", c0.as_ref())] {
            if let Some(tensor) = tensor {
                write_f64(&fixture.file(name), tensor);
            }
        }
        fixture
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.npy"))
    }

    /// `run` on x with the weights and nothing else.
    fn bare(&self, flags: &str) -> Command {
        let mut run = command(&format!("run --cell {} --prefix w. {flags}", self.golden.config.cell.name));
        run.arg("--weights").arg(&self.path);
        run.arg("--input").arg(self.file("x")).arg("--output").arg(self.file("y"));
        run
    }

    /// `run` with everything the golden has.
    fn whole(&self, flags: &str) -> Command {
        let mut run = self.bare(flags);
        run.arg("--hn").arg(self.file("hn"));
        if self.golden.config.layout == Layout::BatchFirst {
            run.arg("--batch-first");
        }
        if let Some(lengths) = &self.golden.lengths {
            run.arg("--lengths").arg(lengths.iter().map(usize::to_string).collect::<Vec<_>>().join(","));
        }
        for (flag, name, there) in [
            ("--h0", "h0", self.golden.h0.is_some()),
            ("--c0", "c0", self.golden.c0.is_some()),
            ("--cn", "cn", self.golden.config.cell.has_cell_state()),
        ] {
            if there {
                run.arg(flag).arg(self.file(name));
            }
        }
        run
    }

    /// Every recorded result against the file that the run wrote, within the calibrated bound.
    fn check(&self, what: &str) {
        let exact = self.golden.naive::<f64>().unwrap();
        let rounded = self.golden.naive::<f32>().unwrap();
        let widen = |t: &Tensor<f32>| t.data.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
        let mut naive = HashMap::from([
            ("y", tolerance::error(&widen(&rounded.y), &exact.y.data)),
            ("hn", tolerance::error(&widen(&rounded.hn), &exact.hn.data)),
        ]);
        if let (Some(r), Some(e)) = (&rounded.cn, &exact.cn) {
            naive.insert("cn", tolerance::error(&widen(r), &e.data));
        }
        let outputs = self.truths.iter().filter_map(|t| t.name.strip_prefix("out.").map(|name| (name, t)));
        let outputs: Vec<_> = outputs.filter(|(name, _)| *name != "loss").collect();
        assert_eq!(outputs.len(), naive.len());
        for (name, truth) in outputs {
            let got = npy::read::<f32>(self.file(name)).unwrap();
            assert_eq!(got.shape, truth.tensor.shape, "{what}: {name}");
            let error = tolerance::error(&widen(&got), &truth.tensor.data);
            let bound = tolerance::bound_f32(tolerance::scale(&truth.tensor.data), naive[name]);
            assert!(error <= bound, "{what}: {name} is off by {error:e}, bound {bound:e}");
        }
    }
}

fn write_f64(path: &Path, tensor: &Tensor<f64>) {
    let shape: Vec<u64> = tensor.shape.iter().map(|&d| d as u64).collect();
    let file = std::fs::File::create(path).unwrap();
    let mut npy = npyz::WriteOptions::new().default_dtype().shape(&shape).writer(file).begin_nd().unwrap();
    npy.extend(&tensor.data).unwrap();
    npy.finish().unwrap();
}

#[test]
fn run_reproduces_every_golden() {
    let folder = std::fs::read_dir(top("tests/data/torch_golden")).unwrap().map(|entry| entry.unwrap().path());
    let layers = folder.filter(|path| matches!(Golden::open(path).unwrap().case, Case::Layers(_)));
    let names: Vec<_> = layers.map(|path| path.file_stem().unwrap().to_str().unwrap().to_string()).collect();
    assert!(names.len() >= 26);
    for name in names {
        let fixture = Fixture::new(&name);
        printed(fixture.whole("--device cpu"));
        fixture.check(&name);
    }
}

#[test]
fn run_says_where_it_ran() {
    for device in ["cpu", "gpu"] {
        for strategy in ["step", "sequence"] {
            for name in ["lstm_l2_bi_proj_packed", "gru_l3_bf_packed", "lstm_l1_unbatched"] {
                let fixture = Fixture::new(name);
                let output = fixture.whole(&format!("--device {device} --strategy {strategy}")).output().unwrap();
                assert!(output.status.success(), "{}", stderr(&output));
                assert_eq!(stdout(&output), "");
                let text = stderr(&output);
                // Mesa may complain on stderr before it.
                assert!(text.lines().any(|l| l.starts_with("device: ")), "{text}");
                assert!(text.contains(&format!("; strategy: {strategy} (forced)\n")), "{text}");
                assert_eq!(text.contains("CPU executor"), device == "cpu", "{text}");
                fixture.check(&format!("{name} {device} {strategy}"));
            }
        }
    }
}

#[test]
fn run_takes_f32_input_and_no_prefix() {
    let fixture = Fixture::new("gru_l1_nobias_nostate");
    let x: Vec<f32> = fixture.golden.x.data.iter().map(|&v| v as f32).collect();
    npy::write(fixture.file("x"), View::new(&x, &fixture.golden.x.shape)).unwrap();
    printed(fixture.whole("--device cpu"));
    fixture.check("f32 input");

    // The same tensors without "w." in front.
    let bytes = std::fs::read(&fixture.path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let bare = file.iter().filter_map(|(name, view)| Some((name.strip_prefix("w.")?.to_string(), view)));
    let path = fixture.dir.path().join("bare.safetensors");
    std::fs::write(&path, safetensors::serialize(bare, None).unwrap()).unwrap();
    let mut run = command("run --cell gru --device cpu");
    run.arg("--weights").arg(path).arg("--input").arg(fixture.file("x"));
    printed({
        run.arg("--output").arg(fixture.file("y")).arg("--hn").arg(fixture.file("hn"));
        run
    });
    fixture.check("no prefix");
}

/// `error: …` on one line, with every path of the fixture's folder shown as `DIR`.
fn reason(fixture: &Fixture, run: Command) -> String {
    let text = complaint(run).replace(fixture.dir.path().to_str().unwrap(), "DIR");
    let lines: Vec<_> = text.lines().filter(|l| !l.starts_with("device: ")).collect();
    assert_eq!(lines.len(), 1, "{text}");
    lines[0].strip_prefix("error: ").expect(&text).to_string()
}

/// What this system says of a file that is not there.
fn no_such_file() -> String {
    std::fs::read("no-such-file").unwrap_err().to_string()
}

#[test]
fn run_refuses_inputs_that_do_not_fit() {
    let lstm = Fixture::new("lstm_l1"); // T = 6, B = 3, I = 5, H = 7
    let gru = Fixture::new("gru_l1");
    let write = |fixture: &Fixture, name: &str, shape: &[usize]| {
        npy::write(fixture.file(name), View::new(&vec![0.0; shape.iter().product()], shape)).unwrap();
    };
    let with = |fixture: &Fixture, flag: &str, name: &str| {
        let mut run = fixture.bare("--device cpu");
        run.arg(flag).arg(fixture.file(name));
        run
    };
    for (lengths, message) in [
        ("6,8,1", "lengths[1]: expected 0..=6, got 8"),
        ("6,1,7", "lengths[2]: expected 0..=6, got 7"),
        ("6,1", "lengths: expected [B] = [3], got [2]"),
    ] {
        assert_eq!(reason(&lstm, lstm.bare(&format!("--device cpu --lengths {lengths}"))), message);
    }
    write(&lstm, "s", &[1, 3, 6]);
    assert_eq!(reason(&lstm, with(&lstm, "--h0", "s")), "h0: expected [L·D, B, P] = [1, 3, 7], got [1, 3, 6]");
    assert_eq!(reason(&lstm, with(&lstm, "--c0", "s")), "c0: expected [L·D, B, H] = [1, 3, 7], got [1, 3, 6]");
    write(&gru, "s", &[1, 3, 7]);
    assert_eq!(reason(&gru, with(&gru, "--c0", "s")), "c0: expected none (gru has no cell state), got [1, 3, 7]");
    assert_eq!(reason(&gru, with(&gru, "--cn", "cn")), "--cn: expected none (gru has no cell state), got DIR/cn.npy");
    assert_eq!(reason(&gru, with(&gru, "--h0", "none")), format!("DIR/none.npy: {}", no_such_file()));

    for (shape, flags, message) in [
        (&[7, 3, 4][..], "", "x: expected [T, B, I] = [7, 3, 5], got [7, 3, 4]"),
        (&[7, 3, 4], "--batch-first", "x: expected [B, T, I] = [7, 3, 5], got [7, 3, 4]"),
        (&[7, 4], "", "x: expected [T, I] = [7, 5], got [7, 4]"),
        (&[5], "", "x: expected [T, B, 5] or [T, 5], got [5]"),
        (&[1, 2, 3, 5], "--batch-first", "x: expected [B, T, 5] or [T, 5], got [1, 2, 3, 5]"),
        (&[7, 0, 5], "", "batch: expected 1..=1073741824, got 0"),
    ] {
        write(&lstm, "x", shape);
        assert_eq!(reason(&lstm, lstm.bare(&format!("--device cpu {flags}"))), message);
    }
    // No results of a refused run.
    assert!(!lstm.file("y").exists() && !gru.file("y").exists());
}

#[test]
fn run_refuses_files_that_do_not_fit() {
    let lstm = Fixture::new("lstm_l1");
    let header =
        |descr: &str, order: &str| format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': (6, 5), }}");
    for (header, bytes, message) in [
        (
            header("<f4", "True"),
            120,
            "DIR/x.npy: fortran_order: expected False, got True (save numpy.ascontiguousarray(x))",
        ),
        (header("<i8", "False"), 240, "DIR/x.npy: dtype: expected '<f4', '<f8' or '<f2', got '<i8'"),
        (header("<f4", "False"), 100, "DIR/x.npy: data: expected 120 bytes for '<f4' [6, 5], got 100"),
    ] {
        let length = (header.len() as u16).to_le_bytes();
        let file = [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), &vec![0; bytes]].concat();
        std::fs::write(lstm.file("x"), file).unwrap();
        assert_eq!(reason(&lstm, lstm.bare("--device cpu")), message);
    }

    let run = |cell: &str, prefix: &str, weights: &Path| {
        let mut run = command(&format!("run --cell {cell} --prefix {prefix} --output unused.npy"));
        run.arg("--weights").arg(weights).arg("--input").arg(lstm.file("x"));
        run
    };
    let golden = "tests/data/torch_golden/lstm_l1.safetensors";
    let cases = [
        (
            run("lstm", "v.", Path::new(golden)),
            format!(
                "{golden}: v.weight_ih_l0: expected a matrix, got none (did you mean one of the prefixes \"grad.\", \"w.\"?)"
            ),
        ),
        (
            run("gru", "w.", Path::new(golden)),
            format!(
                "{golden}: w.weight_ih_l0: expected [3·H, I] for gru, got [28, 5] \
                 (the shapes fit lstm or slstm with hidden_size 7)"
            ),
        ),
        (
            run("rnn-tanh", "w.", Path::new(golden)),
            format!(
                "{golden}: w.weight_hh_l0: expected [1·H, H] = [28, 28] for rnn-tanh with weight_ih_l0 [28, 5], \
                 got [28, 7] (the shapes fit lstm or slstm with hidden_size 7)"
            ),
        ),
        (run("lstm", "w.", &lstm.file("none")), format!("DIR/none.npy: {}", no_such_file())),
    ];
    for (run, message) in cases {
        assert_eq!(reason(&lstm, run), message);
    }
    let text = reason(&lstm, run("lstm", "w.", &lstm.file("x")));
    assert!(text.starts_with("DIR/x.npy: not safetensors: this is a NumPy .npy file"), "{text}");
}

/// A network with a tensor too many or too few must not run as a smaller one.
#[test]
fn run_refuses_networks_with_gaps() {
    let fixture = Fixture::new("gru_l2_bi");
    let bytes = std::fs::read(&fixture.path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let path = fixture.dir.path().join("gap.safetensors");
    for (gap, message) in [
        (
            "w.weight_ih_l1",
            "w.bias_hh_l1: expected none, for the other tensors make a network without it \
             (gru, layers: 1, Bidirectional, bias Two), got one",
        ),
        (
            "w.weight_ih_l0_reverse",
            "w.bias_hh_l0_reverse: expected none, for the other tensors make a network without it \
             (gru, layers: 2, Forward, bias Two), got one",
        ),
        (
            "w.bias_ih_l0",
            "w.bias_ih_l0_reverse: expected none, for the other tensors make a network without it \
             (gru, layers: 2, Bidirectional, bias Recurrent), got one",
        ),
        ("w.weight_hh_l1_reverse", "w.weight_hh_l1_reverse: expected a tensor of shape [15, 5], got none"),
    ] {
        let rest = file.iter().filter(|(name, _)| *name != gap);
        std::fs::write(&path, safetensors::serialize(rest, None).unwrap()).unwrap();
        let mut run = command("run --cell gru --prefix w. --device cpu --output unused.npy");
        run.arg("--weights").arg(&path).arg("--input").arg(fixture.file("x"));
        assert_eq!(reason(&fixture, run), format!("DIR/gap.safetensors: {message}"));
    }
}
