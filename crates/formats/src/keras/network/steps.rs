//! How the steps of a value become those that a later network reads.

use wgpu_rnn::{Error, Real, Result, Tensor, View};

/// Steps that a layer makes, at most.
pub(super) const MOST_STEPS: usize = 1 << 20;
/// Steps that a window spans, at most.
pub(super) const MOST_SPAN: usize = 1 << 12;
/// Values of an input of a network, at most.
const MOST_VALUES: usize = 1 << 31;

/// How the steps of a value become those of an input of a later network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum KerasSteps {
    /// They stay as they are; so does a row per sequence.
    Same,
    /// Windows over steps, the steps of each side by side (`Conv1D`, `MaxPooling1D`, `AveragePooling1D`).
    Windows(KerasWindows),
    /// Every step so many times in a row (`UpSampling1D`).
    Repeated(usize),
    /// A row per sequence at each of so many steps (`RepeatVector`).
    Spread(usize),
    /// So many steps of zeros before and behind (`ZeroPadding1D`).
    Padded([usize; 2]),
    /// Without so many steps at the beginning and the end (`Cropping1D`).
    Cropped([usize; 2]),
}

/// Windows over T steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KerasWindows {
    /// Steps of a window.
    pub taps: usize,
    /// How far they are apart.
    pub dilation: usize,
    /// How far a window begins behind the one before it.
    pub stride: usize,
    /// Which windows there are.
    pub padding: KerasPadding,
    /// What is read outside of the sequence.
    pub fill: KerasFill,
}

/// Which windows there are (Keras's `padding`); S is how many steps a window spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KerasPadding {
    /// Those within the sequence: (T − S) / stride + 1, rounded down.
    Valid,
    /// T / stride, rounded up; as many steps outside before as behind, or one less.
    Same,
    /// As many as `Same`; the first ends with the first step, and none reads a step behind its last.
    Causal,
}

/// What a window reads outside of the sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KerasFill {
    /// 0
    Zero,
    /// The lowest number of f32: never the largest of a window.
    Lowest,
    /// 0, and the steps inside are multiplied so that the mean of all is that of the steps inside.
    Mean,
}

impl KerasWindows {
    /// Steps from the first of a window to its last, both counted.
    pub fn span(&self) -> usize {
        (self.taps.saturating_sub(1)).saturating_mul(self.dilation).saturating_add(1)
    }

    /// How many there are over so many steps; `None` where Keras has none.
    fn count(&self, time: usize) -> Option<usize> {
        match self.padding {
            KerasPadding::Valid => Some((time.checked_sub(self.span())?) / self.stride + 1),
            KerasPadding::Same | KerasPadding::Causal => Some(time.div_ceil(self.stride)),
        }
    }

    /// How many steps outside of the sequence the first begins.
    fn before(&self, time: usize) -> usize {
        match self.padding {
            KerasPadding::Valid => 0,
            KerasPadding::Causal => self.span() - 1,
            KerasPadding::Same => {
                let last = time.div_ceil(self.stride).saturating_sub(1) * self.stride;
                last.saturating_add(self.span()).saturating_sub(time) / 2
            }
        }
    }

    /// Whether there is one for every step.
    pub fn keeps_steps(&self) -> bool {
        self.stride == 1 && (self.padding != KerasPadding::Valid || self.span() == 1)
    }
}

impl KerasSteps {
    /// How many steps there are of `time`.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for too few steps and for windows without steps, [`Error::Limit`] for more than a network is given.
    pub fn count(&self, time: usize) -> Result<usize> {
        let few = |least: usize| Error::mismatch("steps", format!("at least {least}"), time);
        let count = match *self {
            Self::Same => return Ok(time),
            Self::Windows(KerasWindows { taps, stride, .. }) if taps == 0 || stride == 0 => {
                return Err(Error::mismatch(
                    "windows",
                    "taps and a stride of at least 1",
                    format!("{taps} and {stride}"),
                ));
            }
            Self::Windows(windows) => windows.count(time).ok_or_else(|| few(windows.span()))?,
            Self::Repeated(times) => time.saturating_mul(times),
            Self::Spread(times) => times,
            Self::Padded([before, behind]) => time.saturating_add(before).saturating_add(behind),
            Self::Cropped([before, behind]) => {
                let cut = before.saturating_add(behind);
                time.checked_sub(cut).filter(|&rest| rest > 0).ok_or_else(|| few(cut.saturating_add(1)))?
            }
        };
        limited("steps", count, MOST_STEPS)
    }

    /// Steps side by side in a new one.
    pub(super) fn taps(&self) -> usize {
        match self {
            Self::Windows(windows) => windows.taps,
            _ => 1,
        }
    }

    /// The step that tap `k` of step `n` is, of `time` steps of which the first window begins `before` outside; `None`: outside.
    fn reads(&self, n: usize, k: usize, before: usize, time: usize) -> Option<usize> {
        let at = match *self {
            Self::Same => n,
            Self::Windows(windows) => n
                .saturating_mul(windows.stride)
                .saturating_add(k.saturating_mul(windows.dilation))
                .checked_sub(before)?,
            Self::Repeated(times) => n / times.max(1),
            Self::Spread(_) => 0,
            Self::Padded([before, _]) => n.checked_sub(before)?,
            Self::Cropped([before, _]) => n + before,
        };
        (at < time).then_some(at)
    }

