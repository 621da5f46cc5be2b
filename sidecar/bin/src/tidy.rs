//! Gives memory back when much was read and it is quiet again.

/// Quiet moments before memory is given back.
const QUIET: u32 = 4;
/// Resources that are worth it.
const MUCH: u64 = 100;

/// Decides when memory is given back; asked at regular moments.
#[derive(Debug)]
pub(crate) struct Tidy {
    /// Resources received at the last moment.
    seen: u64,
    /// Resources received when memory was given back last; `None` at the start.
    tidied: Option<u64>,
    /// Moments since something was received.
    quiet: u32,
}

impl Tidy {
    /// At the start, what starting needed is still to be given back.
    pub(crate) const fn new() -> Self {
        Self { seen: 0, tidied: None, quiet: 0 }
    }

    /// Whether this is the moment; `received` counts the resources so far.
    pub(crate) fn is_due(&mut self, received: u64) -> bool {
        if received != self.seen {
            self.seen = received;
            self.quiet = 0;
            return false;
        }
        self.quiet = self.quiet.saturating_add(1);
        let much = self.tidied.is_none_or(|tidied| received - tidied >= MUCH);
        let due = self.quiet >= QUIET && much;
        if due {
            self.tidied = Some(received);
        }
        due
    }
}

/// Gives back what can be given back.
pub(crate) fn release() {
    match weft_net::memory::release() {
        Ok(pages) => tracing::debug!(pages, "memory given back"),
        Err(error) => tracing::debug!(%error, "memory can't be given back"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(tidy: &mut Tidy, received: u64, count: u32) -> u32 {
        (0..count).map(|_| u32::from(tidy.is_due(received))).sum()
    }

    #[test]
    fn memory_is_given_back_once_after_the_start() {
        let mut tidy = Tidy::new();
        assert_eq!(moments(&mut tidy, 0, QUIET - 1), 0);
        assert_eq!(moments(&mut tidy, 0, 1), 1);
        assert_eq!(moments(&mut tidy, 0, 100), 0);
    }

    #[test]
    fn much_is_waited_out_and_little_is_not_worth_it() {
        let mut tidy = Tidy::new();
        assert_eq!(moments(&mut tidy, 0, QUIET), 1);
        assert_eq!(moments(&mut tidy, 50, 100), 0);
        for received in 51..200 {
            assert_eq!(moments(&mut tidy, received, QUIET - 1), 0);
        }
        assert_eq!(moments(&mut tidy, 200, QUIET + 1), 1);
    }
}
