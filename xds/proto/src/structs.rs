//! `google.protobuf.Struct` and `serde_json::Value`, both ways.

use serde_json::{Map, Number, Value as Json};

use crate::pb::google::protobuf::{ListValue, Struct, Value, value::Kind};

/// The JSON object that a `Struct` stands for. Whole numbers that a double holds exactly become
/// integers, so that `5` does not come back as `5.0`; numbers that JSON can't hold become null.
#[must_use]
pub fn struct_to_json(value: &Struct) -> Map<String, Json> {
    value.fields.iter().map(|(name, value)| (name.clone(), value_to_json(value))).collect()
}

/// The `Struct` of a JSON object. Numbers become doubles, as protobuf has it.
#[must_use]
pub fn json_to_struct(object: &Map<String, Json>) -> Struct {
    Struct {
        fields: object.iter().map(|(name, value)| (name.clone(), json_to_value(value))).collect(),
    }
}

/// The JSON that a `google.protobuf.Value` stands for.
#[must_use]
pub fn value_to_json(value: &Value) -> Json {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(flag)) => Json::Bool(*flag),
        Some(Kind::NumberValue(number)) => number_to_json(*number),
        Some(Kind::StringValue(text)) => Json::String(text.clone()),
        Some(Kind::ListValue(list)) => Json::Array(list.values.iter().map(value_to_json).collect()),
        Some(Kind::StructValue(fields)) => Json::Object(struct_to_json(fields)),
    }
}

/// The `google.protobuf.Value` of any JSON.
#[must_use]
pub fn json_to_value(json: &Json) -> Value {
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(flag) => Kind::BoolValue(*flag),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Kind::StringValue(text.clone()),
        Json::Array(items) => {
            Kind::ListValue(ListValue { values: items.iter().map(json_to_value).collect() })
        }
        Json::Object(object) => Kind::StructValue(json_to_struct(object)),
    };
    Value { kind: Some(kind) }
}

/// Largest magnitude below which every whole double is an exact integer (2^53).
const EXACT: f64 = 9_007_199_254_740_992.0;

fn number_to_json(number: f64) -> Json {
    if number.fract() == 0.0 && number.abs() <= EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
        let whole = number as i64;
        return Json::from(whole);
    }
    Number::from_f64(number).map_or(Json::Null, Json::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_survives_the_way_through_a_struct() {
        let json = json!({"a": 5, "b": -1.5, "c": [true, null, "x"], "d": {"e": {}}});
        let Json::Object(object) = &json else { unreachable!() };
        assert_eq!(Json::Object(struct_to_json(&json_to_struct(object))), json);
    }

    #[test]
    fn numbers_that_json_lacks_become_null() {
        let value = Value { kind: Some(Kind::NumberValue(f64::INFINITY)) };
        assert_eq!(value_to_json(&value), Json::Null);
    }
}
