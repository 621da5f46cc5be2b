//! The difference of two documents as a JSON Patch (RFC 6902).

use serde::Serialize;
use serde_json::Value;

/// One operation of a patch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Operation {
    /// Puts a value in; in a list, before the element that is there.
    Add {
        /// JSON Pointer (RFC 6901).
        path: String,
        /// The value.
        value: Value,
    },
    /// Takes a value out.
    Remove {
        /// JSON Pointer.
        path: String,
    },
    /// Puts a value in another's place.
    Replace {
        /// JSON Pointer.
        path: String,
        /// The value.
        value: Value,
    },
}

/// What makes `before` into `after`.
#[must_use]
pub fn difference(before: &Value, after: &Value) -> Vec<Operation> {
    let mut operations = Vec::new();
    compare("", before, after, &mut operations);
    operations
}

fn compare(path: &str, before: &Value, after: &Value, operations: &mut Vec<Operation>) {
    match (before, after) {
        _ if before == after => {}
        (Value::Object(old), Value::Object(new)) => {
            for (key, old) in old {
                let path = format!("{path}/{}", escape(key));
                match new.get(key) {
                    Some(new) => compare(&path, old, new, operations),
                    None => operations.push(Operation::Remove { path }),
                }
            }
            for (key, value) in new.iter().filter(|(key, _)| !old.contains_key(*key)) {
                let path = format!("{path}/{}", escape(key));
                operations.push(Operation::Add { path, value: value.clone() });
            }
        }
        (Value::Array(old), Value::Array(new)) => compare_lists(path, old, new, operations),
        _ => operations.push(Operation::Replace { path: path.to_owned(), value: after.clone() }),
    }
}

/// Elements are the same if their names are, or else if they are equal.
fn compare_lists(path: &str, old: &[Value], new: &[Value], operations: &mut Vec<Operation>) {
    let mut places = Vec::with_capacity(old.len());
    let mut from = 0;
    for element in old {
        let Some(at) = new[from..].iter().position(|candidate| same(element, candidate)) else {
            let (path, value) = (path.to_owned(), Value::Array(new.to_vec()));
            operations.push(Operation::Replace { path, value });
            return;
        };
        places.push(from + at);
        from += at + 1;
    }
    let mut old = old.iter();
    for (at, value) in new.iter().enumerate() {
        let path = format!("{path}/{at}");
        if places.contains(&at) {
            if let Some(before) = old.next() {
                compare(&path, before, value, operations);
            }
        } else {
            operations.push(Operation::Add { path, value: value.clone() });
        }
    }
}

fn same(one: &Value, other: &Value) -> bool {
    match (one.get("name"), other.get("name")) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn applied(before: &Value, after: &Value) -> Value {
        let patch = serde_json::to_value(difference(before, after)).unwrap();
        let patch: json_patch::Patch = serde_json::from_value(patch).unwrap();
        let mut document = before.clone();
        json_patch::patch(&mut document, &patch).unwrap();
        document
    }

    #[test]
    fn an_element_is_added_where_it_belongs_and_no_other_is_touched() {
        let before = json!({"c": [{"name": "a", "x": 1}, {"name": "b"}]});
        let after = json!({"c": [{"name": "new"}, {"name": "a", "x": 2}, {"name": "b"}]});
        let expected = json!([
            {"op": "add", "path": "/c/0", "value": {"name": "new"}},
            {"op": "replace", "path": "/c/1/x", "value": 2},
        ]);
        assert_eq!(serde_json::to_value(difference(&before, &after)).unwrap(), expected);
        assert_eq!(applied(&before, &after), after);
    }

    #[test]
    fn keys_with_slashes_are_escaped() {
        let (before, after) = (json!({"a": {"x/y~z": 1}}), json!({"a": {"x/y~z": 2, "w/v": 3}}));
        assert_eq!(applied(&before, &after), after);
    }

    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0..4i64).prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[ab/~n]|name", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_patch_makes_the_one_into_the_other(before in document(), after in document()) {
            prop_assert_eq!(applied(&before, &after), after);
        }
    }
}
