//! What plugins remember from one configuration to the next: buckets, counters, breakers.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Weak};

use parking_lot::Mutex;

type Kept = HashMap<String, Weak<dyn Any + Send + Sync>>;

static STATES: LazyLock<Mutex<Kept>> = LazyLock::new(Mutex::default);

/// The state of this name, made if nobody holds it. It lives as long as somebody does: a
/// configuration that stays the same finds it, since the older one is still held while the newer
/// is compiled.
pub(crate) fn shared<T: Send + Sync + 'static>(name: String, new: impl FnOnce() -> T) -> Arc<T> {
    let mut states = STATES.lock();
    let known = states.get(&name).and_then(Weak::upgrade);
    if let Some(known) = known.and_then(|known| known.downcast::<T>().ok()) {
        return known;
    }
    states.retain(|_, state| state.strong_count() > 0);
    let made = Arc::new(new());
    let weak: Weak<dyn Any + Send + Sync> = Arc::downgrade(&made) as _;
    states.insert(name, weak);
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_lives_as_long_as_it_is_held() {
        let first = shared("states-test".to_owned(), || 1);
        assert_eq!(*shared("states-test".to_owned(), || 2), 1);
        drop(first);
        assert_eq!(*shared("states-test".to_owned(), || 3), 3);
    }
}
