//! Header changes, and the operators in their values.

use weft_model::{AppendAction, HeaderMutations, HeaderSet, HeaderTemplate, TemplatePart};
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
    let mut parts: Vec<TemplatePart> = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        literal.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            literal.push('%');
            rest = after;
            continue;
        }
        let end = operator_end(rest).ok_or_else(|| {
            FieldError::new(format!(
                "{text:?}: the operator is not closed; write %% for a percent sign"
            ))
        })?;
        if !literal.is_empty() {
            parts.push(TemplatePart::Text(std::mem::take(&mut literal)));
        }
        parts.push(operator(&rest[..end])?);
        rest = &rest[end + 1..];
    }
    literal.push_str(rest);
    let value = header_value(literal.as_bytes())?;
    if parts.is_empty() {
        return Ok(HeaderTemplate::Fixed(value));
    }
    if !literal.is_empty() {
        parts.push(TemplatePart::Text(literal));
    }
    Ok(HeaderTemplate::Parts(parts))
}

/// Where the operator ends; a percent sign in its parentheses does not end it.
fn operator_end(rest: &str) -> Option<usize> {
    let mut depth = 0u32;
    for (at, char) in rest.char_indices() {
        match char {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '%' if depth == 0 => return Some(at),
            _ => {}
        }
    }
    None
}

fn operator(text: &str) -> Result<TemplatePart, FieldError> {
    if let Some(argument) = text.strip_prefix("REQ(").and_then(|rest| rest.strip_suffix(')')) {
        return request_header(argument, text);
    }
    Ok(match text {
        "DOWNSTREAM_REMOTE_ADDRESS" | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => {
            TemplatePart::DownstreamRemoteAddress
        }
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT"
        | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => {
            TemplatePart::DownstreamRemoteAddressWithoutPort
        }
        "DOWNSTREAM_LOCAL_ADDRESS" => TemplatePart::DownstreamLocalAddress,
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => TemplatePart::DownstreamLocalAddressWithoutPort,
        "DOWNSTREAM_LOCAL_PORT" => TemplatePart::DownstreamLocalPort,
        "DOWNSTREAM_PEER_URI_SAN" => TemplatePart::DownstreamPeerUriSan,
        "DOWNSTREAM_PEER_SUBJECT" => TemplatePart::DownstreamPeerSubject,
        "REQUESTED_SERVER_NAME" => TemplatePart::RequestedServerName,
        "PROTOCOL" => TemplatePart::Protocol,
        "START_TIME" => TemplatePart::StartTime,
        "HOSTNAME" => TemplatePart::Hostname(hostname()),
        "UPSTREAM_REMOTE_ADDRESS" => TemplatePart::UpstreamRemoteAddress,
        "RESPONSE_CODE" => TemplatePart::ResponseCode,
        "RESPONSE_FLAGS" => TemplatePart::ResponseFlags,
        "RESPONSE_CODE_DETAILS" => TemplatePart::ResponseCodeDetails,
        other => {
            return Err(FieldError::new(format!(
                "%{other}% is not an operator that Weft knows in headers; write %% for a percent sign"
            )));
        }
    })
}

fn request_header(argument: &str, whole: &str) -> Result<TemplatePart, FieldError> {
    header_name(argument)
        .map(TemplatePart::RequestHeader)
        .map_err(|_| FieldError::new(format!("%{whole}%: {argument:?} is not a header name")))
}

/// The host's name, as the kernel has it.
fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .unwrap_or_else(|_| "-".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_and_text_are_told_apart() {
        let HeaderTemplate::Parts(parts) =
            header_template("a=%DOWNSTREAM_LOCAL_PORT%;100%%;%REQ(X-Id)%").expect("it is right")
        else {
            panic!("it has operators")
        };
        let text = |text: &str| TemplatePart::Text(text.to_owned());
        let id = TemplatePart::RequestHeader(http::HeaderName::from_static("x-id"));
        assert_eq!(parts, [text("a="), TemplatePart::DownstreamLocalPort, text(";100%;"), id]);
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
