//! Proofs about the shaders that need no GPU: every kernel of every cell parses, validates and translates, and the Rust side
//! (kernel table, `Dims`, CPU twins) says the same as the WGSL.

#[path = "harness/translate.rs"]
mod translate;

use naga::valid::ModuleInfo;
use naga::{AddressSpace, GlobalVariable, Module, StorageAccess, TypeInner};
use std::collections::BTreeSet;
use std::mem::offset_of;
use std::path::{Path, PathBuf};
use translate::parse;
use wgpu_rnn::kernels::{Access, ChooseKernel, Kernel, StateKernel, Variant, source};
use wgpu_rnn::{
    Activation, ActivationFormat, Caps, DeviceClass, Dims, Direction, Dropout, Error, Options, Plan, Recurrence, Reset,
    RnnConfig, Shape, Step, Strategy, WeightFormat, Zoneout, cells,
};

fn webgpu_caps() -> Caps {
    Caps { f16: true, ..Caps::webgpu() }
}

/// Every cell, direction and, of the LSTMs of one cell state, projection, for the given hidden sizes.
fn configs(hidden: &[usize]) -> Vec<RnnConfig> {
    let mut list = Vec::new();
    for cell in cells::ALL {
        for &hidden_size in hidden {
            for (direction, recurrence) in [
                (Direction::Forward, Recurrence::Dense),
                (Direction::Bidirectional, Recurrence::Dense),
                (Direction::Forward, Recurrence::Diagonal),
            ] {
                for proj_size in [0, hidden_size / 2] {
                    if proj_size == 0 || cell.cell_states() == 1 {
                        list.push(RnnConfig {
                            cell,
                            input_size: 3,
                            hidden_size,
                            direction,
                            proj_size,
                            recurrence,
                            ..Default::default()
                        });
                    }
                }
            }
        }
    }
    list.retain(|config| config.validate().is_ok());
    list
}

/// Runs `check` on every kernel and stage of every configuration, keeping what training needs and not, dropping and not, whether
/// or not a plan would use it.
fn for_every_source(hidden: &[usize], check: impl FnMut(Kernel, &str, &Module, &ModuleInfo)) {
    for_every_source_of(configs(hidden), &Kernel::ALL, check);
}

fn for_every_source_of(
    configs: Vec<RnnConfig>,
    kernels: &[Kernel],
    mut check: impl FnMut(Kernel, &str, &Module, &ModuleInfo),
) {
    let mut count = 0;
    for config in configs {
        let shape = Shape { time: 3, batch: 1000 };
        let tiles = Plan::new(&config, shape, &webgpu_caps(), &Options::default()).expect("a small plan").tiles;
        for &kernel in kernels {
            let stages = if kernel.is_per_stage() { config.stages().len() } else { 1 };
            // Without y only in training, where no plan of these tests asks for it otherwise.
            let variants = |s: usize| {
                [
                    (s, false, true, 0.0, None, WeightFormat::F32, ActivationFormat::F32),
                    (s, true, true, 0.0, None, WeightFormat::F32, ActivationFormat::F32),
                    (s, false, true, 0.1, Some(Reset::Zero), WeightFormat::F32, ActivationFormat::F32),
                    (s, true, false, 0.1, Some(Reset::Initial), WeightFormat::F32, ActivationFormat::F32),
                ]
                .into_iter()
                .chain(
                    in_fewer_bits(kernel).map(move |format| (s, false, true, 0.0, None, format, ActivationFormat::F32)),
                )
                .chain(
                    in_halves(kernel)
                        .map(move |half| (s, false, true, 0.1, Some(Reset::Zero), WeightFormat::F32, half)),
                )
            };
            for (stage, train, write_y, p, resets, weights, activations) in (0..stages).flat_map(variants) {
                let dropout = Dropout { layers: p, input: p, recurrent: p };
                let zoneout = Zoneout { hidden: p, cell: if config.cell.cell_states() == 1 { p } else { 0.0 } };
                let config = RnnConfig { dropout, zoneout, ..config.clone() };
                let label = format!(
                    "{} stage {stage} of {} H={} P={} {:?} train={train} y={write_y} dropout={p} resets={resets:?} weights={weights}{}",
                    kernel.name(),
                    config.cell.name,
                    config.hidden_size,
                    config.proj_size,
                    config.direction,
                    if activations == ActivationFormat::F16 { HALVES } else { "" }
                );
                let variant =
                    Variant { kernel, stage, tiles, train, write_y, head: false, resets, weights, activations };
                let (module, info) = parse(&source(&config, &variant), &label);
                check(kernel, &label, &module, &info);
                count += 1;
            }
        }
    }
    println!("{count} shaders");
    assert!(count > 0);
}

