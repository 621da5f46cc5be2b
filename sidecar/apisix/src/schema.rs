//! Checks a value against a JSON schema, in the words of APISIX.
//!
//! The validator is our own: APISIX's messages are those of a validator that
//! stops at the first error, takes an empty table for object and array alike,
//! fills in defaults and skips references to secrets. None of this can be had
//! from the errors of a common one.

use std::collections::HashMap;

use regex::Regex;
use serde_json::{Map, Value};

/// A schema whose patterns are compiled.
#[derive(Debug)]
pub struct Schema {
    json: Value,
    patterns: Patterns,
}

type Patterns = HashMap<String, Regex>;
type Checked = Result<(), String>;

impl Schema {
    /// Takes a schema whose patterns are known to compile.
    ///
    /// # Panics
    /// A pattern does not compile.
    #[must_use]
    pub fn new(json: Value) -> Self {
        let mut patterns = Patterns::new();
        collect_patterns(&json, &mut patterns);
        Self { json, patterns }
    }

    /// Takes a schema that somebody wrote.
    ///
    /// # Errors
    /// A pattern that does not compile.
    pub fn compile(json: Value) -> Result<Self, String> {
        check_patterns(&json)?;
        Ok(Self::new(json))
    }

    /// The schema itself.
    #[must_use]
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// Checks `value` and fills in defaults.
    ///
    /// # Errors
    /// APISIX's message for the first thing that is wrong.
    pub fn check(&self, value: &mut Value) -> Checked {
        Walk { patterns: &self.patterns }.visit(&self.json, value)
    }
}

/// The message about a value of another type.
#[must_use]
pub fn wrong_type(expected: &str, value: &Value) -> String {
    format!("wrong type: expected {expected}, got {}", lua_type(value))
}

fn collect_patterns(schema: &Value, patterns: &mut Patterns) {
    let mut add = |pattern: &str| {
        let regex =
            Regex::new(pattern).expect("invariant: the schemas' patterns are compiled in a test");
        patterns.insert(pattern.to_owned(), regex);
    };
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str) {
        add(pattern);
    }
    for pattern in object(schema, "patternProperties").into_iter().flat_map(Map::keys) {
        add(pattern);
    }
    match schema {
        Value::Object(fields) => fields.values().for_each(|part| collect_patterns(part, patterns)),
        Value::Array(items) => items.iter().for_each(|part| collect_patterns(part, patterns)),
        _ => {}
    }
}

/// Whether all patterns compile.
fn check_patterns(schema: &Value) -> Result<(), String> {
    let check = |pattern: &str| {
        Regex::new(pattern).map(drop).map_err(|_| format!("invalid pattern {}", quote(pattern)))
    };
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str) {
        check(pattern)?;
    }
    for pattern in object(schema, "patternProperties").into_iter().flat_map(Map::keys) {
        check(pattern)?;
    }
    match schema {
        Value::Object(fields) => fields.values().try_for_each(check_patterns),
        Value::Array(items) => items.iter().try_for_each(check_patterns),
        _ => Ok(()),
    }
}

/// One pass over a value; ends at the first error.
struct Walk<'a> {
    patterns: &'a Patterns,
}