    /// The value `[T, B, width]`, of `Spread` `[B, width]`, with the new steps: `[count, B, taps · width]`. `reversed`: its steps are those
    /// from the last to the first.
    ///
    /// # Errors
    /// As [`KerasSteps::count`], and [`Error::Mismatch`] for a value of another shape.
    pub fn gather<T: Real>(&self, x: View<'_, T>, reversed: bool) -> Result<Tensor<T>> {
        let (time, batch, width) = match (self, x.shape) {
            (Self::Spread(_), &[batch, width]) => (1, batch, width),
            (Self::Spread(_), _) => {
                return Err(Error::mismatch("a row per sequence", "[B, width]", format!("{:?}", x.shape)));
            }
            (_, &[time, batch, width]) => (time, batch, width),
            _ => return Err(Error::mismatch("steps", "[T, B, width]", format!("{:?}", x.shape))),
        };
        x.check("steps", &[], x.shape)?;
        let (count, taps) = (self.count(time)?, self.taps());
        let values = [count, batch, taps, width].iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        limited("values of a network's input", values.unwrap_or(usize::MAX), MOST_VALUES)?;
        let (before, fill) = match self {
            Self::Windows(windows) => (windows.before(time), windows.fill),
            _ => (0, KerasFill::Zero),
        };
        let outside = T::from_f64(if fill == KerasFill::Lowest { f64::from(f32::MIN) } else { 0.0 });
        let mut data = Vec::with_capacity(values.unwrap_or(0));
        for n in 0..count {
            let reads: Vec<Option<usize>> = (0..taps).map(|k| self.reads(n, k, before, time)).collect();
            let inside = reads.iter().flatten().count();
            let share = (fill == KerasFill::Mean && inside < taps && inside > 0).then(|| taps as f64 / inside as f64);
            for b in 0..batch {
                for read in &reads {
                    let Some(at) = read.map(|t| if reversed { time - 1 - t } else { t }) else {
                        data.extend(std::iter::repeat_n(outside, width));
                        continue;
                    };
                    let row = &x.data[(at * batch + b) * width..][..width];
                    match share {
                        Some(share) => data.extend(row.iter().map(|v| T::from_f64(v.to_f64() * share))),
                        None => data.extend_from_slice(row),
                    }
                }
            }
        }
        Ok(Tensor { data, shape: vec![count, batch, taps * width] })
    }
}

fn limited(what: &str, needs: usize, limit: usize) -> Result<usize> {
    if needs <= limit {
        return Ok(needs);
    }
    Err(Error::Limit {
        what: what.into(),
        needs: needs as u64,
        limit: limit as u64,
        unit: "of them",
        limit_name: "this reader's limit",
        hint: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(taps: usize, dilation: usize, stride: usize, padding: KerasPadding, fill: KerasFill) -> KerasSteps {
        KerasSteps::Windows(KerasWindows { taps, dilation, stride, padding, fill })
    }

    fn of(steps: KerasSteps, reversed: bool) -> Vec<f64> {
        let x = Tensor { data: vec![1.0, 2.0, 3.0, 4.0, 5.0], shape: vec![5, 1, 1] };
        let y = steps.gather(x.view(), reversed).unwrap();
        assert_eq!(y.shape, [steps.count(5).unwrap(), 1, steps.taps()]);
        y.data
    }

    #[test]
    fn windows_by_hand() {
        use KerasFill::{Lowest, Mean, Zero};
        use KerasPadding::{Causal, Same, Valid};
        assert_eq!(of(windows(2, 1, 2, Valid, Zero), false), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(of(windows(2, 2, 1, Valid, Zero), false), [1.0, 3.0, 2.0, 4.0, 3.0, 5.0]);
        assert_eq!(of(windows(2, 1, 2, Valid, Zero), true), [5.0, 4.0, 3.0, 2.0]);
        // Three windows of two: one step outside, behind.
        let low = f64::from(f32::MIN);
        assert_eq!(of(windows(2, 1, 2, Same, Lowest), false), [1.0, 2.0, 3.0, 4.0, 5.0, low]);
        assert_eq!(of(windows(2, 1, 2, Same, Mean), false), [1.0, 2.0, 3.0, 4.0, 10.0, 0.0]);
        assert_eq!(of(windows(2, 1, 3, Causal, Zero), false), [0.0, 1.0, 3.0, 4.0]);
    }

    #[test]
    fn others_by_hand() {
        assert_eq!(of(KerasSteps::Repeated(2), false), [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0, 5.0, 5.0]);
        assert_eq!(of(KerasSteps::Padded([1, 2]), false), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 0.0, 0.0]);
        assert_eq!(of(KerasSteps::Cropped([2, 1]), false), [3.0, 4.0]);
        assert_eq!(of(KerasSteps::Same, true), [5.0, 4.0, 3.0, 2.0, 1.0]);
        let row = Tensor { data: vec![1.0, 2.0], shape: vec![2, 1] };
        assert_eq!(KerasSteps::Spread(2).gather(row.view(), false).unwrap().data, [1.0, 2.0, 1.0, 2.0]);
    }

    #[test]
    fn what_cannot_be_is_said() {
        let few = windows(3, 2, 1, KerasPadding::Valid, KerasFill::Zero).count(4).unwrap_err().to_string();
        assert_eq!(few, "steps: expected at least 5, got 4");
        assert!(KerasSteps::Cropped([3, 2]).count(5).is_err());
        assert!(windows(2, 1, 0, KerasPadding::Valid, KerasFill::Zero).count(5).is_err());
        let far = windows(2, usize::MAX, usize::MAX, KerasPadding::Same, KerasFill::Zero);
        assert_eq!(of(far, false).len(), 2);
        assert!(matches!(KerasSteps::Spread(MOST_STEPS + 1).count(1), Err(Error::Limit { .. })));
        assert!(matches!(KerasSteps::Repeated(usize::MAX).count(2), Err(Error::Limit { .. })));
    }
}
