//! `cors`: which sites' scripts may read the answers (Fetch, 3.2).

use std::sync::{Arc, LazyLock};

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, VARY,
};
use http::response::Parts as ResponseHead;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use regex::RegexSet;
use serde::Deserialize;
use serde_json::Value;

use crate::definition::{Context, Definition, decode};
use crate::exchange::{Answer, Exchange};
use crate::plugin::{Plugin, Step};
use crate::reply::Reply;

pub(crate) const DEFINITION: Definition = Definition::new(
    "cors",
    4000,
    r#"{
        "type": "object",
        "properties": {
            "allow_origins": {
                "type": "string", "default": "*",
                "pattern": "^(\\*|\\*\\*|null|\\w+://[^,]+(,\\w+://[^,]+)*)$"
            },
            "allow_methods": {"type": "string", "default": "*"},
            "allow_headers": {"type": "string", "default": "*"},
            "expose_headers": {"type": "string"},
            "max_age": {"type": "integer", "default": 5},
            "allow_credential": {"type": "boolean", "default": false},
            "allow_origins_by_regex": {
                "type": "array", "minItems": 1, "uniqueItems": true,
                "items": {"type": "string", "minLength": 1, "maxLength": 4096}
            },
            "allow_origins_by_metadata": {
                "type": "array", "minItems": 1, "uniqueItems": true,
                "items": {"type": "string", "minLength": 1, "maxLength": 4096}
            },
            "timing_allow_origins": {
                "type": "string",
                "pattern": "^(\\*|\\*\\*|null|\\w+://[^,]+(,\\w+://[^,]+)*)$"
            },
            "timing_allow_origins_by_regex": {
                "type": "array", "minItems": 1, "uniqueItems": true,
                "items": {"type": "string", "minLength": 1, "maxLength": 4096}
            }
        }
    }"#,
    compile,
)
.with_metadata(
    r#"{
        "type": "object",
        "properties": {"allow_origins": {
            "type": "object",
            "additionalProperties": {"type": "string"}
        }}
    }"#,
);

const TIMING: HeaderName = HeaderName::from_static("timing-allow-origin");
/// What `**` stands for.
const ALL_METHODS: &str = "GET,POST,PUT,DELETE,PATCH,HEAD,OPTIONS,CONNECT,TRACE";

#[derive(Debug)]
struct Cors {
    origins: Origins,
    by_metadata: Option<Vec<Origins>>,
    /// Whether the settings name origins that are tried after those of the metadata.
    named: bool,
    methods: String,
    headers: String,
    expose: Option<String>,
    max_age: i64,
    credentials: bool,
    timing: Option<Origins>,
}

/// Which origins are allowed.
#[derive(Debug)]
enum Origins {
    /// `*`
    Any,
    /// `**`: as they ask.
    Echoed,
    One(String),
    Several(Vec<String>),
    Matching(RegexSet),
}

/// What of the request decides on the response.
#[derive(Debug)]
struct Asked {
    origin: Option<String>,
    headers: Option<HeaderValue>,
}

#[derive(Deserialize)]
struct Raw {
    allow_origins: String,
    allow_methods: String,
    allow_headers: String,
    expose_headers: Option<String>,
    max_age: i64,
    allow_credential: bool,
    allow_origins_by_regex: Option<Vec<String>>,
    allow_origins_by_metadata: Option<Vec<String>>,
    timing_allow_origins: Option<String>,
    timing_allow_origins_by_regex: Option<Vec<String>>,
}

