//! What a client accepts (RFC 9110, 12.5.3), and which compressor it gets.

use http::HeaderMap;
use http::header::ACCEPT_ENCODING;
use weft_filter_api::StreamCx;

/// The codings of all compressors of a chain, in its order, and what the client said.
#[derive(Clone, Default)]
pub(super) struct Offered {
    codings: Vec<&'static str>,
    accepts: Option<String>,
}

impl Offered {
    /// A compressor can make `coding`.
    pub(super) fn add(cx: &mut StreamCx, coding: &'static str, headers: &HeaderMap) {
        let known = cx.state.get_or_insert_default::<Self>();
        known.codings.push(coding);
        if known.accepts.is_none() {
            let values = headers.get_all(ACCEPT_ENCODING).iter();
            let values: Vec<_> = values.filter_map(|value| value.to_str().ok()).collect();
            known.accepts = (!values.is_empty()).then(|| values.join(","));
        }
    }

    /// The coding that the client likes best; `first`: of those that it likes as much, the one
    /// whose compressor comes first, else the one that the client names first.
    pub(super) fn chosen(cx: &StreamCx, first: bool) -> Option<&'static str> {
        let offered: &Self = cx.state.get()?;
        let accepted = accepted(offered.accepts.as_deref()?);
        let quality = |coding: &str| {
            let exact = accepted.iter().find(|(name, _)| name.eq_ignore_ascii_case(coding));
            exact.or_else(|| accepted.iter().find(|(name, _)| *name == "*")).map(|(_, q)| *q)
        };
        let place =
            |coding: &str| accepted.iter().position(|(name, _)| name.eq_ignore_ascii_case(coding));
        let mut best: Option<(&'static str, u16)> = None;
        for coding in &offered.codings {
            let Some(quality) = quality(coding).filter(|quality| *quality > 0) else { continue };
            let better = best.is_none_or(|(known, least)| {
                quality > least
                    || (quality == least
                        && !first
                        && place(coding).unwrap_or(usize::MAX) < place(known).unwrap_or(usize::MAX))
            });
            if better {
                best = Some((coding, quality));
            }
        }
        let identity = accepted.iter().find(|(name, _)| name.eq_ignore_ascii_case("identity"));
        let preferred = identity.map_or(0, |(_, quality)| *quality);
        best.filter(|(_, quality)| *quality >= preferred).map(|(coding, _)| coding)
    }
}

/// Names with their qualities, thousandths.
fn accepted(text: &str) -> Vec<(&str, u16)> {
    let each = text.split(',').map(str::trim).filter(|one| !one.is_empty());
    each.map(|one| {
        let (name, parameters) = one.split_once(';').unwrap_or((one, ""));
        let quality = parameters.split(';').find_map(|one| one.trim().strip_prefix("q="));
        let quality = quality.map_or(1.0, |quality| quality.trim().parse::<f32>().unwrap_or(0.0));
        (name.trim(), (quality.clamp(0.0, 1.0) * 1000.0) as u16)
    })
    .collect()
}
