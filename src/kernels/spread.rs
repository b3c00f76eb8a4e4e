//! How workgroups of matrix kernels lie over a matrix; the twin of `shaders/lib/spread.wgsl`.

/// Workgroups of `width` lanes over rows of `columns` values, `tile` of them to a lane: where a row needs fewer lanes than there
/// are, the others take further rows of tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spread {
    /// Workgroups along a row.
    pub groups: usize,
    /// Rows of tiles per workgroup.
    pub rows: usize,
}

impl Spread {
    pub fn new(columns: usize, tile: usize, width: usize) -> Self {
        let tiles = columns.div_ceil(tile);
        let groups = tiles.div_ceil(width);
        Self { groups, rows: width / tiles.div_ceil(groups) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shader's arithmetic, lane by lane: every tile of every row has one lane.
    #[test]
    fn every_value_belongs_to_one_lane() {
        for (columns, tile, width) in [(1, 4, 64), (65, 4, 64), (256, 4, 64), (257, 4, 64), (513, 4, 64), (300, 1, 32)]
        {
            let spread = Spread::new(columns, tile, width);
            let step = columns.div_ceil(tile).div_ceil(spread.groups);
            let mut seen = vec![0; columns * 7];
            for group in 0..spread.groups * 7_usize.div_ceil(spread.rows) {
                let (x, y) = (group % spread.groups, group / spread.groups);
                for lane in 0..width {
                    let (column, row) = (x * step * tile + lane % step, y * spread.rows + lane / step);
                    for c in (0..tile).map(|c| column + c * step) {
                        if lane / step < spread.rows && row < 7 && c < columns {
                            seen[row * columns + c] += 1;
                        }
                    }
                }
            }
            assert!(seen.iter().all(|&n| n == 1), "{columns} {tile} {width}: {seen:?}");
        }
    }
}