impl Walk<'_> {
    fn visit(&self, schema: &Value, value: &mut Value) -> Checked {
        if schema["type"] == "string" && is_secret_reference(value) {
            return Ok(());
        }
        check_type(schema, value)?;
        if is_table(value, Kind::Object) {
            self.object(schema, value)?;
        }
        if is_table(value, Kind::Array) {
            self.array(schema, value)?;
        }
        if let Value::String(text) = value {
            self.string(schema, text)?;
        }
        if let Some(number) = value.as_f64() {
            check_range(schema, number)?;
        }
        if list(schema, "enum").is_some_and(|known| !known.contains(value)) {
            return Err("matches none of the enum values".to_owned());
        }
        self.combined(schema, value)?;
        check_format(schema, value)
    }

    fn object(&self, schema: &Value, value: &mut Value) -> Checked {
        let properties = object(schema, "properties");
        let required = list(schema, "required").into_iter().flatten().filter_map(Value::as_str);
        let mut required: Vec<_> = required.collect();
        for (name, part) in properties.into_iter().flatten() {
            self.property(schema, value, name, part, required.contains(&name.as_str()))?;
            required.retain(|known| known != name);
        }
        if let Some(name) = required.into_iter().find(|name| value.get(*name).is_none()) {
            return Err(format!("property {} is required", quote(name)));
        }
        self.other_properties(schema, properties, value)?;
        let count = value.as_object().map_or(0, Map::len);
        if let Some(least) = number(schema, "minProperties").filter(|least| (count as f64) < *least)
        {
            return Err(format!("expect object to have at least {least} properties"));
        }
        if let Some(most) = number(schema, "maxProperties").filter(|most| count as f64 > *most) {
            return Err(format!("expect object to have at most {most} properties"));
        }
        Ok(())
    }

    fn property(
        &self,
        schema: &Value,
        value: &mut Value,
        name: &str,
        part: &Value,
        required: bool,
    ) -> Checked {
        let Some(field) = value.get_mut(name) else {
            if required {
                return Err(format!("property {} is required", quote(name)));
            }
            if let (Some(default), Value::Object(fields)) = (part.get("default"), value) {
                fields.insert(name.to_owned(), default.clone());
            }
            return Ok(());
        };
        self.visit(part, field)
            .map_err(|error| format!("property {} validation failed: {error}", quote(name)))?;
        let Some(dependency) = schema["dependencies"].get(name) else {
            return Ok(());
        };
        self.visit(dependency, value).map_err(|error| {
            format!("failed to validate dependent schema for {}: {error}", quote(name))
        })
    }

    /// `patternProperties` and `additionalProperties`.
    fn other_properties(
        &self,
        schema: &Value,
        properties: Option<&Map<String, Value>>,
        value: &mut Value,
    ) -> Checked {
        let patterns = object(schema, "patternProperties");
        let closed = schema["additionalProperties"] == false;
        for (name, field) in value.as_object_mut().into_iter().flatten() {
            let mut known = properties.is_some_and(|all| all.contains_key(name));
            for (pattern, part) in patterns.into_iter().flatten() {
                if !self.matches(pattern, name) {
                    continue;
                }
                known = true;
                self.visit(part, field).map_err(|error| {
                    format!("failed to validate {name} (matching {}): {error}", quote(pattern))
                })?;
            }
            if closed && !known {
                return Err(format!("additional properties forbidden, found {name}"));
            }
        }
        Ok(())
    }

    fn array(&self, schema: &Value, value: &mut Value) -> Checked {
        let count = value.as_array().map_or(0, Vec::len);
        if let Some(least) = number(schema, "minItems").filter(|least| (count as f64) < *least) {
            return Err(format!("expect array to have at least {least} items"));
        }
        if let Some(most) = number(schema, "maxItems").filter(|most| count as f64 > *most) {
            return Err(format!("expect array to have at most {most} items"));
        }
        let Some(items) = value.as_array_mut() else {
            return Ok(());
        };
        if let Some(part) = schema.get("items") {
            for (index, item) in items.iter_mut().enumerate() {
                self.visit(part, item)
                    .map_err(|error| format!("failed to validate item {}: {error}", index + 1))?;
            }
        }
        if schema["uniqueItems"] == true { check_unique(items) } else { Ok(()) }
    }

    fn string(&self, schema: &Value, text: &str) -> Checked {
        let count = text.chars().count();
        if let Some(least) = number(schema, "minLength").filter(|least| (count as f64) < *least) {
            return Err(format!("string too short, expected at least {least}, got {count}"));
        }
        if let Some(most) = number(schema, "maxLength").filter(|most| count as f64 > *most) {
            return Err(format!("string too long, expected at most {most}, got {count}"));
        }
        match schema["pattern"].as_str() {
            Some(pattern) if !self.matches(pattern, text) => {
                Err(format!("failed to match pattern {} with {}", quote(pattern), quote(text)))
            }
            _ => Ok(()),
        }
    }

    fn combined(&self, schema: &Value, value: &mut Value) -> Checked {
        for (index, part) in list(schema, "allOf").into_iter().flatten().enumerate() {
            self.visit(part, value)
                .map_err(|error| format!("allOf {} failed: {error}", index + 1))?;
        }
        if let Some(parts) = list(schema, "anyOf")
            && !parts.iter().any(|part| self.visit(part, value).is_ok())
        {
            return Err(format!("object matches none of the required{}", required_of(parts)));
        }
        if let Some(parts) = list(schema, "oneOf") {
            self.exactly_one(parts, value)?;
        }
        if let Some(condition) = schema.get("if") {
            let (branch, name) = match self.visit(condition, value) {
                Ok(()) => (schema.get("then"), "then"),
                Err(_) => (schema.get("else"), "else"),
            };
            if branch.is_some_and(|branch| self.visit(branch, value).is_err()) {
                return Err(format!("{name} clause did not match"));
            }
        }
        if schema.get("not").is_some_and(|part| self.visit(part, value).is_ok()) {
            return Err("value wasn't supposed to match schema".to_owned());
        }
        Ok(())
    }

    fn exactly_one(&self, parts: &[Value], value: &mut Value) -> Checked {
        let matching = |(index, part)| self.visit(part, value).is_ok().then_some(index + 1);
        let mut matching = parts.iter().enumerate().filter_map(matching);
        let one = "value should match only one schema, but matches";
        match (matching.next(), matching.next()) {
            (None, _) => Err(format!("{one} none")),
            (Some(first), Some(second)) => Err(format!("{one} both schemas {first} and {second}")),
            (Some(_), None) => Ok(()),
        }
    }

    fn matches(&self, pattern: &str, text: &str) -> bool {
        self.patterns.get(pattern).is_some_and(|regex| regex.is_match(text))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Object,
    Array,
}

