//! JSON formats: a template whose strings are formats.

use serde_json::{Map, Value};

use super::format::TextFormat;
use super::output::{Form, Output, write_json_string};
use super::{FormatError, LogRecord};

/// A compiled template: JSON whose strings are formats.
#[derive(Debug)]
pub struct JsonFormat {
    fields: Vec<(String, Node)>,
    omit_empty: bool,
}

#[derive(Debug)]
enum Node {
    /// A string; printed as number or null where it is one operator with such a value.
    Format(TextFormat),
    Literal(Value),
    Map(Vec<(String, Node)>),
}

impl JsonFormat {
    /// Compiles a template; `omit_empty`: fields whose value is not there are left out.
    ///
    /// # Errors
    /// An operator is unknown or malformed, or the template holds something other than strings,
    /// numbers, booleans and maps of them.
    pub fn compile(template: &Map<String, Value>, omit_empty: bool) -> Result<Self, FormatError> {
        Ok(Self { fields: compile_map(template, "")?, omit_empty })
    }

    /// Writes a line.
    pub fn write(&self, record: &LogRecord<'_>, out: &mut Vec<u8>) {
        self.write_map(&self.fields, record, out);
        out.push(b'\n');
    }

    fn write_map(&self, fields: &[(String, Node)], record: &LogRecord<'_>, out: &mut Vec<u8>) {
        out.push(b'{');
        let mut first = true;
        for (key, node) in fields {
            let start = out.len();
            if !first {
                out.push(b',');
            }
            write_json_string(key, out);
            out.push(b':');
            let value = out.len();
            self.write_node(node, record, out);
            if self.omit_empty && &out[value..] == b"null" {
                out.truncate(start);
            } else {
                first = false;
            }
        }
        out.push(b'}');
    }

    fn write_node(&self, node: &Node, record: &LogRecord<'_>, out: &mut Vec<u8>) {
        match node {
            Node::Literal(value) => drop(serde_json::to_writer(out, value)),
            Node::Map(fields) => self.write_map(fields, record, out),
            Node::Format(format) => match format.sole_operator() {
                Some(operator) => operator.write(record, &mut Output::new(out, Form::Json)),
                None => {
                    let mut text = Vec::new();
                    format.write(record, &mut text);
                    write_json_string(&String::from_utf8_lossy(&text), out);
                }
            },
        }
    }
}

fn compile_map(
    template: &Map<String, Value>,
    path: &str,
) -> Result<Vec<(String, Node)>, FormatError> {
    let compile = |(key, value): (&String, &Value)| {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let node = match value {
            Value::String(format) => Node::Format(TextFormat::parse(format)?),
            Value::Number(_) | Value::Bool(_) => Node::Literal(value.clone()),
            Value::Object(inner) => Node::Map(compile_map(inner, &path)?),
            Value::Array(_) | Value::Null => return Err(FormatError::Template { key: path }),
        };
        Ok((key.clone(), node))
    };
    template.iter().map(compile).collect()
}
