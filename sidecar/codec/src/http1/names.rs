//! Names of headers, known again without allocating for them.

use std::cell::RefCell;

use http::HeaderName;

/// How many names are remembered; a power of two.
const PLACES: usize = 256;
/// Longer names are not worth remembering, bytes.
const LONGEST: usize = 47;

/// The names that this thread has seen last. A name pushes out the one in its place, so that a
/// client that invents names costs what it would cost without the table.
pub(super) struct Names([Option<Known>; PLACES]);

/// A name, and how it was spelled last: most clients always spell it in the same way, and bytes are
/// compared sooner than letters.
struct Known {
    name: HeaderName,
    length: u8,
    spelled: [u8; LONGEST],
}

impl Known {
    fn is_spelled(&self, bytes: &[u8]) -> bool {
        self.spelled.get(..usize::from(self.length)) == Some(bytes)
    }

    fn spell(&mut self, bytes: &[u8]) {
        if let (Ok(length), Some(spelled)) =
            (u8::try_from(bytes.len()), self.spelled.get_mut(..bytes.len()))
        {
            spelled.copy_from_slice(bytes);
            self.length = length;
        }
    }
}

thread_local! {
    static NAMES: RefCell<Names> = const { RefCell::new(Names([const { None }; PLACES])) };
}

/// Lends the table.
pub(super) fn with<T>(use_names: impl FnOnce(&mut Names) -> T) -> T {
    NAMES.with_borrow_mut(use_names)
}

impl Names {
    /// The name that these bytes spell, in any case; `None`: they are none.
    pub(super) fn find(&mut self, bytes: &[u8]) -> Option<HeaderName> {
        let place = &mut self.0[place(bytes)?];
        if let Some(known) = place {
            if known.is_spelled(bytes) {
                return Some(known.name.clone());
            }
            if known.name.as_str().as_bytes().eq_ignore_ascii_case(bytes) {
                known.spell(bytes);
                return Some(known.name.clone());
            }
        }
        let name = HeaderName::from_bytes(bytes).ok()?;
        if bytes.len() <= LONGEST {
            let known = Known { name: name.clone(), length: 0, spelled: [0; LONGEST] };
            place.insert(known).spell(bytes);
        }
        Some(name)
    }
}

/// Where a name belongs; the case of letters does not count.
fn place(bytes: &[u8]) -> Option<usize> {
    let (first, last) = (bytes.first()?, bytes.last()?);
    let middle = bytes[bytes.len() / 2];
    let third = bytes[bytes.len() * 3 / 4];
    let mixed = bytes.len().wrapping_mul(0x9e37)
        ^ usize::from(first | 0x20).wrapping_mul(0x85)
        ^ usize::from(last | 0x20).wrapping_mul(0x1b3)
        ^ usize::from(middle | 0x20).wrapping_mul(0x2f)
        ^ usize::from(third | 0x20).wrapping_mul(0x11d);
    Some((mixed ^ (mixed >> 8)) % PLACES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_in_any_case_and_again() {
        with(|names| {
            for text in ["X-Forwarded-For", "x-forwarded-for", "Host", "HOST", "x-y_z!"] {
                for _ in 0..2 {
                    let name = names.find(text.as_bytes()).unwrap();
                    assert_eq!(name.as_str(), text.to_ascii_lowercase());
                }
            }
            for text in ["", "a b", "a:", "\u{e9}"] {
                assert_eq!(names.find(text.as_bytes()), None, "{text:?}");
            }
        });
    }
}
