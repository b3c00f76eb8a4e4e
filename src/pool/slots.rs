//! Which slots of the store hold whose state: counted, so that forks, snapshots and histories share what they have in common.

use crate::error::Result;
use crate::exec::states::States;
use crate::exec::{Device, Element};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, PoisonError};

/// The slot of the empty state, which streams begin from.
pub(crate) const EMPTY: u32 = 0;

/// See the module.
pub(crate) struct Slots<T: Element> {
    pub states: States<T>,
    /// Per slot that is made, how many have their state in it.
    holders: Vec<u32>,
    /// Those of nobody; the first of them is taken first, so that the last ones can be given back.
    free: BinaryHeap<Reverse<u32>>,
    /// Slots that all holders may need when no two share one, besides the empty state's.
    reserved: usize,
    /// Slots of snapshots that nobody has any more.
    dropped: Arc<Mutex<Vec<u32>>>,
}

/// A slot that is held as long as this is there.
pub(crate) struct Held {
    pub slot: u32,
    dropped: Arc<Mutex<Vec<u32>>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner).push(self.slot);
    }
}

impl<T: Element> Slots<T> {
    /// With the empty state in its slot.
    pub fn new(device: &Device, empty: &[T]) -> Result<Self> {
        let states = States::new(device, empty.len())?;
        let (holders, free, dropped) = Default::default();
        let mut slots = Self { states, holders, free, reserved: 0, dropped };
        slots.grow(1)?;
        slots.states.write(EMPTY, empty)?;
        // By the pool itself.
        slots.free.pop();
        slots.holders[EMPTY as usize] = 1;
        Ok(slots)
    }

    /// As it was made, but for the memory that it has: nobody holds a slot.
    pub fn clear(&mut self) {
        self.holders.fill(0);
        self.holders[EMPTY as usize] = 1;
        self.free = (1..self.holders.len() as u32).map(Reverse).collect();
    }

    /// As many slots as there were, in a store that has come in the place of another.
    pub fn refit(&mut self) -> Result<()> {
        self.states.resize(self.holders.len())
    }

    /// Bytes of the store when so many more slots are reserved.
    pub fn bytes_with(&self, more: usize) -> u64 {
        let slots = (1 + self.reserved + more).next_multiple_of(self.states.step()).max(self.holders.len());
        (slots * self.states.size() * size_of::<T>()) as u64
    }

    /// From now on so many more slots may be needed.
    pub fn reserve(&mut self, more: usize) {
        self.reserved += more;
    }

    /// They are not needed any more.
    pub fn unreserve(&mut self, fewer: usize) {
        self.reserved -= fewer;
    }

    /// How many slots there are, and how many of them hold a state.
    pub fn count(&self) -> (usize, usize) {
        (self.holders.len(), self.holders.len() - self.free.len())
    }

    /// Whether nobody else has its state there.
    #[inline]
    pub fn is_own(&self, slot: u32) -> bool {
        self.holders[slot as usize] == 1 && slot != EMPTY
    }

    /// A slot of one's own, with anything in it.
    pub fn take(&mut self) -> Result<u32> {
        if self.free.is_empty() {
            self.grow(1)?;
        }
        let slot = self.free.pop().map_or(EMPTY, |Reverse(slot)| slot);
        self.holders[slot as usize] = 1;
        Ok(slot)
    }

    /// One more has its state there.
    pub fn share(&mut self, slot: u32) {
        self.holders[slot as usize] += 1;
    }

    /// One fewer.
    pub fn leave(&mut self, slot: u32) {
        let holders = &mut self.holders[slot as usize];
        *holders -= 1;
        if *holders == 0 {
            self.free.push(Reverse(slot));
        }
    }

    /// One more, for a snapshot; [`Slots::reserve`] it.
    pub fn hold(&mut self, slot: u32) -> Held {
        self.share(slot);
        Held { slot, dropped: Arc::clone(&self.dropped) }
    }

    /// Takes back the slots of snapshots that are gone.
    pub fn settle(&mut self) {
        let dropped = std::mem::take(&mut *self.dropped.lock().unwrap_or_else(PoisonError::into_inner));
        self.unreserve(dropped.len());
        dropped.into_iter().for_each(|slot| self.leave(slot));
    }

    /// Gives back slots behind the last that is held, where they are many.
    pub fn shrink(&mut self) -> Result<()> {
        let step = self.states.step();
        let (all, held) = self.count();
        // So that streams that come and go do not make and give back the same slots.
        if all <= 4 * held.max(step) {
            return Ok(());
        }
        let last = self.holders.iter().rposition(|&n| n > 0).unwrap_or(0);
        let slots = (last + 1).max(2 * held).next_multiple_of(step);
        if slots < all {
            self.states.resize(slots)?;
            self.holders.truncate(slots);
            self.free.retain(|Reverse(slot)| (*slot as usize) < slots);
        }
        Ok(())
    }

    fn grow(&mut self, more: usize) -> Result<()> {
        let step = self.states.step();
        let (all, needed) = (self.holders.len(), self.holders.len() + more);
        // Twice as many, as far as they may be needed: a GPU copies all of them.
        let most = (1 + self.reserved).next_multiple_of(step);
        let slots = needed.next_multiple_of(step).max((2 * all).min(most));
        self.states.resize(slots)?;
        self.holders.resize(slots, 0);
        self.free.extend((all as u32..slots as u32).map(Reverse));
        Ok(())
    }
}