fn compile(settings: &Value, context: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    let raw: Raw = decode(settings)?;
    let open = [
        Some(&raw.allow_origins),
        Some(&raw.allow_methods),
        Some(&raw.allow_headers),
        raw.expose_headers.as_ref(),
        raw.timing_allow_origins.as_ref(),
    ];
    if raw.allow_credential && open.into_iter().flatten().any(|value| value == "*") {
        return Err("you can not set '*' for other option when 'allow_credential' is true".into());
    }
    let of_metadata = |name: &String| {
        let origins = context.metadata["allow_origins"][name.as_str()].as_str()?;
        Some(Origins::read(origins))
    };
    let by_metadata = raw.allow_origins_by_metadata.as_ref();
    let timing = match &raw.timing_allow_origins_by_regex {
        Some(patterns) => Some(Origins::matching(patterns)?),
        None => raw.timing_allow_origins.as_deref().map(Origins::read),
    };
    Ok(Arc::new(Cors {
        named: raw.allow_origins != "*",
        origins: match &raw.allow_origins_by_regex {
            Some(patterns) => Origins::matching(patterns)?,
            None => Origins::read(&raw.allow_origins),
        },
        by_metadata: by_metadata.map(|names| names.iter().filter_map(of_metadata).collect()),
        methods: match raw.allow_methods.as_str() {
            "**" => ALL_METHODS.to_owned(),
            methods => methods.to_owned(),
        },
        headers: raw.allow_headers,
        expose: raw.expose_headers.filter(|headers| !headers.is_empty()),
        max_age: raw.max_age,
        credentials: raw.allow_credential,
        timing,
    }))
}

impl Origins {
    fn read(text: &str) -> Self {
        match text {
            "*" => Self::Any,
            "**" => Self::Echoed,
            one if !one.contains(',') => Self::One(one.to_owned()),
            several => Self::Several(several.split(',').map(str::to_owned).collect()),
        }
    }

    fn matching(patterns: &[String]) -> Result<Self, String> {
        RegexSet::new(patterns).map(Self::Matching).map_err(|error| error.to_string())
    }

    /// What the client is told, where the origin may read the answer or a fixed one is named.
    fn allowed<'a>(&'a self, origin: Option<&'a str>) -> Option<&'a str> {
        match self {
            Self::Any => Some("*"),
            Self::Echoed => Some(origin.unwrap_or("*")),
            Self::One(one) => Some(one),
            Self::Several(all) => origin.filter(|origin| all.iter().any(|known| known == origin)),
            Self::Matching(patterns) => origin.filter(|origin| patterns.is_match(origin)),
        }
    }
}

impl Cors {
    fn allowed<'a>(&'a self, origin: Option<&'a str>) -> Option<&'a str> {
        let Some(by_metadata) = &self.by_metadata else { return self.origins.allowed(origin) };
        let fits = |origins: &&Origins| {
            origins.allowed(origin).is_some_and(|told| Some(told) == origin || told == "*")
        };
        if by_metadata.iter().any(|origins| fits(&origins)) {
            return origin;
        }
        self.origins.allowed(origin).filter(|_| self.named)
    }

    fn set_headers(&self, headers: &mut HeaderMap, told: &str, asked: &Asked) {
        let mut set = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        set(ACCESS_CONTROL_ALLOW_ORIGIN, told);
        set(ACCESS_CONTROL_ALLOW_METHODS, &self.methods);
        set(ACCESS_CONTROL_MAX_AGE, &self.max_age.to_string());
        if let Some(expose) = &self.expose {
            set(ACCESS_CONTROL_EXPOSE_HEADERS, expose);
        }
        if self.credentials {
            set(ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
        }
        if self.headers != "**" {
            set(ACCESS_CONTROL_ALLOW_HEADERS, &self.headers);
        } else if let Some(asked) = &asked.headers {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
        }
    }
}

impl Plugin for Cors {
    fn rewrite(&self, exchange: &mut Exchange<'_>) -> Step {
        let asked = Asked {
            origin: exchange.header("origin").map(str::to_owned),
            headers: exchange.head.headers.get("access-control-request-headers").cloned(),
        };
        exchange.keep(asked);
        if exchange.head.method == Method::OPTIONS {
            return Reply::status(200).into();
        }
        Step::Continue
    }

