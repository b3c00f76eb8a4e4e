//! What the hot block of a kernel's machine code consists of.

/// Instructions of one basic block, by kind.
#[derive(Clone, Debug, Default)]
pub struct Mix {
    /// All of them.
    pub all: usize,
    /// Multiply-adds.
    pub fma: usize,
    /// Loads and stores of buffers by vector instructions.
    pub vector_memory: usize,
    /// Loads by scalar instructions.
    pub scalar_memory: usize,
    /// Loads and stores of workgroup memory.
    pub shared_memory: usize,
    /// Other vector instructions.
    pub vector: usize,
}

impl Mix {
    /// Multiply-adds among them, in percent.
    pub fn share(&self) -> usize {
        100 * self.fma / self.all.max(1)
    }

    fn of(block: &[&str]) -> Self {
        let count = |starts: &[&str]| block.iter().filter(|i| starts.iter().any(|s| i.starts_with(s))).count();
        let fma = count(&["v_fma", "v_pk_fma", "v_mac", "v_mad_f", "v_mad_mix", "v_dot", "v_dual_fma", "v_wmma"]);
        Self {
            all: block.len(),
            fma,
            vector_memory: count(&["buffer_", "global_", "flat_", "image_", "scratch_"]),
            scalar_memory: count(&["s_load", "s_buffer"]),
            shared_memory: count(&["ds_"]),
            vector: count(&["v_"]) - fma,
        }
    }
}

/// The block with the most multiply-adds, ten times as many for every loop around it; of a kernel without any, of the first one.
pub fn hot_block(assembly: &str) -> Mix {
    let mut blocks: Vec<(&str, Vec<&str>)> = vec![("", Vec::new())];
    let mut branches = Vec::new();
    for line in assembly.lines() {
        if line.starts_with("BB") {
            blocks.push((line.trim().trim_end_matches(':'), Vec::new()));
        } else if let Some(instruction) = line.split_whitespace().next().filter(|i| i.contains('_')) {
            let here = blocks.len() - 1;
            blocks[here].1.push(instruction);
            if instruction.contains("branch") {
                branches.extend(line.split_whitespace().nth(1).map(|label| (here, label)));
            }
        }
    }
    // A branch back closes a loop.
    let place = |label: &str| blocks.iter().position(|b| b.0 == label);
    let mut loops: Vec<_> = branches.iter().filter_map(|&(end, to)| Some((place(to)?, end))).collect();
    loops.retain(|(start, end)| start <= end);
    loops.sort_unstable();
    loops.dedup_by_key(|l| l.0);
    let depth = |n: usize| loops.iter().filter(|&&(start, end)| start <= n && n <= end).count();
    let mixes = blocks.iter().enumerate().map(|(n, block)| (depth(n), Mix::of(&block.1)));
    mixes.rev().max_by_key(|(depth, mix)| mix.fma * 10_usize.pow(*depth as u32)).map_or(Mix::default(), |m| m.1)
}
