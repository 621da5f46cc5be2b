//! APISIX's expressions as alternatives of header and query matchers.

use serde_json::Value;
use weft_control_model::{Expr, Operator};
use weft_xds_proto::pb::envoy::config::route::v3::{
    HeaderMatcher, QueryParameterMatcher, header_matcher::HeaderMatchSpecifier,
    query_parameter_matcher::QueryParameterMatchSpecifier,
};
use weft_xds_proto::pb::envoy::r#type::v3::Int64Range;

use crate::envoy;
use crate::problem::Unsupported;

/// The most alternatives that one rule may become; each is a route of its own.
const MOST_ALTERNATIVES: usize = 64;

/// Matchers that must all hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Conditions {
    pub(super) headers: Vec<HeaderMatcher>,
    pub(super) query: Vec<QueryParameterMatcher>,
}

impl Conditions {
    pub(super) fn and(mut self, other: &Self) -> Self {
        self.headers.extend(other.headers.iter().cloned());
        self.query.extend(other.query.iter().cloned());
        self
    }
}

/// The alternatives of which one must hold.
pub(super) fn alternatives(expr: &Expr) -> Result<Vec<Conditions>, Unsupported> {
    normal_form(expr, false)
}

fn normal_form(expr: &Expr, negated: bool) -> Result<Vec<Conditions>, Unsupported> {
    match (expr, negated) {
        (Expr::Not(inner), _) => normal_form(inner, !negated),
        (Expr::And(operands), false) | (Expr::Or(operands), true) => {
            let mut product = vec![Conditions::default()];
            for operand in operands {
                let factor = normal_form(operand, negated)?;
                let pairs = product
                    .iter()
                    .flat_map(|left| factor.iter().map(|right| left.clone().and(right)));
                product = limited(pairs.collect())?;
            }
            Ok(product)
        }
        (Expr::Or(operands), false) | (Expr::And(operands), true) => {
            let mut sum = Vec::new();
            for operand in operands {
                sum.extend(normal_form(operand, negated)?);
            }
            limited(sum)
        }
        (Expr::Compare { variable, operator, value }, _) => {
            Ok(vec![comparison(variable, *operator, value, negated)?])
        }
    }
}

fn limited(alternatives: Vec<Conditions>) -> Result<Vec<Conditions>, Unsupported> {
    if alternatives.len() > MOST_ALTERNATIVES {
        let reason = format!("becomes more than {MOST_ALTERNATIVES} alternatives; simplify it");
        return Err(Unsupported::new("vars", reason));
    }
    Ok(alternatives)
}

/// What a variable reads.
enum Subject {
    Header(String),
    Query(String),
    Cookie(String),
    /// The path without the query.
    Path,
    /// `:authority` without the port.
    Host,
}

/// What is asked of it.
enum Test {
    Exact(String),
    /// The whole value matches.
    Whole(String),
    /// The expression is found.
    Found(String),
    Range(i64, i64),
    Absent,
}

fn comparison(
    variable: &str,
    operator: Operator,
    value: &Value,
    negated: bool,
) -> Result<Conditions, Unsupported> {
    let subject = subject(variable)?;
    let (test, inverse) = test(variable, operator, value)?;
    let negated = negated != inverse;
    match subject {
        Subject::Query(name) => query(name, test, negated, variable),
        Subject::Header(name) => header(&name, test, negated),
        Subject::Cookie(name) => {
            let whole = whole(test, variable)?;
            let name = regex::escape(&name);
            let expression = format!("(?:.*; *)?{name}=(?:{whole})(?: *;.*)?");
            header("cookie", Test::Whole(expression), negated)
        }
        Subject::Path => {
            let whole = path(test)?;
            header(":path", Test::Whole(format!("{whole}(?:\\?.*)?")), negated)
        }
        Subject::Host => {
            let whole = whole(test, variable)?;
            header(":authority", Test::Whole(format!("(?i:{whole})(?::[0-9]+)?")), negated)
        }
    }
}

