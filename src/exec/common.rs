//! What an executor has in common with its siblings: parameters as they lie in this process. Whoever changes them puts others in their
//! place, so that a run on another thread ends with those that it began with, and nobody waits while work is being done.

use std::sync::{Arc, PoisonError, RwLock};

/// See the module.
pub(crate) struct Common<P> {
    now: Arc<RwLock<Arc<P>>>,
    /// Those of a run that is made of several ([`Common::hold`]).
    held: Option<Arc<P>>,
}

impl<P> Common<P> {
    /// What nobody else has yet.
    pub fn new(parameters: P) -> Self {
        Self { now: Arc::new(RwLock::new(Arc::new(parameters))), held: None }
    }

    /// The same, for a sibling.
    pub fn sibling(&self) -> Self {
        Self { now: Arc::clone(&self.now), held: None }
    }

    /// Those that are held, or those of now.
    pub fn get(&self) -> Arc<P> {
        self.held.clone().unwrap_or_else(|| Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Until [`Common::release`] those of now are what there is here, whatever takes their place.
    pub fn hold(&mut self) {
        self.held = None;
        self.held = Some(self.get());
    }

    /// See [`Common::hold`].
    pub fn release(&mut self) {
        self.held = None;
    }

    /// Others in their place, for all siblings.
    pub fn put(&self, parameters: P) {
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(parameters);
    }

    /// The same made of those of now; copied only where a run is under way.
    pub fn change(&self, change: impl FnOnce(&mut P))
    where
        P: Clone,
    {
        change(Arc::make_mut(&mut self.now.write().unwrap_or_else(PoisonError::into_inner)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_ends_with_what_it_began_with() {
        let (owner, mut one) = {
            let owner = Common::new(vec![1]);
            let one = owner.sibling();
            (owner, one)
        };
        one.hold();
        owner.put(vec![2]);
        owner.change(|p| p.push(3));
        assert_eq!((&**one.get(), &**owner.get()), (&[1][..], &[2, 3][..]));
        one.release();
        assert_eq!(**one.get(), [2, 3]);
    }
}
