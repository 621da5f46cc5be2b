//! Envoy's `StringMatcher`.

use regex::Regex;

/// How a string is compared (`type.matcher.v3.StringMatcher`).
#[derive(Clone, Debug)]
pub struct StringMatcher {
    pattern: StringPattern,
    ignore_case: bool,
}

/// The kinds of comparison.
#[derive(Clone, Debug)]
pub enum StringPattern {
    /// The whole string.
    Exact(String),
    /// The beginning.
    Prefix(String),
    /// The end.
    Suffix(String),
    /// Any part.
    Contains(String),
    /// A regular expression for the whole string (`safe_regex`); compile it with [`StringMatcher::full_regex`].
    Regex(Regex),
}

impl StringMatcher {
    /// A matcher; `ignore_case` has no meaning for regular expressions.
    #[must_use]
    pub fn new(pattern: StringPattern, ignore_case: bool) -> Self {
        use StringPattern::{Contains, Exact, Prefix, Regex, Suffix};
        let pattern = match pattern {
            Exact(s) if ignore_case => Exact(s.to_ascii_lowercase()),
            Prefix(s) if ignore_case => Prefix(s.to_ascii_lowercase()),
            Suffix(s) if ignore_case => Suffix(s.to_ascii_lowercase()),
            Contains(s) if ignore_case => Contains(s.to_ascii_lowercase()),
            Regex(_) => return Self { pattern, ignore_case: false },
            other => other,
        };
        Self { pattern, ignore_case }
    }

    /// Matches the whole string, case included.
    #[must_use]
    pub fn exact(text: impl Into<String>) -> Self {
        Self::new(StringPattern::Exact(text.into()), false)
    }

    /// Compiles an expression that has to match the whole string, as Envoy's `safe_regex` does.
    ///
    /// # Errors
    /// The expression is not valid, or needs more than 10 MiB when compiled.
    pub fn full_regex(expression: &str) -> Result<Regex, regex::Error> {
        Regex::new(&format!("^(?s:{expression})$"))
    }

    /// Whether `text` matches.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        if self.ignore_case {
            return compare(&self.pattern, &text.to_ascii_lowercase());
        }
        compare(&self.pattern, text)
    }
}

fn compare(pattern: &StringPattern, text: &str) -> bool {
    match pattern {
        StringPattern::Exact(wanted) => text == wanted,
        StringPattern::Prefix(wanted) => text.starts_with(wanted.as_str()),
        StringPattern::Suffix(wanted) => text.ends_with(wanted.as_str()),
        StringPattern::Contains(wanted) => text.contains(wanted.as_str()),
        StringPattern::Regex(regex) => regex.is_match(text),
    }
}
