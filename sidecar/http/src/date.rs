//! `date` (RFC 9110, 6.6.1), for responses that come without one.

use std::cell::RefCell;
use std::time::SystemTime;

use http::HeaderValue;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

const FORMAT: &[BorrowedFormatItem<'static>] = format_description!(
    "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
);

thread_local! {
    /// The second that was last asked for, and its header.
    static LAST: RefCell<Option<(i64, HeaderValue)>> = const { RefCell::new(None) };
}

/// The header's value; written once a second.
pub(crate) fn value(now: SystemTime) -> HeaderValue {
    let now = OffsetDateTime::from(now);
    LAST.with_borrow_mut(|last| match last {
        Some((second, value)) if *second == now.unix_timestamp() => value.clone(),
        _ => {
            let value = format(now);
            *last = Some((now.unix_timestamp(), value.clone()));
            value
        }
    })
}

fn format(now: OffsetDateTime) -> HeaderValue {
    let text = now.format(FORMAT).unwrap_or_default();
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_date_looks_as_in_the_rfc() {
        let at = UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(value(at), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(value(at + Duration::from_secs(1)), "Sun, 06 Nov 1994 08:49:38 GMT");
    }
}
