//! `date` (RFC 9110, 6.6.1), for responses that come without one.

use std::cell::RefCell;
use std::ops::Range;
use std::time::Duration;

use http::HeaderValue;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use tokio::time::Instant;
use weft_telemetry::clock;

const FORMAT: &[BorrowedFormatItem<'static>] = format_description!(
    "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
);

thread_local! {
    /// The second that was last asked for, from when to when, and its header.
    static LAST: RefCell<Option<(Range<Instant>, HeaderValue)>> = const { RefCell::new(None) };
}

/// The header's value; written once a second.
pub(crate) fn value(now: Instant) -> HeaderValue {
    LAST.with_borrow_mut(|last| match last {
        Some((second, value)) if second.contains(&now) => value.clone(),
        _ => {
            let (second, value) = last.insert(second(now, clock::wall(now).into()));
            debug_assert!(second.contains(&now), "it has not begun");
            value.clone()
        }
    })
}

/// How long a second lasts that was under way at this moment, and its header.
fn second(now: Instant, wall: OffsetDateTime) -> (Range<Instant>, HeaderValue) {
    let left = Duration::from_secs(1) - Duration::from_nanos(wall.nanosecond().into());
    (now..now + left, format(wall))
}

fn format(now: OffsetDateTime) -> HeaderValue {
    let text = now.format(FORMAT).unwrap_or_default();
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn a_date_looks_as_in_the_rfc() {
        let at = OffsetDateTime::from(UNIX_EPOCH + Duration::from_secs(784_111_777));
        assert_eq!(format(at), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn a_date_holds_until_its_second_is_over() {
        let now = Instant::now();
        let wall = UNIX_EPOCH + Duration::from_millis(784_111_777_250);
        let (second, value) = second(now, wall.into());
        assert_eq!(second, now..now + Duration::from_millis(750));
        assert_eq!(value, "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
