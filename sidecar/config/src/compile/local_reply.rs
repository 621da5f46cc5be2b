//! What replies made by the proxy look like (`local_reply_config`).

use http::{HeaderValue, StatusCode};
use weft_filters::config::{FieldError, Within, header_mutations, header_value, text_format};
use weft_model::{LocalReplies, ReplyFormat, ReplyMapper, ReplyTemplate};
use weft_telemetry::JsonFormat;
use weft_xds_proto::pb::envoy::config::core::v3::{
    SubstitutionFormatString, substitution_format_string::Format,
};
use weft_xds_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    LocalReplyConfig, ResponseMapper,
};
use weft_xds_proto::struct_to_json;

use super::access_log::log_filter;
use super::data::data;

/// Compiles the configuration; `None`: it changes nothing.
pub(super) fn local_replies(
    config: Option<&LocalReplyConfig>,
) -> Result<Option<Box<LocalReplies>>, FieldError> {
    let Some(config) = config else { return Ok(None) };
    if config.mappers.is_empty() && config.body_format.is_none() {
        return Ok(None);
    }
    let mut mappers = Vec::with_capacity(config.mappers.len());
    for (index, one) in config.mappers.iter().enumerate() {
        mappers.push(mapper(one).within_item("mappers", index)?);
    }
    let format = config.body_format.as_ref().map(format).transpose().within("body_format")?;
    Ok(Some(Box::new(LocalReplies { mappers, format })))
}

fn mapper(config: &ResponseMapper) -> Result<ReplyMapper, FieldError> {
    let filter = config.filter.as_ref().ok_or_else(|| FieldError::missing("filter"))?;
    let status = config.status_code.as_ref().map(|code| status(code.value)).transpose();
    let body = config.body.as_ref().map(|body| data(Some(body))).transpose();
    let own = config.body_format_override.as_ref().map(format).transpose();
    Ok(ReplyMapper {
        filter: log_filter(filter).within("filter")?,
        status: status.within("status_code")?,
        body: body.within("body")?,
        format: own.within("body_format_override")?,
        headers: header_mutations(&config.headers_to_add, &[], "headers_to_add")?,
    })
}

fn status(code: u32) -> Result<StatusCode, FieldError> {
    let status = u16::try_from(code).ok().filter(|code| (200..600).contains(code));
    status
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or_else(|| FieldError::new(format!("{code} is not a status from 200 to 599")))
}

fn format(config: &SubstitutionFormatString) -> Result<ReplyFormat, FieldError> {
    let omit_empty = config.omit_empty_values;
    let (template, usual) = match &config.format {
        None => return Err(FieldError::missing("text_format_source")),
        #[expect(deprecated, reason = "control planes still send it")]
        Some(Format::TextFormat(text)) => (self::text(text, omit_empty)?, "text/plain"),
        Some(Format::TextFormatSource(source)) => {
            let bytes = data(Some(source)).within("text_format_source")?;
            (self::text(&String::from_utf8_lossy(&bytes), omit_empty)?, "text/plain")
        }
        Some(Format::JsonFormat(template)) => {
            let compiled = JsonFormat::compile(&struct_to_json(template), omit_empty);
            let compiled = compiled.map_err(|error| FieldError::new(error.to_string()));
            (ReplyTemplate::Json(compiled.within("json_format")?), "application/json")
        }
    };
    let content_type = match config.content_type.as_str() {
        "" => HeaderValue::from_static(usual),
        other => header_value(other.as_bytes()).within("content_type")?,
    };
    Ok(ReplyFormat { template, content_type })
}

fn text(text: &str, omit_empty: bool) -> Result<ReplyTemplate, FieldError> {
    Ok(ReplyTemplate::Text { format: text_format(text)?, omit_empty })
}
