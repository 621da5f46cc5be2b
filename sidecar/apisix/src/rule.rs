//! Rules, ready to be evaluated.

use std::borrow::Cow;
use std::net::IpAddr;

use ipnet::IpNet;
use regex::Regex;
use serde_json::Value;

use crate::expr::{Expr, Operator};

/// Where the values of variables come from.
pub trait Variables {
    /// The value of a variable; `None` if it is unknown or has none.
    fn value(&self, name: &str) -> Option<Cow<'_, str>>;
}

impl<F> Variables for F
where
    F: Fn(&str) -> Option<Cow<'static, str>>,
{
    fn value(&self, name: &str) -> Option<Cow<'_, str>> {
        self(name)
    }
}

/// A rule whose regular expressions and networks are compiled.
#[derive(Debug)]
pub struct Rule(Node);

#[derive(Debug)]
enum Node {
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    Compare { variable: String, test: Test },
}

#[derive(Debug)]
enum Test {
    /// `==` with `null`: the variable has no value.
    Absent,
    /// `~=` with `null`.
    Present,
    EqualText(String),
    EqualNumber(f64),
    Not(Box<Test>),
    Number(Operator, f64),
    Matches(Regex),
    In(Vec<Value>),
    Networks(Vec<IpNet>),
    /// What a variable of a request can never be, such as a list.
    Never,
}

impl Rule {
    /// Compiles a rule.
    ///
    /// # Errors
    /// APISIX's message for what is wrong with it, or the regular expression that is none.
    pub fn compile(rule: &Value) -> Result<Self, String> {
        let expr = Expr::compile(rule).map_err(|error| error.to_string())?;
        node(&expr).map(Self)
    }

    /// Whether it holds.
    pub fn holds(&self, variables: &dyn Variables) -> bool {
        self.0.holds(variables)
    }

    /// The variables that it asks for.
    pub fn variables(&self) -> Vec<&str> {
        let mut all = Vec::new();
        self.0.collect(&mut all);
        all
    }
}

impl Node {
    fn holds(&self, variables: &dyn Variables) -> bool {
        match self {
            Self::And(nodes) => nodes.iter().all(|node| node.holds(variables)),
            Self::Or(nodes) => nodes.iter().any(|node| node.holds(variables)),
            Self::Not(node) => !node.holds(variables),
            Self::Compare { variable, test } => test.holds(variables.value(variable).as_deref()),
        }
    }

    fn collect<'a>(&'a self, all: &mut Vec<&'a str>) {
        match self {
            Self::And(nodes) | Self::Or(nodes) => nodes.iter().for_each(|node| node.collect(all)),
            Self::Not(node) => node.collect(all),
            Self::Compare { variable, .. } => all.push(variable),
        }
    }
}

impl Test {
    fn holds(&self, value: Option<&str>) -> bool {
        match self {
            Self::Absent => value.is_none(),
            Self::Present => value.is_some(),
            Self::Not(test) => !test.holds(value),
            Self::Never => false,
            test => value.is_some_and(|value| test.fits(value)),
        }
    }

    fn fits(&self, value: &str) -> bool {
        match self {
            Self::EqualText(text) => value == text,
            Self::EqualNumber(number) => numeric(value) == Some(*number),
            Self::Number(operator, number) => numeric(value).is_some_and(|value| match operator {
                Operator::Greater => value > *number,
                Operator::GreaterOrEqual => value >= *number,
                Operator::Less => value < *number,
                _ => value <= *number,
            }),
            Self::Matches(regex) => regex.is_match(value),
            Self::In(items) => items.iter().any(|item| item.as_str() == Some(value)),
            Self::Networks(networks) => value
                .parse::<IpAddr>()
                .is_ok_and(|address| networks.iter().any(|network| network.contains(&address))),
            Self::Absent | Self::Present | Self::Not(_) | Self::Never => false,
        }
    }
}

fn numeric(text: &str) -> Option<f64> {
    text.trim().parse::<f64>().ok().filter(|number| number.is_finite())
}

