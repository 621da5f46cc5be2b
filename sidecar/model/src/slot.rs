//! A place for something that changes on its own.

use std::sync::Arc;

use arc_swap::{ArcSwapOption, Guard};

/// A place for a `T` that is filled, swapped and emptied as configuration
/// arrives. Clones are the same place; reading takes no lock.
#[derive(Debug)]
pub struct Slot<T>(Arc<ArcSwapOption<T>>);

impl<T> Slot<T> {
    /// An empty slot.
    #[must_use]
    pub fn empty() -> Self {
        Self(Arc::new(ArcSwapOption::empty()))
    }

    /// A slot that holds `value`.
    #[must_use]
    pub fn filled(value: Arc<T>) -> Self {
        Self(Arc::new(ArcSwapOption::new(Some(value))))
    }

    /// Puts a value in; those who read it before keep theirs.
    pub fn set(&self, value: Arc<T>) {
        self.0.store(Some(value));
    }

    /// Empties the slot.
    pub fn clear(&self) {
        self.0.store(None);
    }

    /// What the slot holds, for a short look.
    #[must_use]
    pub fn peek(&self) -> Guard<Option<Arc<T>>> {
        self.0.load()
    }

    /// What the slot holds, to keep.
    #[must_use]
    pub fn get(&self) -> Option<Arc<T>> {
        self.0.load_full()
    }

    /// Whether the slot holds something: its owner is warm.
    #[must_use]
    pub fn is_filled(&self) -> bool {
        self.0.load().is_some()
    }

    /// Whether both are the same place.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// A slot that knows the name of the resource that fills it.
#[derive(Debug)]
pub struct NamedSlot<T> {
    name: Arc<str>,
    slot: Slot<T>,
}

impl<T> NamedSlot<T> {
    /// An empty slot for the resource `name`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), slot: Slot::empty() }
    }

    /// The resource's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }
}

impl<T> Clone for NamedSlot<T> {
    fn clone(&self) -> Self {
        Self { name: Arc::clone(&self.name), slot: self.slot.clone() }
    }
}

impl<T> std::ops::Deref for NamedSlot<T> {
    type Target = Slot<T>;

    fn deref(&self) -> &Slot<T> {
        &self.slot
    }
}
