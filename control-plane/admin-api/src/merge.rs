//! PATCH: merging objects, and replacing one node by its path.

use serde_json::{Map, Value};

use crate::error::AdminError;

/// Merges `patch` into `target`: objects field by field, arrays and empty
/// tables as a whole; `null` deletes.
pub(crate) fn merge(target: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (name, value) in patch {
        match (target.get_mut(&name), value) {
            (_, Value::Null) => drop(target.remove(&name)),
            (Some(Value::Object(old)), Value::Object(new))
                if !old.is_empty() && !new.is_empty() =>
            {
                merge(old, new);
            }
            (_, value) => drop(target.insert(name, value)),
        }
    }
}

/// Sets the node at `path` to `value`; objects on the way are made.
pub(crate) fn replace_at(
    target: &mut Value,
    path: &[String],
    value: Value,
) -> Result<(), AdminError> {
    let Some((last, way)) = path.split_last() else {
        *target = value;
        return Ok(());
    };
    let mut node = target;
    for (depth, name) in way.iter().enumerate() {
        let invalid = || invalid_path(&path[..=depth]);
        let fields = node.as_object_mut().ok_or_else(invalid)?;
        node = fields.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
        if !node.is_object() {
            return Err(invalid());
        }
    }
    let fields = node.as_object_mut().ok_or_else(|| invalid_path(path))?;
    fields.insert(last.clone(), value);
    Ok(())
}

fn invalid_path(path: &[String]) -> AdminError {
    AdminError::invalid(format!("invalid sub-path: /{}", path.join("/")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(mut target: Value, patch: Value) -> Value {
        let (Some(fields), Value::Object(patch)) = (target.as_object_mut(), patch) else {
            panic!("no objects");
        };
        merge(fields, patch);
        target
    }

    #[test]
    fn objects_merge_arrays_replace_and_null_deletes() {
        let target = json!({"a": {"b": 1, "c": 2}, "d": [1, 2], "e": 3});
        let patch = json!({"a": {"b": null, "x": {"y": 1}}, "d": [3], "e": null});
        assert_eq!(merged(target, patch), json!({"a": {"c": 2, "x": {"y": 1}}, "d": [3]}));
    }

    #[test]
    fn an_empty_table_replaces() {
        assert_eq!(merged(json!({"a": {"b": 1}}), json!({"a": {}})), json!({"a": {}}));
    }

    #[test]
    fn a_path_makes_what_is_missing_and_refuses_what_is_no_object() {
        let path = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
        let mut target = json!({"a": {"b": 1}});
        replace_at(&mut target, &path("x/y"), json!([1])).expect("made");
        assert_eq!(target, json!({"a": {"b": 1}, "x": {"y": [1]}}));
        let error = replace_at(&mut target, &path("a/b/c"), json!(1)).expect_err("a number");
        assert_eq!(error.to_string(), "invalid sub-path: /a/b");
    }
}