/// The other formats of weights, for kernels that read or make them.
fn in_fewer_bits(kernel: Kernel) -> impl Iterator<Item = WeightFormat> {
    let concerned = kernel == Kernel::Pack || kernel.bindings().iter().any(|b| b.0 == "weights");
    WeightFormat::ALL.into_iter().filter(move |&format| concerned && format != WeightFormat::F32)
}

/// Activations in f16, for kernels that read or write them.
fn in_halves(kernel: Kernel) -> impl Iterator<Item = ActivationFormat> {
    kernel.has_activations().then_some(ActivationFormat::F16).into_iter()
}

/// What the label of a source ends with whose activations are f16.
const HALVES: &str = " activations=f16";

/// What naga cannot express, as (target, kernel, part of its message): an entry that starts to work fails the test.
const EXCEPTIONS: [(&str, Kernel, &str); 0] = [];
/// The same of every kernel with activations in f16: GLSL has no such type (and a device of that backend no such feature).
const GLSL_HALVES: &str = "A scalar with an unsupported width was requested: Scalar { kind: Float, width: 2 }";

fn translates_to_every_language(kernel: Kernel, label: &str, module: &Module, info: &ModuleInfo) {
    let mutable: Vec<bool> = kernel.bindings().iter().map(|(_, access)| *access == Access::ReadWrite).collect();
    let results = translate::to_every_language(module, info, &mutable);
    for (target, result) in results {
        let half = (target.starts_with("glsl") && label.ends_with(HALVES)).then_some(&GLSL_HALVES);
        let exception = EXCEPTIONS.iter().find(|e| e.0 == target && e.1 == kernel).map(|e| &e.2).or(half);
        match (exception, result) {
            (None, Err(reason)) => panic!("{label} to {target}: {reason}"),
            (Some(_), Ok(())) => panic!("{label} to {target} works now: strike it off EXCEPTIONS"),
            (Some(e), Err(reason)) => assert!(reason.contains(e), "{label} to {target}: {reason}"),
            (None, Ok(())) => {}
        }
    }
}

/// Storage types cost nothing where activations are f32: the same SPIR-V as if no kernel named them.
#[test]
fn activations_in_f32_are_the_code_without_storage_types() {
    let words = |text: &str, label: &str| {
        let (module, info) = parse(text, label);
        naga::back::spv::write_vec(&module, &info, &Default::default(), None).unwrap_or_else(|e| panic!("{label}: {e}"))
    };
    let mut changed = 0;
    for config in configs(&[5, 64]) {
        let shape = Shape { time: 3, batch: 9 };
        let tiles = Plan::new(&config, shape, &webgpu_caps(), &Options::default()).expect("a small plan").tiles;
        for kernel in Kernel::ALL.into_iter().filter(|k| k.has_activations()) {
            for stage in 0..if kernel.is_per_stage() { config.stages().len() } else { 1 } {
                let (weights, activations) = (WeightFormat::F32, ActivationFormat::F32);
                let (train, write_y, head, resets) = (false, true, false, None);
                let variant = Variant { kernel, stage, tiles, train, write_y, head, resets, weights, activations };
                let text = source(&config, &variant);
                let plain = text
                    .replace("alias act = real;\nalias gate = real;\n", "")
                    .replace("array<act>", "array<real>")
                    .replace("array<gate>", "array<real>")
                    .replace("array<vec4<act>>", "array<vec4<real>>")
                    .replace("= act(", "= (")
                    .replace("= gate(", "= (")
                    .replace("real(pre[", "(pre[")
                    .replace("vec4<real>(x[", "(x[")
                    .replace("real(x[", "(x[");
                let label = format!("{} stage {stage} of {}", kernel.name(), config.cell.name);
                let names = |name: &str| plain.contains(&format!(" {name}(")) || plain.contains(&format!("({name}("));
                assert!(!names("act") && !names("gate"), "{label}");
                changed += usize::from(plain != text);
                assert!(words(&plain, &label) == words(&text, &label), "{label}");
            }
        }
    }
    assert!(changed > 0);
}

