use serde_json::json;

use super::*;

fn check(schema: Value, mut value: Value) -> Result<(), String> {
    Schema::new(schema).check(&mut value)
}

fn message(schema: Value, value: Value) -> String {
    check(schema, value).expect_err("a wrong value")
}

#[track_caller]
fn expect(cases: Vec<(Value, Value, &str)>) {
    for (schema, value, expected) in cases {
        assert_eq!(message(schema.clone(), value.clone()), expected, "{schema} {value}");
    }
}

#[test]
fn messages_about_tables_are_apisix_s() {
    expect(vec![
        (json!({"required": ["x"]}), json!({}), "property \"x\" is required"),
        (
            json!({"properties": {"x": {"type": "string"}}}),
            json!({"x": 1}),
            "property \"x\" validation failed: wrong type: expected string, got number",
        ),
        (
            json!({"additionalProperties": false}),
            json!({"x": 1}),
            "additional properties forbidden, found x",
        ),
        (
            json!({"patternProperties": {".*": {"type": "string"}}}),
            json!({"k": 1}),
            "failed to validate k (matching \".*\"): wrong type: expected string, got number",
        ),
        (json!({"minProperties": 1}), json!({}), "expect object to have at least 1 properties"),
        (json!({"minItems": 1}), json!([]), "expect array to have at least 1 items"),
        (json!({"minItems": 1}), json!({}), "expect array to have at least 1 items"),
        (json!({"maxItems": 1}), json!([1, 2]), "expect array to have at most 1 items"),
        (
            json!({"uniqueItems": true}),
            json!(["a", "b", "a"]),
            "expected unique items but items 1 and 3 are equal",
        ),
        (
            json!({"items": {"type": "string"}}),
            json!(["a", 1]),
            "failed to validate item 2: wrong type: expected string, got number",
        ),
    ]);
}

#[test]
fn messages_about_single_values_are_apisix_s() {
    let text = || json!({"type": "string", "minLength": 2, "maxLength": 3, "pattern": "^a\\.?"});
    expect(vec![
        (json!({"type": "object"}), json!([1]), "wrong type: expected object, got table"),
        (json!({"type": "string"}), json!(null), "wrong type: expected string, got userdata"),
        (json!({"type": "integer"}), json!(1.5), "wrong type: expected integer, got number"),
        (json!({"enum": ["a"]}), json!("b"), "matches none of the enum values"),
        (text(), json!("bc"), "failed to match pattern \"^a\\\\.?\" with \"bc\""),
        (text(), json!("a"), "string too short, expected at least 2, got 1"),
        (text(), json!("aaaa"), "string too long, expected at most 3, got 4"),
        (json!({"minimum": 1}), json!(0), "expected 0 to be at least 1"),
        (json!({"exclusiveMinimum": 0}), json!(0), "expected 0 to be greater than 0"),
        (json!({"maximum": 1}), json!(2.5), "expected 2.5 to be at most 1"),
        (json!({"format": "ipv4"}), json!("1.2.3"), "expect valid ipv4 format but got: 1.2.3"),
    ]);
}

#[test]
fn messages_about_combinations_are_apisix_s() {
    let one = |rest: &str| format!("value should match only one schema, but matches {rest}");
    expect(vec![
        (
            json!({"anyOf": [{"required": ["a"]}, {"required": ["b"]}]}),
            json!({}),
            "object matches none of the required: [\"a\"] or [\"b\"]",
        ),
        (json!({"anyOf": [{"type": "string"}]}), json!(1), "object matches none of the required"),
        (json!({"oneOf": [{"type": "string"}]}), json!(1), &one("none")),
        (
            json!({"oneOf": [{"type": "number"}, {"type": "integer"}]}),
            json!(1),
            &one("both schemas 1 and 2"),
        ),
        (
            json!({"allOf": [{"required": ["x"]}]}),
            json!({}),
            "allOf 1 failed: property \"x\" is required",
        ),
        (
            json!({"if": {"required": ["a"]}, "then": {"required": ["b"]}}),
            json!({"a": 1}),
            "then clause did not match",
        ),
        (json!({"not": {"type": "number"}}), json!(1), "value wasn't supposed to match schema"),
    ]);
}

#[test]
fn an_empty_table_is_object_and_array() {
    assert_eq!(check(json!({"type": "object"}), json!([])), Ok(()));
    assert_eq!(check(json!({"type": "array"}), json!({})), Ok(()));
}

#[test]
fn references_to_secrets_skip_the_checks_of_strings() {
    let schema = json!({"type": "string", "minLength": 100});
    assert_eq!(check(schema.clone(), json!("$secret://vault/1/a")), Ok(()));
    assert_eq!(check(schema.clone(), json!("$ENV://A")), Ok(()));
    assert!(check(schema, json!("$other://A")).is_err());
}
