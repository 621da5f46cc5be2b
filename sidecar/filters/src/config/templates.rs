//! Path templates (`extensions.path.match.uri_template.v3.UriTemplateMatchConfig`).

use regex::Regex;
use weft_route::StringMatcher;
use weft_xds_proto::pb::envoy::config::core::v3::TypedExtensionConfig;
use weft_xds_proto::pb::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;

use super::{FieldError, Within, decode};

/// Characters of a path's part.
const PART: &str = r"[a-zA-Z0-9\-._~%!$&'()+,;:@=*]";

/// The expression of a `path_match_policy`; its variables are named groups.
pub(super) fn template(extension: &TypedExtensionConfig) -> Result<Regex, FieldError> {
    let any = extension.typed_config.as_ref();
    let any = any.ok_or_else(|| FieldError::missing("typed_config"))?;
    let config: UriTemplateMatchConfig = decode(any).within("typed_config")?;
    let expression = path_template(&config.path_template);
    let expression = expression.within("path_template").within("typed_config")?;
    // In the form in which the route table knows what it begins with.
    let inner = expression.trim_start_matches('^').trim_end_matches('$');
    StringMatcher::full_regex(inner).map_err(|_| {
        FieldError::at("typed_config.path_template", "a variable's name is there twice")
    })
}

/// What a path is rewritten to (`UriTemplateRewriteConfig.path_template_rewrite`), in the crate
/// `regex`'s spelling: `{x}` becomes `${x}`.
///
/// # Errors
/// The template is malformed, or has a variable that the expression does not have.
pub fn template_rewrite(template: &str, matched: &Regex) -> Result<String, FieldError> {
    let wrong = |why: &str| FieldError::new(format!("{template:?} is not a rewrite: {why}"));
    if !template.starts_with('/') {
        return Err(wrong("it has to begin with a slash"));
    }
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        let (text, after) = rest.split_at(at);
        out.push_str(&text.replace('$', "$$"));
        let variable = after.strip_prefix('{').and_then(|after| after.split_once('}'));
        let (name, after) = variable.ok_or_else(|| wrong("a brace is not closed or not opened"))?;
        if !matched.capture_names().flatten().any(|known| known == name) {
            return Err(wrong("path_match_policy does not have its variable"));
        }
        out.push_str(&format!("${{{name}}}"));
        rest = after;
    }
    out.push_str(&rest.replace('$', "$$"));
    Ok(out)
}

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
            out.push_str(&format!("(?P<{name}>"));
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
    fn a_rewrite_takes_what_variables_stand_for() {
        let regex = Regex::new(&path_template("/t/{x}/{y=**}").expect("it is right"));
        let regex = regex.expect("it is an expression");
        let rewrite = template_rewrite("/$/{y}/{x}", &regex).expect("it is right");
        assert_eq!(regex.replace_all("/t/a/b/c", rewrite.as_str()), "/$/b/c/a");
        for wrong in ["x", "/{z}", "/{x", "/x}"] {
            assert!(template_rewrite(wrong, &regex).is_err(), "{wrong}");
        }
    }

    #[test]
    fn malformed_templates_are_refused() {
        for template in ["a", "/{", "/}", "/{=x}", "/{1}", "/**/a", "/{a={b}}"] {
            assert!(path_template(template).is_err(), "{template}");
        }
    }
}
