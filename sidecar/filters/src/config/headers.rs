//! Header changes, and the operators in their values.

use std::sync::Arc;

use weft_model::{AppendAction, HeaderMutations, HeaderSet, HeaderTemplate};
use weft_telemetry::{FormatError, TextFormat};
use weft_xds_proto::pb::envoy::config::core::v3::{
    HeaderValueOption, header_value_option::HeaderAppendAction,
};

use super::{FieldError, Within, header_name, header_value};

/// The pair of fields `<prefix>_headers_to_add` and `<prefix>_headers_to_remove`.
///
/// # Errors
/// A name that is none, a value with an unknown operator.
pub fn header_mutations(
    add: &[HeaderValueOption],
    remove: &[String],
    prefix: &str,
) -> Result<HeaderMutations, FieldError> {
    let mut mutations = HeaderMutations::default();
    for (index, option) in add.iter().enumerate() {
        let set = header_set(option)
            .map_err(|e| e.within(&format!("{prefix}_headers_to_add[{index}]")))?;
        mutations.set.push(set);
    }
    for (index, name) in remove.iter().enumerate() {
        let checked = removable(name);
        let checked =
            checked.map_err(|e| e.within(&format!("{prefix}_headers_to_remove[{index}]")))?;
        mutations.remove.push(checked);
    }
    Ok(mutations)
}

fn removable(name: &str) -> Result<http::HeaderName, FieldError> {
    if name.eq_ignore_ascii_case("host") {
        return Err(FieldError::new("the host can't be removed"));
    }
    header_name(name)
}

/// One header to add.
///
/// # Errors
/// A name that is none, a value with an unknown operator.
#[expect(deprecated, reason = "control planes still send the older fields")]
pub fn header_set(option: &HeaderValueOption) -> Result<HeaderSet, FieldError> {
    let header = option.header.as_ref().ok_or_else(|| FieldError::missing("header"))?;
    let name = header_name(&header.key).within("header.key")?;
    let value = if header.raw_value.is_empty() {
        header_template(&header.value).within("header.value")?
    } else {
        HeaderTemplate::Fixed(header_value(&header.raw_value).within("header.raw_value")?)
    };
    let action = match (&option.append, HeaderAppendAction::try_from(option.append_action)) {
        (Some(append), _) if append.value => AppendAction::AppendIfExistsOrAdd,
        (Some(_), _) => AppendAction::OverwriteIfExistsOrAdd,
        (None, Ok(HeaderAppendAction::AppendIfExistsOrAdd)) => AppendAction::AppendIfExistsOrAdd,
        (None, Ok(HeaderAppendAction::AddIfAbsent)) => AppendAction::AddIfAbsent,
        (None, Ok(HeaderAppendAction::OverwriteIfExistsOrAdd)) => {
            AppendAction::OverwriteIfExistsOrAdd
        }
        (None, Ok(HeaderAppendAction::OverwriteIfExists)) => AppendAction::OverwriteIfExists,
        (None, Err(_)) => {
            let reason = format!("{} is not an append action", option.append_action);
            return Err(FieldError::at("append_action", reason));
        }
    };
    Ok(HeaderSet { name, value, action, keep_empty: option.keep_empty_value })
}

/// A header value with Envoy's operators (`%DOWNSTREAM_REMOTE_ADDRESS%`, `%REQ(name)%`, …).
///
/// # Errors
/// An operator that is unknown or not closed; a text that no header may hold.
pub fn header_template(text: &str) -> Result<HeaderTemplate, FieldError> {
    header_value(text.as_bytes())?;
    let format = text_format(text)?;
    match format.fixed() {
        Some(fixed) => header_value(fixed.as_bytes()).map(HeaderTemplate::Fixed),
        None => Ok(HeaderTemplate::Format(Arc::new(format))),
    }
}

/// Text with operators, as [`header_template`] and access logs have them.
///
/// # Errors
/// An operator that is unknown or not closed.
pub fn text_format(text: &str) -> Result<TextFormat, FieldError> {
    TextFormat::parse(text).map_err(|error| match error {
        FormatError::Unknown { operator, .. } => FieldError::new(format!(
            "%{operator}% is not an operator that Weft knows; write %% for a percent sign"
        )),
        other => FieldError::new(other.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::SystemTime;

    use weft_telemetry::LogRecord;

    use super::*;

    #[test]
    fn operators_are_filled_in_and_absent_values_left_out() {
        let template =
            header_template("a=%DOWNSTREAM_LOCAL_PORT%;100%%;%REQ(X-Id?:AUTHORITY)%|%REQ(x-no)%");
        let (client, here) =
            (SocketAddr::from(([1, 2, 3, 4], 5)), SocketAddr::from(([5, 6, 7, 8], 80)));
        let record = LogRecord {
            authority: Some("shop"),
            ..LogRecord::new(SystemTime::UNIX_EPOCH, client, here)
        };
        let value = template.expect("it is right").value(&record);
        assert_eq!(value.expect("it may stand in a header"), "a=80;100%;shop|");
    }

    #[test]
    fn a_wrong_operator_is_named() {
        let unknown = header_template("%NOPE%").expect_err("it is unknown").to_string();
        assert!(unknown.starts_with("%NOPE% is not an operator"), "{unknown}");
        assert!(header_template("50%").is_err());
        assert!(header_template("a\nb").is_err());
        assert!(matches!(header_template("plain%%"), Ok(HeaderTemplate::Fixed(_))));
    }
}