#[test]
fn every_shader_of_every_cell_translates_to_every_language() {
    for_every_source(&[1, 5, 64], translates_to_every_language);
}

/// Kernels for software rasterisers, with rows of whole vec4s and without: WARP takes HLSL. Where lanes load together, only llvmpipe's
/// language counts.
#[test]
fn kernels_of_software_rasterisers_translate_to_every_language() {
    let kernels = [
        Kernel::ProjectVec4,
        Kernel::ProjectScalar,
        Kernel::StepForward,
        Kernel::SequenceForward,
        Kernel::StepBackward,
        Kernel::SequenceBackward,
        Kernel::InputBackward,
        Kernel::WeightBackwardInput,
        Kernel::WeightBackwardRecurrent,
    ];
    let (mut fours, mut lanes) = (0, 0);
    for (config, subgroup) in configs(&[5, 64]).into_iter().flat_map(|config| [(config.clone(), 1), (config, 8)]) {
        let config = RnnConfig { input_size: config.hidden_size, ..config };
        let strategy = Some(Strategy::Sequence);
        let options = Options { kernels: Some(DeviceClass::SoftwareGpu), strategy, ..Default::default() };
        let caps = Caps { subgroup, ..webgpu_caps() };
        let tiles = Plan::new(&config, Shape { time: 3, batch: 1000 }, &caps, &options).expect("a plan").tiles;
        fours += usize::from(tiles.fours);
        for kernel in kernels {
            for stage in 0..if kernel.is_per_stage() { config.stages().len() } else { 1 } {
                let (weights, activations) = (WeightFormat::F32, ActivationFormat::F32);
                let (train, write_y, head, resets) = (true, true, false, None);
                let variant = Variant { kernel, stage, tiles, train, write_y, head, resets, weights, activations };
                let label = format!(
                    "{} stage {stage} of {} H={} subgroup={subgroup}",
                    kernel.name(),
                    config.cell.name,
                    config.hidden_size
                );
                let text = source(&config, &variant);
                let (module, info) = parse(&text, &label);
                if text.contains("subgroupBroadcast(") {
                    lanes += 1;
                    let words = naga::back::spv::write_vec(&module, &info, &naga::back::spv::Options::default(), None);
                    assert!(words.is_ok(), "{label}: {words:?}");
                } else {
                    translates_to_every_language(kernel, &label, &module, &info);
                }
            }
        }
    }
    assert!(fours > 0 && lanes > 0, "{fours} {lanes}");
}

/// What each activation, per direction and clipped or not, and each option of a cell makes of the kernels that call it.
#[test]
fn every_variant_of_every_cell_translates_to_every_language() {
    let activations = [
        Activation::Affine { alpha: -0.5, beta: 0.1 },
        Activation::LEAKY_RELU,
        Activation::THRESHOLDED_RELU,
        Activation::ScaledTanh { alpha: 1.7159, beta: 0.66667 },
        Activation::HARD_SIGMOID,
        Activation::ELU,
        Activation::Softsign,
        Activation::Softplus,
    ];
    let mut configs = Vec::new();
    for cell in cells::ALL {
        let lstm = !cell.options.is_empty();
        let own = RnnConfig { cell, input_size: 3, hidden_size: 5, ..Default::default() };
        let count = cell.activations.len();
        for first in (0..activations.len()).step_by(count) {
            let set = |d: usize| (0..count).map(move |n| activations[(first + d * 3 + n) % activations.len()]);
            let clip = (first % 2 == 0).then_some(f32::MAX / 2.0);
            configs.push(RnnConfig { activations: set(0).collect(), clip, ..own.clone() });
            let (direction, activations) = (Direction::Bidirectional, set(0).chain(set(1)).collect());
            let cell_clip = lstm.then_some(1e-3);
            configs.push(RnnConfig {
                activations,
                direction,
                clip: Some(1.5),
                cell_clip,
                input_forget: lstm,
                ..own.clone()
            });
        }
    }
    let kernels = Kernel::ALL.into_iter().filter(|k| k.calls_cell()).collect::<Vec<_>>();
    assert_eq!(kernels.len(), 10);
    for_every_source_of(configs, &kernels, translates_to_every_language);
}

fn is_resource(variable: &GlobalVariable) -> bool {
    !matches!(variable.space, AddressSpace::Private | AddressSpace::WorkGroup)
}

