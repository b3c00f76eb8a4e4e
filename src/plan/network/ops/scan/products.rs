//! Chunks as matrix products: the parallel form of rules whose states are matrices, forward and for the gradients of the state.
//!
//! ```text
//! factors  d, a, b, k, q of every step                            edges    reads of the state before a chunk; what is left of it
//! pairs    (q_t ∘ decays between) · k_s, and with a, b            solve    u = Sᵀa by substitution: from nothing, and by the state
//! sums     N = Σ (decayed k) vᵀ + (decayed b) uᵀ, and M           carry    S = M S + N from chunk to chunk
//! outputs  y_t = (decayed q) S + Σ_{s ≤ t} pairs[t, s] v_s + …
//! ```
//!
//! The chunkwise form of gated linear attention (Yang et al. 2023, arXiv 2312.06635) and of the delta rule (Yang et al. 2024, arXiv
//! 2406.06484, its WY form), for any rule of [`crate::rule`]; but decays are multiplied step by step and never divided by, so that
//! those of 0 are exact. Λ on the way back obeys the same recurrence with a and b, k and q, v and dy exchanged, from the last step
//! to the first: the same kernels with BACK. A window of chunks at a time, so that scratch does not grow with T.

use super::{carry_rounds, cut};
use crate::model::network::ScanShape;
use crate::plan::network::kernel::Kernel;
use crate::plan::network::program::Build;

macro_rules! with_blocks {
    ($file:literal) => {
        concat!(include_str!("../../../../../shaders/network/products.wgsl"), include_str!($file))
    };
}

const FACTORS: &str = with_blocks!("../../../../../shaders/network/products_factors.wgsl");
const PAIRS: &str = with_blocks!("../../../../../shaders/network/products_pairs.wgsl");
const EDGES: &str = with_blocks!("../../../../../shaders/network/products_edges.wgsl");
const TILE: &str = with_blocks!("../../../../../shaders/network/products_tile.wgsl");
pub(super) const GIVE: &str = with_blocks!("../../../../../shaders/network/products_give.wgsl");

/// `PRODUCT` of `products_tile.wgsl`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Product {
    Solve,
    Sums,
    Corrections,
    Outputs,
}

/// Rows of a state that `products_pairs` keeps in registers at a time: of more a compiler makes memory.
const ROWS: usize = 64;

/// Scratch of a window of chunks, by the names of its words.
pub(super) struct Blocks {
    /// Which way.
    back: bool,
    /// Chunks of a window, and windows.
    pub window: usize,
    pub windows: usize,
    /// Its first chunk.
    first: usize,
    /// How many it has.
    pub chunks: usize,
    places: Vec<(&'static str, usize)>,
}

/// Blocks that only rules with a correction have.
const OF_CORRECTIONS: [&str; 7] =
    ["crossing", "corrects", "corrections", "reads_corrects", "crossing_writes", "crossing_corrects", "left"];

impl Blocks {
    /// Where the blocks of a name begin, where there are such.
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.places.iter().find(|(n, _)| *n == name).map(|(_, at)| *at)
    }
}