fn node(expr: &Expr) -> Result<Node, String> {
    let all = |operands: &[Expr]| operands.iter().map(node).collect::<Result<Vec<_>, _>>();
    Ok(match expr {
        Expr::And(operands) => Node::And(all(operands)?),
        Expr::Or(operands) => Node::Or(all(operands)?),
        Expr::Not(operand) => Node::Not(Box::new(node(operand)?)),
        Expr::Compare { variable, operator, value } => {
            Node::Compare { variable: variable.clone(), test: test(*operator, value)? }
        }
    })
}

fn test(operator: Operator, value: &Value) -> Result<Test, String> {
    Ok(match operator {
        Operator::Equal => equal(value),
        Operator::NotEqual if value.is_null() => Test::Present,
        Operator::NotEqual => Test::Not(Box::new(equal(value))),
        Operator::Greater | Operator::GreaterOrEqual | Operator::Less | Operator::LessOrEqual => {
            let number = value.as_f64().or_else(|| numeric(value.as_str()?));
            number.map_or(Test::Never, |number| Test::Number(operator, number))
        }
        Operator::Matches | Operator::MatchesIgnoringCase => {
            let Some(pattern) = value.as_str() else { return Ok(Test::Never) };
            let regex = regex::RegexBuilder::new(pattern)
                .case_insensitive(operator == Operator::MatchesIgnoringCase)
                .build();
            Test::Matches(regex.map_err(|_| format!("invalid regex '{pattern}'"))?)
        }
        Operator::In => Test::In(value.as_array().cloned().unwrap_or_default()),
        Operator::Has => Test::Never,
        Operator::IpMatch => {
            let items = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
            let networks = items.iter().filter_map(|item| network(item.as_str()?));
            Test::Networks(networks.collect())
        }
    })
}

fn equal(value: &Value) -> Test {
    match value {
        Value::Null => Test::Absent,
        Value::String(text) => Test::EqualText(text.clone()),
        Value::Number(number) => number.as_f64().map_or(Test::Never, Test::EqualNumber),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => Test::Never,
    }
}

fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn holds(rule: &Value) -> bool {
        let known = |name: &str| match name {
            "arg_n" => Some(Cow::Borrowed("10")),
            "arg_t" => Some(Cow::Borrowed("Text")),
            "remote_addr" => Some(Cow::Borrowed("10.1.2.3")),
            _ => None,
        };
        Rule::compile(rule).expect("a rule").holds(&known)
    }

    #[test]
    fn operators_compare_as_in_apisix() {
        for (rule, expected) in [
            (json!([]), true),
            (json!([["arg_n", "==", 10]]), true),
            (json!([["arg_n", "==", "10"]]), true),
            (json!([["arg_n", ">", 9], ["arg_n", "<=", 10]]), true),
            (json!([["arg_t", ">", 1]]), false),
            (json!([["arg_t", "~~", "^[A-Z]"]]), true),
            (json!([["arg_t", "~*", "TEXT"]]), true),
            (json!([["arg_t", "in", ["Text", "x"]]]), true),
            (json!([["arg_n", "in", [10]]]), false),
            (json!([["remote_addr", "ipmatch", ["10.0.0.0/8"]]]), true),
            (json!([["remote_addr", "ipmatch", ["11.0.0.0/8", "::1"]]]), false),
            (json!([["arg_t", "!", "~~", "^[A-Z]"]]), false),
            (json!(["OR", ["arg_n", "==", "1"], ["arg_t", "==", "Text"]]), true),
            (json!(["!OR", ["arg_n", "==", "1"], ["arg_t", "==", "Text"]]), false),
        ] {
            assert_eq!(holds(&rule), expected, "{rule}");
        }
    }

    #[test]
    fn a_variable_without_a_value_equals_null_only() {
        assert!(holds(&json!([["arg_x", "==", null]])));
        assert!(!holds(&json!([["arg_n", "==", null]])));
        assert!(holds(&json!([["arg_n", "~=", null]])));
        assert!(holds(&json!([["arg_x", "~=", "a"]])));
        assert!(!holds(&json!([["arg_x", "~~", ".*"]])));
    }

    #[test]
    fn a_wrong_regular_expression_is_named() {
        let error = Rule::compile(&json!([["uri", "~~", "("]])).expect_err("no expression");
        assert_eq!(error, "invalid regex '('");
    }
}