#[test]
fn the_kernel_table_is_what_the_shaders_declare() {
    for_every_source(&[5], |kernel, label, module, _| {
        let mut declared: Vec<_> = module
            .global_variables
            .iter()
            .filter(|(_, v)| is_resource(v))
            .map(|(_, v)| {
                let at = v.binding.unwrap_or_else(|| panic!("{label}: {:?} has no binding", v.name));
                assert_eq!(at.group, 0, "{label}: {:?}", v.name);
                (at.binding, v.name.clone().unwrap_or_default(), v.space)
            })
            .collect();
        declared.sort_by_key(|d| d.0);
        let table: Vec<_> = kernel
            .bindings()
            .iter()
            .enumerate()
            .map(|(n, (name, access))| {
                let space = match access {
                    Access::Uniform => AddressSpace::Uniform,
                    Access::Read => AddressSpace::Storage { access: StorageAccess::LOAD },
                    Access::ReadWrite => AddressSpace::Storage { access: StorageAccess::LOAD | StorageAccess::STORE },
                };
                (n as u32, name.to_string(), space)
            })
            .collect();
        assert_eq!(table, declared, "{label}");
        let storage = kernel.bindings().iter().filter(|b| b.1 != Access::Uniform).count();
        assert!(storage <= 8, "{label}: {storage} storage buffers");
        let names: Vec<_> = module.entry_points.iter().map(|e| e.name.as_str()).collect();
        assert_eq!(names, ["main"], "{label}");
    });
}

#[test]
fn the_uniform_blocks_are_laid_out_as_in_rust() {
    assert_eq!(size_of::<Dims>(), 72);
    let rust = [
        ("batch", offset_of!(Dims, batch)),
        ("time", offset_of!(Dims, time)),
        ("layer", offset_of!(Dims, layer)),
        ("first", offset_of!(Dims, first)),
        ("end", offset_of!(Dims, end)),
        ("pre_rows", offset_of!(Dims, pre_rows)),
        ("input_size", offset_of!(Dims, input_size)),
        ("segment", offset_of!(Dims, segment)),
        ("segment_end", offset_of!(Dims, segment_end)),
        ("direction", offset_of!(Dims, direction)),
        ("checkpoint", offset_of!(Dims, checkpoint)),
        ("alternating", offset_of!(Dims, alternating)),
        ("accumulate", offset_of!(Dims, accumulate)),
        ("chunk", offset_of!(Dims, chunk)),
        ("plane", offset_of!(Dims, plane)),
        ("planes", offset_of!(Dims, planes)),
        ("weights_plane", offset_of!(Dims, weights_plane)),
        ("input_rows", offset_of!(Dims, input_rows)),
    ];
    for_every_source(&[5], |_, label, module, _| {
        for (_, variable) in module.global_variables.iter().filter(|(_, v)| v.space == AddressSpace::Uniform) {
            let ty = &module.types[variable.ty];
            let TypeInner::Struct { members, span } = &ty.inner else { panic!("{label}: {:?} is no struct", ty.name) };
            let shader: Vec<_> =
                members.iter().map(|m| (m.name.as_deref().unwrap_or_default(), m.offset as usize)).collect();
            for member in members {
                let u32_type = TypeInner::Scalar(naga::Scalar::U32);
                assert_eq!(module.types[member.ty].inner, u32_type, "{label}: {:?}", member.name);
            }
            match variable.name.as_deref() {
                Some("dims") => assert_eq!((shader.as_slice(), *span), (&rust[..], 72), "{label}"),
                // The executor writes one u32 per step.
                Some("step") => assert_eq!((shader.as_slice(), *span), (&[("index", 0)][..], 4), "{label}"),
                other => panic!("{label}: unknown uniform {other:?}"),
            }
        }
    });
}

/// Invocations and bytes of workgroup memory of a module's only entry point.
fn workgroup(module: &Module, label: &str) -> (u32, u32) {
    let mut layouter = naga::proc::Layouter::default();
    layouter.update(module.to_ctx()).unwrap_or_else(|e| panic!("{label}: {e}"));
    let shared = module.global_variables.iter().filter(|(_, v)| v.space == AddressSpace::WorkGroup);
    (module.entry_points[0].workgroup_size.iter().product(), shared.map(|(_, v)| layouter[v.ty].size).sum())
}