impl Build<'_> {
    /// Elements of scratch per block, by the names of their words.
    fn block_places(&self, shape: &ScanShape, back: bool) -> Vec<(&'static str, usize)> {
        let chunk = self.plan.chunk(shape);
        let (factors, values, pairs) = (chunk * shape.key_size, chunk * shape.columns(), chunk * chunk);
        let mut places = vec![
            ("decays", factors),
            ("reads", factors),
            ("writes", factors),
            ("values", values),
            ("reads_writes", pairs),
            ("summary", self.summary_len(shape, 1) / (self.plan.shape.batch * shape.heads)),
        ];
        if shape.form().erase.is_some() {
            places.extend([("crossing", factors), ("corrects", factors), ("corrections", values)]);
            places.extend([("reads_corrects", pairs), ("crossing_writes", pairs), ("crossing_corrects", pairs)]);
            places.push(("left", shape.key_size));
        }
        if back {
            places.push(("y", values));
        }
        places
    }

    /// Takes the scratch of as many chunks as fit [`crate::model::network::NetworkOptions::window_bytes`], at least one.
    pub(super) fn take_blocks(&mut self, shape: &ScanShape, back: bool) -> Blocks {
        let (places, chunks) = (self.block_places(shape, back), self.plan.chunks(shape));
        let each: usize = self.plan.shape.batch * shape.heads;
        let bytes = 4 * each as u64 * places.iter().map(|(_, len)| *len as u64).sum::<u64>();
        let fit = (self.plan.options.window_bytes / bytes.max(1)) as usize;
        let window = cut(chunks, carry_rounds(shape)).0.min(fit).clamp(1, chunks);
        let places = places.into_iter().map(|(name, len)| (name, self.take(window * each * len))).collect();
        Blocks { back, window, windows: chunks.div_ceil(window), first: 0, chunks: 0, places }
    }

    /// Everything of one window up to what its chunks do to any state.
    pub(super) fn sum_blocks(
        &mut self,
        n: usize,
        shape: &ScanShape,
        blocks: &mut Blocks,
        window: usize,
        dy: Option<usize>,
    ) {
        let (chunk, erase) = (self.plan.chunk(shape), shape.form().erase.is_some());
        blocks.first = window * blocks.window;
        blocks.chunks = blocks.window.min(self.plan.chunks(shape) - blocks.first);
        let width = shape.key_size.max(shape.columns());
        let kernel = self.block_kernel(n, shape, blocks, ("network.products_factors", FACTORS), chunk * width);
        self.push(kernel.size("WIDTH", width).word("dy", dy));
        let streams = if erase { 2 } else { 1 };
        let kernel = self.block_kernel(n, shape, blocks, ("network.products_pairs", PAIRS), streams * chunk);
        let through = shape.form().through.is_some();
        let parts = shape.key_size.div_ceil(ROWS);
        let kernel = kernel.flag("THROUGH", through).size("PART", shape.key_size.div_ceil(parts));
        self.push(kernel.rounds(pair_rounds(shape, chunk)));
        let kernel = self.block_kernel(n, shape, blocks, ("network.products_edges", EDGES), shape.key_size);
        self.push(kernel.rounds(chunk));
        if erase {
            self.tiles(n, shape, blocks, Product::Solve, (None, None));
        }
        self.tiles(n, shape, blocks, Product::Sums, (None, None));
    }

    /// What the steps of a window read, from the states before its chunks, which are at `kept`; `u`: where those of corrections
    /// are kept by row, `y`: where what is read goes by row (BACK: by block).
    pub(super) fn read_blocks(
        &mut self,
        n: usize,
        shape: &ScanShape,
        blocks: &Blocks,
        kept: Option<usize>,
        (u, y): (Option<usize>, Option<usize>),
    ) {
        if shape.form().erase.is_some() {
            let kernel = self.tile_kernel(n, shape, blocks, Product::Corrections, kept);
            self.push(kernel.flag("KEPT", u.is_some()).word("u", u).without("y"));
        }
        self.tiles(n, shape, blocks, Product::Outputs, (kept, y));
    }

    fn tiles(
        &mut self,
        n: usize,
        shape: &ScanShape,
        blocks: &Blocks,
        product: Product,
        (kept, y): (Option<usize>, Option<usize>),
    ) {
        let kernel = self.tile_kernel(n, shape, blocks, product, kept);
        self.push(kernel.flag("KEPT", false).without("u").word("y", y));
    }

    fn tile_kernel(
        &self,
        n: usize,
        shape: &ScanShape,
        blocks: &Blocks,
        product: Product,
        kept: Option<usize>,
    ) -> Kernel {
        let (chunk, fours) = (self.plan.chunk(shape), |size: usize| size.div_ceil(4));
        let virtual_fours = if shape.form().erase.is_some() { fours(shape.key_size) } else { 0 };
        let tiles = match product {
            Product::Solve => fours(shape.columns()) + virtual_fours,
            Product::Sums => fours(shape.key_size) * (fours(shape.columns()) + virtual_fours),
            Product::Corrections | Product::Outputs => fours(chunk) * fours(shape.columns()),
        };
        self.block_kernel(n, shape, blocks, ("network.products_tile", TILE), tiles)
            .size("PRODUCT", product as usize)
            .word("tiles", tiles)
            .rounds(if product == Product::Solve { chunk * (chunk + 32) } else { shape.key_size + 3 * chunk + 32 })
            .word("kept", kept)
    }

    /// A kernel of so many lanes a block.
    pub(super) fn block_kernel(
        &self,
        n: usize,
        shape: &ScanShape,
        blocks: &Blocks,
        kernel: (&'static str, &'static str),
        each: usize,
    ) -> Kernel {
        let items = blocks.chunks * self.plan.shape.batch * shape.heads * each;
        let kernel = self.scan_kernel(n, shape, kernel, items);
        let kernel = kernel.flag("BACK", blocks.back);
        let kernel = kernel.word("first", blocks.first).word("summary_first", blocks.first);
        let none = OF_CORRECTIONS.iter().filter(|_| shape.form().erase.is_none()).map(|name| (*name, None));
        let places = blocks.places.iter().map(|(name, at)| (*name, Some(*at)));
        places.chain(none).fold(kernel, |kernel, (name, at)| kernel.offer(name, at))
    }
}

/// Rounds of loops of a lane in `products_pairs`.
pub(in crate::plan::network) fn pair_rounds(shape: &ScanShape, chunk: usize) -> usize {
    let parts = shape.key_size.div_ceil(ROWS);
    chunk.saturating_add(3).saturating_mul(shape.key_size.saturating_add(2 * parts))
}
