//! Merging a part of a pod into a pod, in the manner of Kubernetes' strategic merge.

use serde_json::{Map, Value};

/// Lists of pods whose elements have a key of their own.
const KEYS: &[(&str, &str)] = &[
    ("containers", "name"),
    ("initContainers", "name"),
    ("ephemeralContainers", "name"),
    ("volumes", "name"),
    ("env", "name"),
    ("imagePullSecrets", "name"),
    ("volumeMounts", "mountPath"),
    ("volumeDevices", "devicePath"),
    ("ports", "containerPort"),
    ("hostAliases", "ip"),
    ("sysctls", "name"),
    ("readinessGates", "conditionType"),
    ("topologySpreadConstraints", "topologyKey"),
];

/// Merges `part` into `base`: objects by their fields, keyed lists by their elements, everything
/// else is replaced. `null` takes a field away; an element with `$patch: delete` takes its like away.
pub(crate) fn merge(base: &mut Value, part: &Value) {
    match (base, part) {
        (Value::Object(base), Value::Object(part)) => merge_objects(base, part),
        (base, part) => *base = part.clone(),
    }
}

fn merge_objects(base: &mut Map<String, Value>, part: &Map<String, Value>) {
    for (field, value) in part {
        if value.is_null() {
            base.remove(field);
            continue;
        }
        let key = KEYS.iter().find(|(list, _)| list == field).map(|(_, key)| *key);
        match (key, base.get_mut(field), value) {
            (Some(key), Some(Value::Array(known)), Value::Array(new)) => {
                merge_lists(known, new, key);
            }
            (_, Some(known), _) => merge(known, value),
            (_, None, _) => {
                base.insert(field.clone(), value.clone());
            }
        }
    }
}

fn merge_lists(base: &mut Vec<Value>, part: &[Value], key: &str) {
    for element in part {
        let same =
            |other: &Value| other.get(key).is_some_and(|name| Some(name) == element.get(key));
        let at = base.iter().position(same);
        if element.get("$patch").is_some_and(|patch| patch == "delete") {
            if let Some(at) = at {
                base.remove(at);
            }
            continue;
        }
        match at {
            Some(at) => merge(&mut base[at], element),
            None => base.push(element.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn elements_are_merged_by_their_keys() {
        let mut base =
            json!({"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}]}], "x": 1});
        merge(
            &mut base,
            &json!({"containers": [
                {"name": "b"},
                {"name": "a", "env": [{"name": "X", "value": "2"}, {"name": "Y", "value": "3"}]},
            ], "x": null}),
        );
        let expected = json!({"containers": [
            {"name": "a", "env": [{"name": "X", "value": "2"}, {"name": "Y", "value": "3"}]},
            {"name": "b"},
        ]});
        assert_eq!(base, expected);
        merge(&mut base, &json!({"containers": [{"name": "a", "$patch": "delete"}]}));
        assert_eq!(base, json!({"containers": [{"name": "b"}]}));
    }
}