#[test]
fn plans_for_webgpus_default_limits_keep_within_256_invocations_and_16_kib() {
    let caps = webgpu_caps();
    assert_eq!((caps.max_invocations, caps.max_workgroup_memory), (256, 16384), "WebGPU's defaults");
    let (mut most, mut refused) = ((0, 0), Vec::new());
    for config in configs(&[1, 17, 63, 64, 65, 128, 129, 256, 300]) {
        for strategy in [Strategy::Step, Strategy::Sequence] {
            for (batch, train) in [(1, false), (2000, false), (1, true), (2000, true)] {
                let options = Options { strategy: Some(strategy), train, ..Default::default() };
                let plan = match Plan::new(&config, Shape { time: 2, batch }, &caps, &options) {
                    Err(Error::Unsupported { .. }) if strategy == Strategy::Sequence => {
                        refused.push(config.hidden_size);
                        continue;
                    }
                    plan => plan.expect("a plan of this size"),
                };
                let dispatches = plan.steps.iter().chain(&plan.backward).chain(&plan.update).flat_map(|s| match s {
                    Step::ClearPadding(_) => &[][..],
                    Step::Once(d) => std::slice::from_ref(d),
                    Step::EachStep(_, body) | Step::EachStepBack(_, body) => body,
                });
                for d in dispatches {
                    let label = format!("{} of\n{plan}", d.kernel.name());
                    let variant = Variant {
                        kernel: d.kernel,
                        stage: d.stage,
                        tiles: plan.tiles,
                        train,
                        write_y: d.write_y,
                        head: d.head,
                        resets: None,
                        weights: WeightFormat::F32,
                        activations: ActivationFormat::F32,
                    };
                    let (module, _) = parse(&source(&config, &variant), &label);
                    let (invocations, bytes) = workgroup(&module, &label);
                    assert!(invocations <= 256, "{invocations} invocations: {label}");
                    assert!(bytes <= 16384, "{bytes} bytes of workgroup memory: {label}");
                    most = (most.0.max(invocations), most.1.max(bytes));
                }
            }
        }
    }
    println!("at most {} invocations, {} bytes", most.0, most.1);
    assert!(most.1 > 0, "a kernel with workgroup memory was seen");
    refused.dedup();
    assert!(refused.iter().all(|&h| h == 300), "sequence must fit up to H = 256, refused {refused:?}");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = root().join(folder);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut list: Vec<_> = entries.map(|e| e.expect("a folder entry").path()).collect();
    list.sort();
    list
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Whether `text` calls a function of exactly this name.
fn calls(text: &str, name: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(name)
        .any(|(at, _)| !text[..at].ends_with(part_of_name) && text[at + name.len()..].trim_start().starts_with('('))
}

#[test]
fn only_math_and_expr_wgsl_call_tanh_or_exp() {
    assert!(calls("a = tanh (x)", "tanh") && !calls("safe_tanh(x)", "tanh") && !calls("exp2(x)", "exp"));
    let folders = ["shaders/lib", "shaders/cells", "shaders/kernels", "shaders/network"];
    let shaders: Vec<_> = folders.into_iter().flat_map(files).collect();
    let theirs = ["math", "expr"].map(|name| root().join(format!("shaders/lib/{name}.wgsl")));
    assert!(theirs.iter().all(|path| shaders.contains(path)));
    for path in shaders.iter().filter(|p| !theirs.contains(p)) {
        for (n, line) in read(path).lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for name in ["tanh", "exp", "exp2", "sinh", "cosh", "pow"] {
                assert!(
                    !calls(code, name),
                    "{}:{}: {name} belongs into lib/math.wgsl or lib/expr.wgsl",
                    path.display(),
                    n + 1
                );
            }
        }
    }
}

/// Kernels whose CPU twin has another name, and why.
const OTHER_TWINS: [(&str, &str, &str); 1] = [(
    "step_normalise",
    "step_forward",
    "the CPU twin of a stage takes the product from a slot where the stage normalises",
)];

