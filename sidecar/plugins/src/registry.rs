//! Every plugin, one line each, and how its configuration is checked.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::Value;
use weft_apisix::Schema;

use crate::definition::Definition;
use crate::link::Link;
use crate::{
    api_breaker, basic_auth, brotli, client_control, consumer_restriction, cors, csrf,
    fault_injection, file_logger, forward_auth, gzip, hmac_auth, http_logger, ip_restriction,
    jwt_auth, key_auth, limit_conn, limit_count, limit_req, mocking, multi_auth, opa, prometheus,
    public_api, real_ip, referer_restriction, request_id, request_validation, response_rewrite,
    syslog, tcp_logger, ua_restriction, udp_logger, uri_blocker, workflow,
};

/// By priority, highest first.
const ALL: &[&Definition] = &[
    &real_ip::DEFINITION,
    &client_control::DEFINITION,
    &request_id::DEFINITION,
    &fault_injection::DEFINITION,
    &mocking::DEFINITION,
    &cors::DEFINITION,
    &ip_restriction::DEFINITION,
    &ua_restriction::DEFINITION,
    &referer_restriction::DEFINITION,
    &csrf::DEFINITION,
    &uri_blocker::DEFINITION,
    &request_validation::DEFINITION,
    &multi_auth::DEFINITION,
    &hmac_auth::DEFINITION,
    &basic_auth::DEFINITION,
    &jwt_auth::DEFINITION,
    &key_auth::DEFINITION,
    &consumer_restriction::DEFINITION,
    &forward_auth::DEFINITION,
    &opa::DEFINITION,
    &workflow::DEFINITION,
    &api_breaker::DEFINITION,
    &limit_conn::DEFINITION,
    &limit_count::DEFINITION,
    &limit_req::DEFINITION,
    &brotli::DEFINITION,
    &gzip::DEFINITION,
    &response_rewrite::DEFINITION,
    &public_api::DEFINITION,
    &prometheus::DEFINITION,
    &http_logger::DEFINITION,
    &tcp_logger::DEFINITION,
    &syslog::DEFINITION,
    &udp_logger::DEFINITION,
    &file_logger::DEFINITION,
];

/// A plugin's schemas, compiled.
struct Schemas {
    own: Schema,
    consumer: Option<Schema>,
    metadata: Option<Schema>,
}

static SCHEMAS: LazyLock<HashMap<&'static str, Schemas>> = LazyLock::new(|| {
    let read = |text: &str| -> Value {
        serde_json::from_str(text).expect("invariant: the schemas are read in a test")
    };
    let schemas = |definition: &Definition| Schemas {
        own: Schema::new(read(definition.schema)),
        consumer: definition.consumer.as_ref().map(|side| Schema::new(read(side.schema))),
        metadata: definition.metadata.map(|text| Schema::new(read(text))),
    };
    ALL.iter().map(|definition| (definition.name, schemas(definition))).collect()
});

/// The plugins that proxies run, by priority, highest first.
#[must_use]
pub fn definitions() -> &'static [&'static Definition] {
    ALL
}

/// The plugin of this name.
#[must_use]
pub fn definition(name: &str) -> Option<&'static Definition> {
    ALL.iter().find(|definition| definition.name == name).copied()
}

pub(crate) fn schema(definition: &Definition) -> &'static Schema {
    &SCHEMAS[definition.name].own
}

pub(crate) fn consumer_schema(definition: &Definition) -> Option<&'static Schema> {
    SCHEMAS[definition.name].consumer.as_ref()
}

/// Checks what a consumer says and fills in defaults.
pub(crate) fn complete_consumer(
    definition: &Definition,
    settings: &mut Value,
) -> Result<(), String> {
    let Some(side) = &definition.consumer else { return Ok(()) };
    consumer_schema(definition).map_or(Ok(()), |schema| schema.check(settings))?;
    (side.check)(settings)
}

impl Definition {
    /// The schema of its configuration.
    #[must_use]
    pub fn schema_json(&self) -> Value {
        schema(self).json().clone()
    }

    /// The schema of what it says of consumers.
    #[must_use]
    pub fn consumer_schema_json(&self) -> Option<Value> {
        consumer_schema(self).map(|schema| schema.json().clone())
    }

    /// Checks its metadata.
    ///
    /// # Errors
    /// APISIX's message for what is wrong.
    pub fn check_metadata(&self, value: &Value) -> Result<(), String> {
        let schema = SCHEMAS[self.name].metadata.as_ref();
        schema.map_or(Ok(()), |schema| schema.check(&mut value.clone()))
    }
}

/// Checks a plugin's configuration as a proxy will compile it; `None` if there is no such plugin.
#[must_use]
pub fn check(name: &str, settings: &Value) -> Option<Result<(), String>> {
    definition(name)?;
    Some(Link::compile(name, settings, "", &Value::Null).map(drop))
}

/// Checks what a consumer or a credential says of a plugin that authenticates; `None` if there is
/// no such plugin.
#[must_use]
pub fn check_consumer(name: &str, settings: &Value) -> Option<Result<(), String>> {
    let definition = definition(name)?;
    definition.consumer.as_ref()?;
    let mut settings = settings.clone();
    settings.as_object_mut().and_then(|fields| fields.remove("_meta"));
    Some(complete_consumer(definition, &mut settings))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_stand_in_the_order_of_their_priority_and_their_schemas_are_read() {
        assert!(ALL.windows(2).all(|pair| pair[0].priority > pair[1].priority));
        for definition in ALL {
            assert_eq!(schema(definition).json()["type"], "object", "{}", definition.name);
            if let (Some(side), Some(schema)) = (&definition.consumer, consumer_schema(definition))
            {
                assert!(schema.json()["properties"][side.key].is_object());
            }
        }
    }
}