fn subject(variable: &str) -> Result<Subject, Unsupported> {
    let header = |name: &str| Ok(Subject::Header(name.to_owned()));
    if let Some(name) = variable.strip_prefix("http_") {
        return match name.to_ascii_lowercase().replace('_', "-") {
            host if host == "host" => Ok(Subject::Host),
            name => Ok(Subject::Header(name)),
        };
    }
    if let Some(name) = variable.strip_prefix("arg_") {
        return Ok(Subject::Query(name.to_owned()));
    }
    if let Some(name) = variable.strip_prefix("cookie_") {
        return Ok(Subject::Cookie(name.to_owned()));
    }
    match variable {
        "uri" => Ok(Subject::Path),
        "host" => Ok(Subject::Host),
        "request_uri" => header(":path"),
        "request_method" => header(":method"),
        "scheme" => header(":scheme"),
        "content_type" => header("content-type"),
        _ => Err(Unsupported::new(
            "vars",
            format!(
                "the variable {variable} can't be matched by a proxy; http_*, arg_*, cookie_*, \
                 uri, request_uri, request_method, host and scheme can"
            ),
        )),
    }
}

/// The test, and whether its opposite is meant.
fn test(variable: &str, operator: Operator, value: &Value) -> Result<(Test, bool), Unsupported> {
    let unsupported = |what: &str| {
        Err(Unsupported::new("vars", format!("{variable}: {what} can't be matched by a proxy")))
    };
    match operator {
        Operator::Equal | Operator::NotEqual => {
            let inverse = operator == Operator::NotEqual;
            match value {
                Value::Null => Ok((Test::Absent, inverse)),
                Value::String(text) => Ok((Test::Exact(text.clone()), inverse)),
                Value::Number(number) => Ok((equal_number(number), inverse)),
                _ => unsupported("equality with this value"),
            }
        }
        Operator::Greater | Operator::GreaterOrEqual | Operator::Less | Operator::LessOrEqual => {
            let Some(limit) = whole_number(value) else {
                return unsupported("a comparison with anything but a whole number");
            };
            Ok(match operator {
                Operator::Greater => (Test::Range(limit.saturating_add(1), i64::MAX), false),
                Operator::GreaterOrEqual => (Test::Range(limit, i64::MAX), false),
                Operator::Less => (Test::Range(i64::MIN, limit), false),
                _ => (Test::Range(i64::MIN, limit.saturating_add(1)), false),
            })
        }
        Operator::Matches | Operator::MatchesIgnoringCase => {
            let Value::String(expression) = value else {
                return unsupported("a regular expression that is no text");
            };
            let ignoring_case = operator == Operator::MatchesIgnoringCase;
            let expression =
                if ignoring_case { format!("(?i){expression}") } else { expression.clone() };
            checked(&expression)?;
            Ok((Test::Found(expression), false))
        }
        Operator::In => {
            let Some(texts) = value.as_array().and_then(|items| texts(items)) else {
                return unsupported("`in` with anything but texts");
            };
            Ok((Test::Whole(texts.join("|")), false))
        }
        Operator::Has => unsupported("`has`"),
        Operator::IpMatch => unsupported("`ipmatch`"),
    }
}

fn equal_number(number: &serde_json::Number) -> Test {
    match number.as_i64() {
        Some(whole) => Test::Range(whole, whole.saturating_add(1)),
        None => Test::Exact(number.to_string()),
    }
}

fn whole_number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

fn texts(items: &[Value]) -> Option<Vec<String>> {
    items.iter().map(|item| item.as_str().map(regex::escape)).collect()
}

fn checked(expression: &str) -> Result<(), Unsupported> {
    regex::Regex::new(expression).map(drop).map_err(|error| {
        let reason = format!("{expression:?} is no regular expression for proxies (RE2): {error}");
        Unsupported::new("vars", reason)
    })
}