#[test]
fn every_kernel_is_one_shader_file_with_one_cpu_twin() {
    let pieces = [
        "sequence_stage",
        "sequence_normalise",
        "sequence_backward_stage",
        "sequence_normalise_backward",
        "project_tile",
        "input_backward_tile",
        "weight_backward_tile",
        "weight_backward_fours",
    ];
    let stem = |p: &PathBuf| p.file_stem().expect("a name").to_string_lossy().into_owned();
    let shaders: BTreeSet<_> = files("shaders/kernels").iter().map(stem).collect();
    assert!(pieces.iter().all(|p| shaders.contains(*p)), "{shaders:?}");
    let shaders: BTreeSet<_> = shaders.into_iter().filter(|s| !pieces.contains(&s.as_str())).collect();
    let kernels: BTreeSet<_> = Kernel::ALL.iter().map(|k| k.name().to_string()).collect();
    assert_eq!(shaders, kernels);

    let cpu: String = files("src/exec/cpu").iter().filter(|p| p.is_file()).map(|p| read(p)).collect();
    let defined = |name: &str| cpu.contains(&format!("fn {name}<")) || cpu.contains(&format!("fn {name}("));
    for kernel in &kernels {
        match OTHER_TWINS.iter().find(|t| t.0 == kernel) {
            None => assert!(defined(kernel), "src/exec/cpu has no fn {kernel}"),
            Some((_, twin, reason)) => {
                assert!(defined(twin), "src/exec/cpu has no fn {twin} ({reason})");
                assert!(!defined(kernel), "src/exec/cpu has fn {kernel} now: strike it off OTHER_TWINS");
            }
        }
    }
}

#[test]
fn every_cell_is_ordered_and_fits_the_executors_registers() {
    for cell in cells::ALL {
        assert!(!cell.stages.is_empty(), "{}", cell.name);
        assert!(cell.states.len() <= 8 && cell.params.len() <= 8, "{}", cell.name);
        for (n, stage) in cell.stages.iter().enumerate() {
            assert!(stage.is_ordered(), "{} stage {n}", cell.name);
            assert!((1..=4).contains(&stage.recurrent_gates()), "{} stage {n}", cell.name);
            assert!(stage.gates.len() <= 8, "{} stage {n}", cell.name);
            for half in ["forward", "backward"] {
                assert!(cell.wgsl.contains(&format!("fn {half}_{n}(")), "{} stage {n}: no {half}", cell.name);
            }
        }
    }
    let names: BTreeSet<_> = cells::ALL.iter().map(|c| c.name).collect();
    assert_eq!(names.len(), cells::ALL.len(), "names are unique");
    assert!(cells::ALL.iter().all(|c| cells::by_name(c.name).is_some_and(|found| std::ptr::eq(found, *c))));
}

/// The kernels between a pool's slots and a batch: their files, their bindings, and every language.
/// The names of a folder's shaders, but for what they share.
fn shader_files(folder: &str) -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders").join(folder);
    let files = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let names = files.map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned());
    names.filter(|name| !name.starts_with("common")).collect()
}

/// A kernel whose text is whole binds what its table says, and translates.
fn assert_bound(name: &str, text: &str, bindings: &[(&str, Access)]) {
    let (module, info) = parse(text, name);
    let mut bound = 0;
    for (_, variable) in module.global_variables.iter() {
        let Some(binding) = &variable.binding else { continue };
        let (of_table, access) = bindings[binding.binding as usize];
        assert_eq!((variable.name.as_deref(), binding.group), (Some(of_table), 0), "{name}");
        let AddressSpace::Storage { access: told } = variable.space else { panic!("{of_table} is no storage") };
        assert_eq!(told.contains(StorageAccess::STORE), access == Access::ReadWrite, "{of_table}");
        bound += 1;
    }
    assert_eq!(bound, bindings.len(), "{name}");
    let mutable: Vec<bool> = bindings.iter().map(|(_, access)| *access == Access::ReadWrite).collect();
    for (target, result) in translate::to_every_language(&module, &info, &mutable) {
        assert_eq!(result, Ok(()), "{name} as {target}");
    }
}

#[test]
fn kernels_of_pools_are_those_of_their_table() {
    assert_eq!(shader_files("pool"), StateKernel::ALL.iter().map(|kernel| kernel.name().to_string()).collect());
    for kernel in StateKernel::ALL {
        assert_bound(kernel.name(), kernel.text(), &kernel.bindings());
    }
}

#[test]
fn kernels_of_decoders_are_those_of_their_table() {
    assert_eq!(shader_files("decode"), ChooseKernel::ALL.iter().map(|kernel| kernel.name().to_string()).collect());
    for kernel in ChooseKernel::ALL {
        assert_bound(kernel.name(), &kernel.text(), kernel.bindings());
    }
}
