//! What a pool counts and times.

use std::fmt;
use std::time::Duration;

/// How numbers are spread: exact up to 32, above that to a sixteenth. A fixed amount of memory, however many there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spread {
    counts: Vec<u64>,
    total: u64,
    largest: u64,
}

/// Parts of an octave.
const PARTS: u32 = 4;

impl Default for Spread {
    fn default() -> Self {
        Self { counts: vec![0; ((64 - PARTS as usize + 1) << PARTS) + 1], total: 0, largest: 0 }
    }
}

impl Spread {
    /// Takes a number `count` times.
    #[inline]
    pub fn add(&mut self, value: u64, count: u64) {
        self.counts[Self::place(value)] += count;
        self.total += count;
        self.largest = self.largest.max(value);
    }

    fn place(value: u64) -> usize {
        let octave = (64 - value.leading_zeros()).saturating_sub(PARTS + 1);
        ((octave as usize) << PARTS) + (value >> octave) as usize
    }

    /// The largest number of a place.
    fn end(place: usize) -> u64 {
        let octave = (place >> PARTS).saturating_sub(1);
        let first = (place - (octave << PARTS)) as u64;
        (first << octave) + ((1u64 << octave) - 1)
    }

    /// The number that a part of all is not above, 0 where there are none.
    pub fn quantile(&self, part: f64) -> u64 {
        let wanted = ((self.total as f64 * part).ceil() as u64).max(1);
        let mut seen = 0;
        for (place, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Self::end(place).min(self.largest);
            }
        }
        0
    }
}

/// What a pool has done since it was made, or since [`StreamPool::forget_statistics`](crate::StreamPool::forget_statistics), and what it
/// has now. `Display` prints it for people.
#[derive(Clone, Debug, PartialEq, Default)]
#[non_exhaustive]
pub struct PoolStatistics {
    /// Open streams.
    pub streams: usize,
    /// Of them, those with frames that wait.
    pub waiting_streams: usize,
    /// Frames that wait.
    pub waiting: usize,
    /// Results that nobody has pulled.
    pub unpulled: usize,
    /// Slots of states on the device, and how many of them hold one.
    pub slots: (usize, usize),
    /// Bytes of streams: slots, frames and results.
    pub bytes: u64,
    /// Bytes of sessions, without the parameters, and how many there are.
    pub sessions: (u64, usize),
    /// Ticks that had something to run.
    pub ticks: u64,
    /// Frames that they gave results of.
    pub frames: u64,
    /// Lost devices that others took the place of.
    pub recovered: u64,
    /// Streams of a tick: the median, the 99th percentile and the most, each to a sixteenth above.
    pub batch: [usize; 3],
    /// Time from a frame's push to its result: the median, the 99th percentile and the longest, each to a sixteenth above.
    pub latency: [Duration; 3],
    /// Time that a tick takes, in the same way.
    pub run: [Duration; 3],
}

impl fmt::Display for PoolStatistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let us = |times: [Duration; 3]| times.map(|t| t.as_secs_f64() * 1e6);
        writeln!(
            f,
            "streams   {} open; {} frame(s) of {} wait, {} result(s) unpulled",
            self.streams, self.waiting, self.waiting_streams, self.unpulled
        )?;
        writeln!(
            f,
            "memory    {:.1} MiB of streams ({} of {} slots hold a state), {:.1} MiB of {} session(s)",
            mib(self.bytes),
            self.slots.1,
            self.slots.0,
            mib(self.sessions.0),
            self.sessions.1
        )?;
        let [p50, p99, most] = self.batch;
        writeln!(
            f,
            "ticks     {}, {} frame(s); streams of one: p50 {p50}, p99 {p99}, at most {most}",
            self.ticks, self.frames
        )?;
        if self.recovered > 0 {
            writeln!(f, "devices   {} lost, others in their place", self.recovered)?;
        }
        let [p50, p99, most] = us(self.latency);
        writeln!(f, "latency   frame to result: p50 {p50:.1} us, p99 {p99:.1} us, at most {most:.1} us")?;
        let [p50, p99, most] = us(self.run);
        write!(f, "run       of a tick: p50 {p50:.1} us, p99 {p99:.1} us, at most {most:.1} us")
    }
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn quantiles_are_right_to_a_sixteenth() {
        let mut spread = Spread::default();
        assert_eq!(spread.quantile(0.5), 0);
        (1..=100_000u64).for_each(|n| spread.add(n, 1));
        for (part, exact) in [(0.5, 50_000.0), (0.99, 99_000.0), (1.0, 100_000.0), (0.001, 100.0)] {
            let got = spread.quantile(part) as f64;
            assert!(got >= exact && got <= exact * (1.0 + 1.0 / 16.0), "{part}: {got}");
        }
        spread.add(u64::MAX, 1);
        assert_eq!(spread.quantile(1.0), u64::MAX);
        let mut small = Spread::default();
        [3, 3, 3, 31].into_iter().for_each(|n| small.add(n, 1));
        assert_eq!((small.quantile(0.5), small.quantile(1.0)), (3, 31));
    }
}