/// Whether the value can be taken for `kind`; an empty table for either.
fn is_table(value: &Value, kind: Kind) -> bool {
    match value {
        Value::Object(fields) => kind == Kind::Object || fields.is_empty(),
        Value::Array(items) => kind == Kind::Array || items.is_empty(),
        _ => false,
    }
}

fn check_type(schema: &Value, value: &Value) -> Checked {
    let Some(expected) = schema["type"].as_str() else {
        return Ok(());
    };
    let fits = match expected {
        "object" => is_table(value, Kind::Object),
        "array" => is_table(value, Kind::Array),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        _ => true,
    };
    if fits { Ok(()) } else { Err(wrong_type(expected, value)) }
}

fn check_range(schema: &Value, value: f64) -> Checked {
    for (name, words) in
        [("minimum", "at least"), ("exclusiveMinimum", "greater than"), ("maximum", "at most")]
    {
        let Some(bound) = number(schema, name) else { continue };
        let kept = match name {
            "minimum" => value >= bound,
            "exclusiveMinimum" => value > bound,
            _ => value <= bound,
        };
        if !kept {
            return Err(format!("expected {value} to be {words} {bound}"));
        }
    }
    Ok(())
}

fn check_unique(items: &[Value]) -> Checked {
    for (second, item) in items.iter().enumerate() {
        if let Some(first) = items[..second].iter().position(|other| other == item) {
            let (first, second) = (first + 1, second + 1);
            return Err(format!("expected unique items but items {first} and {second} are equal"));
        }
    }
    Ok(())
}

fn check_format(schema: &Value, value: &Value) -> Checked {
    let (Some(format), Some(text)) = (schema["format"].as_str(), value.as_str()) else {
        return Ok(());
    };
    let fits = match format {
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        _ => true,
    };
    if fits { Ok(()) } else { Err(format!("expect valid {format} format but got: {text}")) }
}

/// The `required` of the alternatives, for the message that none matches.
fn required_of(parts: &[Value]) -> String {
    let lists: Vec<_> = parts.iter().filter_map(|part| part.get("required")).collect();
    if lists.is_empty() {
        return String::new();
    }
    let lists: Vec<_> = lists.into_iter().map(Value::to_string).collect();
    format!(": {}", lists.join(" or "))
}

/// `$secret://…` and `$env://…` are resolved where they are used.
fn is_secret_reference(value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default();
    let start = text.get(..7).unwrap_or_default();
    text.starts_with("$secret://") || start.eq_ignore_ascii_case("$env://")
}

fn object<'a>(schema: &'a Value, name: &str) -> Option<&'a Map<String, Value>> {
    schema.get(name).and_then(Value::as_object)
}

fn list<'a>(schema: &'a Value, name: &str) -> Option<&'a Vec<Value>> {
    schema.get(name).and_then(Value::as_array)
}

fn number(schema: &Value, name: &str) -> Option<f64> {
    schema.get(name).and_then(Value::as_f64)
}

/// Lua's `%q`.
fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The name of the value's type in Lua.
fn lua_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "userdata",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) | Value::Object(_) => "table",
    }
}

#[cfg(test)]
mod tests;
