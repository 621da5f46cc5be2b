//! Texts with variables: `$name` and `${name}`; `\$name` is no variable.

use std::borrow::Cow;

use weft_apisix::Variables;

/// A text whose variables are found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Variable(String),
}

impl Template {
    pub(crate) fn parse(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut rest = text;
        let mut plain = String::new();
        while let Some(at) = rest.find('$') {
            let escaped = rest[..at].ends_with('\\');
            plain.push_str(if escaped { &rest[..at - 1] } else { &rest[..at] });
            let after = &rest[at + 1..];
            let Some((name, left)) = name(after).filter(|_| !escaped) else {
                plain.push('$');
                rest = after;
                continue;
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Variable(name.to_owned()));
            rest = left;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Self(parts)
    }

    /// The text with the values of the variables; those without one are empty.
    pub(crate) fn render(&self, variables: &dyn Variables) -> String {
        self.values(variables).into_iter().collect()
    }

    /// The same, and how many variables had a value.
    pub(crate) fn render_counted(&self, variables: &dyn Variables) -> (String, usize) {
        let mut known = 0;
        let text = self.0.iter().map(|part| match part {
            Part::Text(text) => Cow::Borrowed(text.as_str()),
            Part::Variable(name) => {
                let value = variables.value(name);
                known += usize::from(value.is_some());
                value.unwrap_or_default()
            }
        });
        let text = text.collect();
        (text, known)
    }

    /// The text, where it has no variables.
    pub(crate) fn fixed(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    fn values<'a>(&'a self, variables: &'a dyn Variables) -> Vec<Cow<'a, str>> {
        let value = |part: &'a Part| match part {
            Part::Text(text) => Cow::Borrowed(text.as_str()),
            Part::Variable(name) => variables.value(name).unwrap_or_default(),
        };
        self.0.iter().map(value).collect()
    }
}

/// The name at the start of what follows a `$`, and the rest.
fn name(after: &str) -> Option<(&str, &str)> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if let Some(braced) = after.strip_prefix('{') {
        let (name, rest) = braced.split_once('}')?;
        return (!name.is_empty() && name.chars().all(is_word)).then_some((name, rest));
    }
    let end = after.find(|c| !is_word(c)).unwrap_or(after.len());
    (end > 0).then(|| after.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_and_escaped_ones_are_not() {
        let known = |name: &str| (name == "uri").then_some(Cow::Borrowed("/a"));
        for (text, rendered) in [
            ("plain", "plain"),
            ("$uri", "/a"),
            ("x${uri}y$uri/z", "x/ay/a/z"),
            ("$other!", "!"),
            (r"\$uri", "$uri"),
            ("5$", "5$"),
            ("${uri", "${uri"),
        ] {
            assert_eq!(Template::parse(text).render(&known), rendered, "{text}");
        }
        assert_eq!(Template::parse("$a$uri").render_counted(&known), ("/a".to_owned(), 1));
        assert_eq!(Template::parse("plain").fixed(), Some("plain"));
        assert_eq!(Template::parse("$uri").fixed(), None);
    }
}