fn header(name: &str, test: Test, negated: bool) -> Result<Conditions, Unsupported> {
    let (specifier, invert) = match test {
        Test::Absent => (HeaderMatchSpecifier::PresentMatch(true), !negated),
        Test::Range(start, end) => {
            (HeaderMatchSpecifier::RangeMatch(Int64Range { start, end }), negated)
        }
        Test::Exact(text) => (HeaderMatchSpecifier::StringMatch(envoy::exact(text)), negated),
        Test::Whole(whole) => {
            (HeaderMatchSpecifier::StringMatch(envoy::regex_match(whole)), negated)
        }
        Test::Found(part) => {
            let whole = format!(".*(?:{part}).*");
            (HeaderMatchSpecifier::StringMatch(envoy::regex_match(whole)), negated)
        }
    };
    // A missing variable is different from every value.
    let missing_differs = negated && !matches!(specifier, HeaderMatchSpecifier::PresentMatch(_));
    Ok(Conditions {
        headers: vec![HeaderMatcher {
            name: name.to_owned(),
            invert_match: invert,
            treat_missing_header_as_empty: missing_differs,
            header_match_specifier: Some(specifier),
        }],
        ..Default::default()
    })
}

fn query(
    name: String,
    test: Test,
    negated: bool,
    variable: &str,
) -> Result<Conditions, Unsupported> {
    let specifier = match test {
        Test::Absent if negated => QueryParameterMatchSpecifier::PresentMatch(true),
        _ if negated => {
            let reason = format!("{variable}: a proxy can't match a parameter that differs");
            return Err(Unsupported::new("vars", reason));
        }
        Test::Exact(text) => QueryParameterMatchSpecifier::StringMatch(envoy::exact(text)),
        test => {
            let whole = whole(test, variable)?;
            QueryParameterMatchSpecifier::StringMatch(envoy::regex_match(whole))
        }
    };
    Ok(Conditions {
        query: vec![QueryParameterMatcher {
            name,
            query_parameter_match_specifier: Some(specifier),
        }],
        ..Default::default()
    })
}

/// The test as an expression for the whole value.
fn whole(test: Test, variable: &str) -> Result<String, Unsupported> {
    match test {
        Test::Exact(text) => Ok(regex::escape(&text)),
        Test::Whole(whole) => Ok(whole),
        Test::Found(part) => Ok(format!(".*(?:{part}).*")),
        Test::Range(start, end) if end == start.saturating_add(1) => Ok(start.to_string()),
        Test::Range(..) | Test::Absent => Err(Unsupported::new(
            "vars",
            format!("{variable}: a proxy compares numbers and absence in headers only"),
        )),
    }
}

/// The test as an expression for the path, before a query.
fn path(test: Test) -> Result<String, Unsupported> {
    let Test::Found(part) = test else {
        return whole(test, "uri").map(|whole| format!("(?:{whole})"));
    };
    if has_alternatives(&part) && (part.starts_with('^') || part.ends_with('$')) {
        let reason = "uri: put the alternatives of an anchored expression into parentheses";
        return Err(Unsupported::new("vars", reason));
    }
    let (part, end) = match part.strip_suffix('$') {
        Some(anchored) if !anchored.ends_with('\\') => (anchored, ""),
        _ => (part.as_str(), "[^?]*"),
    };
    let (start, part) = match part.strip_prefix('^') {
        Some(anchored) => ("", anchored),
        None => ("[^?]*", part),
    };
    checked(part)?;
    Ok(format!("{start}(?:{part}){end}"))
}

/// Whether a `|` stands outside all parentheses.
fn has_alternatives(expression: &str) -> bool {
    let (mut depth, mut escaped) = (0_i32, false);
    for character in expression.chars() {
        match character {
            _ if escaped => {
                escaped = false;
                continue;
            }
            '\\' => escaped = true,
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '|' if depth == 0 => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests;
