//! Path templates (`extensions.path.match.uri_template.v3.UriTemplateMatchConfig`).

use super::FieldError;

/// Characters of a path's part.
const PART: &str = r"[a-zA-Z0-9\-._~%!$&'()+,;:@=*]";

/// The expression for a template such as `/a/*/{x}/{y=b/*}/**`: `*` is one part, `**` any number of
/// them, and a variable is what its pattern is.
///
/// # Errors
/// The template is malformed.
pub(crate) fn path_template(template: &str) -> Result<String, FieldError> {
    let wrong = |why: &str| FieldError::new(format!("{template:?} is not a path template: {why}"));
    if !template.starts_with('/') {
        return Err(wrong("it has to begin with a slash"));
    }
    let mut out = String::from("^");
    let mut rest = template;
    let mut any = false;
    while let Some(char) = rest.chars().next() {
        if any && char != '/' {
            return Err(wrong("nothing stands behind ** in its part"));
        }
        if char == '{' {
            let (variable, after) =
                rest[1..].split_once('}').ok_or_else(|| wrong("a brace is not closed"))?;
            let (name, pattern) = variable.split_once('=').unwrap_or((variable, "*"));
            let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty()
                || !name.chars().all(good)
                || name.starts_with(|c: char| c.is_ascii_digit())
            {
                return Err(wrong("a variable's name is made of letters, digits and _"));
            }
            if pattern.is_empty() || pattern.contains('{') {
                return Err(wrong("a variable's pattern is empty or holds a variable"));
            }
            out.push('(');
            pattern_into(pattern, &mut out);
            out.push(')');
            rest = after;
        } else {
            let end = rest.find('{').unwrap_or(rest.len());
            let (text, after) = rest.split_at(end);
            if text.contains('}') {
                return Err(wrong("a brace is not opened"));
            }
            if let Some(at) = text.find("**")
                && (at + 2 != text.len() || !after.is_empty())
            {
                any = true;
            }
            pattern_into(text, &mut out);
            rest = after;
        }
    }
    if any {
        return Err(wrong("** has to be its last part"));
    }
    out.push('$');
    Ok(out)
}

fn pattern_into(pattern: &str, out: &mut String) {
    for (index, part) in pattern.split('/').enumerate() {
        if index > 0 {
            out.push('/');
        }
        match part {
            "**" => out.push_str(&PART.replace(']', "/]*")),
            "*" => {
                out.push_str(PART);
                out.push('+');
            }
            text => out.push_str(&regex::escape(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_match_whole_paths() {
        let regex = regex::Regex::new(&path_template("/t/*/{x=a/*}/**").expect("it is right"));
        let regex = regex.expect("it is an expression");
        for (path, wanted) in [
            ("/t/q/a/b/", true),
            ("/t/q/a/b/c/d", true),
            ("/t/q/a/b", false),
            ("/t/q/a/b/%c3%a9", true),
            ("/t//a/b/", false),
        ] {
            assert_eq!(regex.is_match(path), wanted, "{path}");
        }
    }

    #[test]
    fn malformed_templates_are_refused() {
        for template in ["a", "/{", "/}", "/{=x}", "/{1}", "/**/a", "/{a={b}}"] {
            assert!(path_template(template).is_err(), "{template}");
        }
    }
}
