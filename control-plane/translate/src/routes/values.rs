//! Texts with APISIX's variables as Envoy's formats.

use crate::problem::Unsupported;

/// A header's value: `$remote_addr` becomes `%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%`.
pub(super) fn header_value(text: &str, field: &str) -> Result<String, Unsupported> {
    let mut value = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['$', '%']) {
        value.push_str(&rest[..at]);
        let marked = &rest[at..];
        if let Some(after) = marked.strip_prefix('%') {
            value.push_str("%%");
            rest = after;
            continue;
        }
        let (name, after) = variable(&marked[1..]);
        if name.is_empty() {
            value.push('$');
        } else {
            value.push_str(&format_of(name, field)?);
        }
        rest = after;
    }
    value.push_str(rest);
    Ok(value)
}

/// The name after a `$`, with or without braces, and what follows.
fn variable(text: &str) -> (&str, &str) {
    if let Some(inner) = text.strip_prefix('{')
        && let Some(end) = inner.find('}')
    {
        return (&inner[..end], &inner[end + 1..]);
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    text.split_at(end)
}

fn format_of(name: &str, field: &str) -> Result<String, Unsupported> {
    if let Some(header) = name.strip_prefix("http_") {
        return Ok(format!("%REQ({})%", header.replace('_', "-")));
    }
    Ok(match name {
        "remote_addr" => "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
        "server_addr" => "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%",
        "server_port" => "%DOWNSTREAM_LOCAL_PORT%",
        _ => {
            return Err(Unsupported::new(
                field,
                format!(
                    "the variable ${name} can't be used here yet; $remote_addr, $server_addr, \
                     $server_port and $http_* can"
                ),
            ));
        }
    }
    .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_become_operators_and_percent_signs_stay() {
        let value = |text| header_value(text, "f");
        let expected = "a-%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%:%REQ(x-y)%%%$";
        assert_eq!(value("a-$remote_addr:${http_x_y}%$"), Ok(expected.to_owned()));
        assert!(value("$consumer_name").is_err() && value("$host").is_err());
    }
}
