//! Rows of a table by their numbers. A row's gradient is a sum over the rows that read it: each is linked to the next that read the
//! same, and the first adds up all of them, in order, so that no two lanes add to one value.

use super::Dispatches;
use crate::model::network::Embedding;
use crate::plan::network::kernel::Kernel;
use crate::plan::network::program::Build;

const EMBEDDING: &str = include_str!("../../../../shaders/network/embedding.wgsl");
const FORWARD: &str = include_str!("../../../../shaders/network/embedding_forward.wgsl");
const LINKS: &str = include_str!("../../../../shaders/network/embedding_links.wgsl");
const BACKWARD: &str = include_str!("../../../../shaders/network/embedding_backward.wgsl");

/// Rows that are linked to one another, and that one dispatch adds up: every row looks through those of its block. The next dispatch
/// goes on from what the one before it left, so the bits do not depend on it.
const BLOCK: usize = 1 << 12;

impl Dispatches for Embedding {
    fn forward(&self, n: usize, build: &mut Build<'_>) {
        let width = build.width(build.plan.network.nodes[n].value);
        let kernel = build.embedding_kernel(self, "network.embedding", FORWARD, build.rows() * width);
        let kernel = kernel.size("WIDTH", width).word("table", build.param(Some(self.table)));
        build.push(kernel.word("y", build.made(n)));
    }

    fn backward(&self, n: usize, build: &mut Build<'_>) {
        let (rows, width) = (build.rows(), build.width(build.plan.network.nodes[n].value));
        let links = build.take(2 * rows);
        let block = BLOCK.min(rows);
        let kernel = build.embedding_kernel(self, "network.embedding_links", LINKS, rows);
        build.push(kernel.word("block", block).word("to", links).rounds(block));
        let to = build.d_param(self.table);
        for first in (0..rows).step_by(block) {
            let items = block.min(rows - first) * width;
            let kernel = build.embedding_kernel(self, "network.embedding_backward", BACKWARD, items);
            let kernel = kernel.size("WIDTH", width).word("first", first).word("links", links).word("to", to);
            build.push(kernel.word("dy", build.d_made(n)).rounds(block));
        }
    }
}

impl Build<'_> {
    fn embedding_kernel(&self, of: &Embedding, name: &'static str, body: &'static str, items: usize) -> Kernel {
        Kernel::new(name, &[EMBEDDING, body], items)
            .size("VOCABULARY", self.plan.network.params[of.table].shape[0])
            .size("IDS_STRIDE", self.width(of.ids.value))
            .word("ids", self.part(of.ids))
    }
}
