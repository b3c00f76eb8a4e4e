//! Which vector instructions the CPU executor's kernels use: those of the thread that runs them.

use std::cell::Cell;
use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

/// Vector instructions that the CPU executor is compiled for. Which of them a machine has is found out when the program runs. Results
/// of two sets may differ in the last digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum InstructionSet {
    /// No vector instructions: one value at a time, what the compiler makes of it, on every machine. On x86-64 it is for machines
    /// without AVX2 and for tests, and slow: without FMA every multiply-add is a call.
    Portable,
    /// Registers of four f32, of ARM's 64-bit processors.
    Neon,
    /// Registers of eight f32, with FMA, of x86-64 since 2013.
    Avx2,
    /// Registers of sixteen f32 (F, BW, CD, DQ and VL), of servers and some desktops.
    Avx512,
}

impl InstructionSet {
    /// All there are, narrowest first.
    pub const ALL: [Self; 4] = [Self::Portable, Self::Neon, Self::Avx2, Self::Avx512];

    /// Whether this machine has it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => pulp::aarch64::Neon::try_new().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => pulp::x86::V3::try_new().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => pulp::x86::V4::try_new().is_some(),
            _ => false,
        }
    }

    /// The widest that this machine has: what is taken where nothing else is asked for.
    pub fn widest() -> Self {
        Self::ALL.into_iter().rev().find(|set| set.is_available()).unwrap_or(Self::Portable)
    }

    /// The name that [`InstructionSet::from_str`] reads.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Neon => "neon",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }
}

impl fmt::Display for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for InstructionSet {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|set| set.name() == name).ok_or_else(|| format!("one of {}, not {name:?}", names()))
    }
}

/// The environment variable that says which instructions devices use that were not made for certain ones.
pub(crate) const VARIABLE: &str = "WGPU_RNN_INSTRUCTIONS";

/// What [`VARIABLE`] says when it is first asked, or the widest; an error for what this machine does not have.
pub(crate) fn usual() -> Result<InstructionSet, String> {
    static USUAL: OnceLock<Result<InstructionSet, String>> = OnceLock::new();
    let find = || {
        let Some(name) = std::env::var_os(VARIABLE) else { return Ok(InstructionSet::widest()) };
        let set: InstructionSet = name.to_string_lossy().parse()?;
        if set.is_available() { Ok(set) } else { Err(format!("instructions that this machine has, not {set}")) }
    };
    USUAL.get_or_init(find).clone()
}

thread_local! {
    static CURRENT: Cell<Option<InstructionSet>> = const { Cell::new(None) };
}

/// Those of this thread.
pub(crate) fn current() -> InstructionSet {
    // Where the variable is wrong no executor is made, so that nothing runs.
    CURRENT.get().unwrap_or_else(|| usual().unwrap_or(InstructionSet::Portable))
}

/// Runs `work` with those of `set` on this thread. What it hands to other threads takes them along by [`current`].
pub(crate) fn with<R>(set: InstructionSet, work: impl FnOnce() -> R) -> R {
    struct Back(Option<InstructionSet>);
    impl Drop for Back {
        fn drop(&mut self) {
            CURRENT.set(self.0);
        }
    }
    let _back = Back(CURRENT.replace(Some(set)));
    work()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for set in InstructionSet::ALL {
            assert_eq!(set.to_string().parse(), Ok(set));
        }
        let error = "sse9".parse::<InstructionSet>().expect_err("no such set");
        assert_eq!(error, "one of portable, neon, avx2, avx512, not \"sse9\"");
    }

    #[test]
    fn a_thread_goes_back_to_what_it_had() {
        let before = current();
        with(InstructionSet::Portable, || {
            assert_eq!(current(), InstructionSet::Portable);
            with(InstructionSet::widest(), || assert_eq!(current(), InstructionSet::widest()));
            assert_eq!(current(), InstructionSet::Portable);
        });
        assert_eq!(current(), before);
        assert!(InstructionSet::widest().is_available());
    }
}
