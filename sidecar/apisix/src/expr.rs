//! The expression language of `vars` and of traffic-split's `match`.
//!
//! A rule is an array of expressions that must all hold, or
//! `["AND" | "OR" | "!AND" | "!OR", expression, expression, …]`, nested at
//! will. An expression is `[variable, operator, value]`,
//! `[variable, "!", operator, value]` or `[variable, value]` for equality.

use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

/// A rule, compiled, with the JSON that it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Vars {
    /// What its author wrote.
    pub json: Value,
    /// What it means.
    pub expr: Expr,
}

impl Vars {
    /// Compiles a rule.
    ///
    /// # Errors
    /// APISIX's message for what is wrong with the rule.
    pub fn compile(json: Value) -> Result<Self, ExprError> {
        let expr = Expr::compile(&json)?;
        Ok(Self { json, expr })
    }
}

impl<'de> Deserialize<'de> for Vars {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::compile(Value::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// A compiled rule.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// All hold; without operands: always.
    And(Vec<Expr>),
    /// At least one holds.
    Or(Vec<Expr>),
    /// The operand doesn't hold.
    Not(Box<Expr>),
    /// A comparison of a variable of the request.
    Compare {
        /// The variable, such as `http_user_agent` or `arg_id`.
        variable: String,
        /// How to compare.
        operator: Operator,
        /// The right side: a string, number, boolean, null or, for `in`,
        /// `has` and `ipmatch`, what these take.
        value: Value,
    },
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `==`; `null` on the right means that the variable is absent.
    Equal,
    /// `~=`
    NotEqual,
    /// `>`, numeric.
    Greater,
    /// `>=`, numeric.
    GreaterOrEqual,
    /// `<`, numeric.
    Less,
    /// `<=`, numeric.
    LessOrEqual,
    /// `~~`: the regular expression is found.
    Matches,
    /// `~*`: as `~~` without regard to case.
    MatchesIgnoringCase,
    /// `in`: the array on the right contains the variable.
    In,
    /// `has`: the variable, an array, contains the right side.
    Has,
    /// `ipmatch`: the variable is in one of the networks on the right.
    IpMatch,
}

/// Why a rule can't be compiled, in APISIX's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ExprError {
    #[error("rule should be wrapped inside brackets")]
    NotWrapped,
    #[error("rule too short")]
    TooShort,
    #[error("invalid expression")]
    Invalid,
    #[error("bad 'not' expression")]
    BadNot,
    #[error("invalid operator '{0}'")]
    Operator(String),
    #[error("invalid ip address")]
    IpAddress,
}

impl Expr {
    /// Compiles a rule.
    ///
    /// # Errors
    /// APISIX's message for what is wrong with the rule.
    pub fn compile(rule: &Value) -> Result<Self, ExprError> {
        let items = rule.as_array().ok_or(ExprError::NotWrapped)?;
        match items.first() {
            None => Ok(Self::And(Vec::new())),
            Some(Value::String(word)) if Logic::parse(word).is_none() => Err(ExprError::NotWrapped),
            Some(Value::String(_) | Value::Array(_)) => operand(rule),
            Some(_) => Err(ExprError::NotWrapped),
        }
    }
}

impl Operator {
    /// The operator of this spelling; words in any case.
    fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "==" => Self::Equal,
            "~=" => Self::NotEqual,
            ">" => Self::Greater,
            ">=" => Self::GreaterOrEqual,
            "<" => Self::Less,
            "<=" => Self::LessOrEqual,
            "~~" => Self::Matches,
            "~*" => Self::MatchesIgnoringCase,
            "in" => Self::In,
            "has" => Self::Has,
            "ipmatch" => Self::IpMatch,
            _ => return None,
        })
    }
}

struct Logic {
    any: bool,
    negated: bool,
}

impl Logic {
    fn parse(word: &str) -> Option<Self> {
        let word = word.to_ascii_lowercase();
        let (negated, word) = match word.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, word.as_str()),
        };
        match word {
            "and" => Some(Self { any: false, negated }),
            "or" => Some(Self { any: true, negated }),
            _ => None,
        }
    }
}