    fn header_filter(&self, answer: &mut Answer<'_>, head: &mut ResponseHead) {
        static NOTHING: LazyLock<Asked> = LazyLock::new(|| Asked { origin: None, headers: None });
        let asked = answer.kept::<Asked>().unwrap_or(&NOTHING);
        let origin = asked.origin.as_deref();
        if self.named {
            head.headers.append(VARY, HeaderValue::from_static("Origin"));
        }
        if let Some(told) = self.allowed(origin) {
            self.set_headers(&mut head.headers, told, asked);
        }
        let timing = self.timing.as_ref().and_then(|timing| timing.allowed(origin));
        let timing = timing.filter(|told| *told == "*" || Some(*told) == origin);
        if let Some(Ok(value)) = timing.map(HeaderValue::from_str) {
            head.headers.insert(TIMING, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::{Case, Seen, refused};

    fn answer(settings: Value, origin: &str) -> Seen {
        let mut outcome = Case::new("cors", settings).get("/").header("origin", origin).run();
        outcome.passes();
        outcome.respond(200)
    }

    #[test]
    fn without_settings_everybody_may_read() {
        let reply = answer(json!({}), "http://a.com");
        for (name, value) in [
            ("access-control-allow-origin", "*"),
            ("access-control-allow-methods", "*"),
            ("access-control-allow-headers", "*"),
            ("access-control-max-age", "5"),
        ] {
            assert_eq!(reply.header(name), Some(value), "{name}");
        }
        assert_eq!(reply.header("vary"), None);
    }

    #[test]
    fn origins_are_allowed_as_they_are_named() {
        let two = json!({"allow_origins": "http://a.com,http://b.com"});
        for (settings, origin, told) in [
            (two.clone(), "http://b.com", Some("http://b.com")),
            (two, "http://c.com", None),
            (json!({"allow_origins": "http://a.com"}), "http://c.com", Some("http://a.com")),
            (json!({"allow_origins": "**"}), "http://c.com", Some("http://c.com")),
            (
                json!({"allow_origins_by_regex": [".*\\.b.com$"]}),
                "http://x.b.com",
                Some("http://x.b.com"),
            ),
            (json!({"allow_origins_by_regex": [".*\\.b.com$"]}), "http://x.c.com", None),
        ] {
            let reply = answer(settings.clone(), origin);
            assert_eq!(reply.header("access-control-allow-origin"), told, "{settings} {origin}");
        }
    }

    #[test]
    fn a_preflight_is_answered_here() {
        let settings = json!({
            "allow_origins": "**", "allow_methods": "**", "allow_headers": "**",
            "allow_credential": true, "expose_headers": "x-a",
        });
        let case = Case::new("cors", settings).method("OPTIONS", "/");
        let case = case.header("origin", "http://a.com");
        let reply = case.header("access-control-request-headers", "x-b").run().replies(200);
        assert_eq!(reply.header("access-control-allow-origin"), Some("http://a.com"));
        assert_eq!(reply.header("access-control-allow-headers"), Some("x-b"));
        assert_eq!(reply.header("access-control-allow-credentials"), Some("true"));
        assert_eq!(reply.header("access-control-expose-headers"), Some("x-a"));
        assert_eq!(reply.header("vary"), Some("Origin"));
    }

    #[test]
    fn metadata_names_origins_too() {
        let chain = json!({
            "plugins": {"cors": {"allow_origins_by_metadata": ["k"]}},
            "metadata": {"cors": {"allow_origins": {"k": "http://a.com,http://b.com"}}},
        });
        for (origin, told) in [("http://b.com", Some("http://b.com")), ("http://c.com", None)] {
            let mut outcome = Case::chain(chain.clone()).get("/").header("origin", origin).run();
            let reply = outcome.respond(200);
            assert_eq!(reply.header("access-control-allow-origin"), told);
        }
    }

    #[test]
    fn credentials_exclude_everybody() {
        let error = refused("cors", json!({"allow_credential": true}));
        let expected = "you can not set '*' for other option when 'allow_credential' is true";
        assert_eq!(error, expected);
        assert!(refused("cors", json!({"allow_origins": "a.com"})).contains("allow_origins"));
    }
}