/// A logical expression, a list that must hold as a whole, or a comparison.
fn operand(value: &Value) -> Result<Expr, ExprError> {
    let items = value.as_array().ok_or(ExprError::NotWrapped)?;
    let first = match items.first() {
        None => return Err(ExprError::TooShort),
        Some(Value::Array(_)) => return operands(items).map(Expr::And),
        Some(Value::String(first)) => first,
        Some(_) => return Err(ExprError::Invalid),
    };
    let Some(logic) = Logic::parse(first) else {
        return comparison(first, &items[1..]);
    };
    if items.len() < 3 {
        return Err(ExprError::TooShort);
    }
    let operands = operands(&items[1..])?;
    let expr = if logic.any { Expr::Or(operands) } else { Expr::And(operands) };
    Ok(if logic.negated { Expr::Not(Box::new(expr)) } else { expr })
}

fn operands(items: &[Value]) -> Result<Vec<Expr>, ExprError> {
    items.iter().map(operand).collect()
}

fn comparison(variable: &str, rest: &[Value]) -> Result<Expr, ExprError> {
    match rest {
        [value] => compare(variable, "==", value),
        [Value::String(operator), value] => compare(variable, operator, value),
        [Value::String(not), Value::String(operator), value] if not == "!" => {
            Ok(Expr::Not(Box::new(compare(variable, operator, value)?)))
        }
        [_, _, _] => Err(ExprError::BadNot),
        [other, _] => Err(ExprError::Operator(other.to_string())),
        _ => Err(ExprError::Invalid),
    }
}

fn compare(variable: &str, operator: &str, value: &Value) -> Result<Expr, ExprError> {
    let operator =
        Operator::parse(operator).ok_or_else(|| ExprError::Operator(operator.to_owned()))?;
    if operator == Operator::IpMatch {
        check_networks(value)?;
    }
    Ok(Expr::Compare { variable: variable.to_owned(), operator, value: value.clone() })
}

fn check_networks(value: &Value) -> Result<(), ExprError> {
    let is_network = |value: &Value| {
        value.as_str().is_some_and(|text| {
            text.parse::<ipnet::IpNet>().is_ok() || text.parse::<std::net::IpAddr>().is_ok()
        })
    };
    let fine = match value {
        Value::Array(items) => items.iter().all(is_network),
        one => is_network(one),
    };
    if fine { Ok(()) } else { Err(ExprError::IpAddress) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn equal(variable: &str, value: Value) -> Expr {
        Expr::Compare { variable: variable.to_owned(), operator: Operator::Equal, value }
    }

    #[test]
    fn a_list_of_expressions_is_a_conjunction() {
        let rule = json!([["arg_a", "==", "1"], ["arg_b", "2"]]);
        let expected = Expr::And(vec![equal("arg_a", json!("1")), equal("arg_b", json!("2"))]);
        assert_eq!(Expr::compile(&rule), Ok(expected));
        assert_eq!(Expr::compile(&json!([])), Ok(Expr::And(vec![])));
    }

    #[test]
    fn logic_nests_and_negates() {
        let rule = json!(["!or", ["a", "==", 1], ["AND", ["b", "!", "==", 2], ["c", "==", 3]]]);
        let inner =
            Expr::And(vec![Expr::Not(Box::new(equal("b", json!(2)))), equal("c", json!(3))]);
        let expected = Expr::Not(Box::new(Expr::Or(vec![equal("a", json!(1)), inner])));
        assert_eq!(Expr::compile(&rule), Ok(expected));
    }

    #[test]
    fn errors_are_apisix_s() {
        for (rule, error) in [
            (json!("a"), "rule should be wrapped inside brackets"),
            (json!(["a", "==", "b"]), "rule should be wrapped inside brackets"),
            (json!(["OR", ["a", "==", "b"]]), "rule too short"),
            (json!([["a"]]), "invalid expression"),
            (json!([["a", "x", "==", "b"]]), "bad 'not' expression"),
            (json!([["a", "!", "=="]]), "invalid operator '!'"),
            (json!([[]]), "rule too short"),
            (json!([["a", "x", "b"]]), "invalid operator 'x'"),
            (json!([["remote_addr", "ipmatch", ["1.2.3"]]]), "invalid ip address"),
        ] {
            let message = Expr::compile(&rule).expect_err("a bad rule").to_string();
            assert_eq!(message, error, "{rule}");
        }
    }
}
