//! Access logs.

mod collector;

use std::io;
use std::path::Path;
use std::sync::Arc;

use weft_filters::config::{FieldError, Within, decode};
use weft_telemetry::{
    AccessLog, Comparison, DEFAULT_FORMAT, FormatError, LogFilter, LogSink, ResponseFlag,
};
use weft_xds_proto::any::type_name;
use weft_xds_proto::pb::envoy::config::accesslog::v3::{
    AccessLog as PbLog, AccessLogFilter, ComparisonFilter, access_log::ConfigType,
    access_log_filter::FilterSpecifier, comparison_filter::Op,
};
use weft_xds_proto::pb::envoy::config::core::v3::{
    SubstitutionFormatString, data_source::Specifier, substitution_format_string::Format,
};
use weft_xds_proto::pb::envoy::extensions::access_loggers::file::v3::{
    FileAccessLog, file_access_log::AccessLogFormat,
};
use weft_xds_proto::pb::envoy::extensions::access_loggers::stream::v3::{
    StderrAccessLog, StdoutAccessLog, stderr_access_log, stdout_access_log,
};
use weft_xds_proto::pb::google::protobuf::{Any, Struct};
use weft_xds_proto::struct_to_json;

use super::Cx;

/// Compiles the access logs in the field `field`. Loggers that Weft does not have are left out with a
/// warning: nothing about the traffic changes. Without `cx` there are no collectors.
pub(crate) fn access_logs(
    cx: Option<&Cx<'_>>,
    configs: &[PbLog],
    field: &str,
) -> Result<Vec<Arc<AccessLog>>, FieldError> {
    let mut logs = Vec::with_capacity(configs.len());
    for (index, config) in configs.iter().enumerate() {
        let log = access_log(cx, config).within_item(field, index)?;
        logs.extend(log.map(Arc::new));
    }
    Ok(logs)
}

/// The log in Envoy's default format at `path`.
pub(crate) fn file_log(path: &str) -> Result<Arc<AccessLog>, FieldError> {
    let sink = LogSink::file(Path::new(path)).map_err(|error| sink_error(path, &error))?;
    formatted(None, sink, None).map(Arc::new)
}

fn access_log(cx: Option<&Cx<'_>>, config: &PbLog) -> Result<Option<AccessLog>, FieldError> {
    let Some(ConfigType::TypedConfig(any)) = &config.config_type else {
        return Err(FieldError::missing("typed_config"));
    };
    let filter = match &config.filter {
        None => None,
        Some(filter) => Some(log_filter(filter).within("filter")?),
    };
    let filter = filter.flatten();
    logger(cx, any, filter, &config.name).within("typed_config")
}

fn logger(
    cx: Option<&Cx<'_>>,
    any: &Any,
    filter: Option<LogFilter>,
    name: &str,
) -> Result<Option<AccessLog>, FieldError> {
    match type_name(&any.type_url) {
        "envoy.extensions.access_loggers.file.v3.FileAccessLog" => file(&decode(any)?, filter),
        "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog" => {
            let config: StdoutAccessLog = decode(any)?;
            let sink = LogSink::stdout().map_err(|error| sink_error("stdout", &error))?;
            let format = config.access_log_format.map(|format| match format {
                stdout_access_log::AccessLogFormat::LogFormat(format) => format,
            });
            formatted(format.as_ref(), sink, filter)
        }
        "envoy.extensions.access_loggers.stream.v3.StderrAccessLog" => {
            let config: StderrAccessLog = decode(any)?;
            let sink = LogSink::stderr().map_err(|error| sink_error("stderr", &error))?;
            let format = config.access_log_format.map(|format| match format {
                stderr_access_log::AccessLogFormat::LogFormat(format) => format,
            });
            formatted(format.as_ref(), sink, filter)
        }
        other => match cx.map(|cx| collector::logger(cx, any, filter)).transpose()?.flatten() {
            Some(log) => Ok(log),
            None => {
                tracing::warn!(
                    logger = name,
                    message = other,
                    "this access logger is not supported"
                );
                return Ok(None);
            }
        },
    }
    .map(Some)
}

fn sink_error(name: &str, error: &io::Error) -> FieldError {
    FieldError::new(format!("{name} can't be opened: {error}"))
}

fn format_error(error: &FormatError) -> FieldError {
    FieldError::new(error.to_string())
}

#[expect(deprecated, reason = "control planes still send the older formats")]
fn file(config: &FileAccessLog, filter: Option<LogFilter>) -> Result<AccessLog, FieldError> {
    if config.path.is_empty() {
        return Err(FieldError::missing("path"));
    }
    let sink = LogSink::file(Path::new(&config.path));
    let sink = sink.map_err(|error| sink_error(&config.path, &error)).within("path")?;
    match &config.access_log_format {
        None => formatted(None, sink, filter),
        Some(AccessLogFormat::LogFormat(format)) => formatted(Some(format), sink, filter),
        Some(AccessLogFormat::Format(text)) if text.is_empty() => formatted(None, sink, filter),
        Some(AccessLogFormat::Format(text)) => {
            AccessLog::text(text, sink, filter).map_err(|e| format_error(&e)).within("format")
        }
        Some(AccessLogFormat::JsonFormat(json)) => {
            json_log(json, false, sink, filter).within("json_format")
        }
        Some(AccessLogFormat::TypedJsonFormat(json)) => {
            json_log(json, false, sink, filter).within("typed_json_format")
        }
    }
}

fn json_log(
    template: &Struct,
    omit_empty: bool,
    sink: Arc<LogSink>,
    filter: Option<LogFilter>,
) -> Result<AccessLog, FieldError> {
    let log = AccessLog::json(&struct_to_json(template), omit_empty, sink, filter);
    log.map_err(|error| format_error(&error))
}

fn formatted(
    format: Option<&SubstitutionFormatString>,
    sink: Arc<LogSink>,
    filter: Option<LogFilter>,
) -> Result<AccessLog, FieldError> {
    let text = |text: &str, sink, filter| {
        AccessLog::text(text, sink, filter).map_err(|error| format_error(&error))
    };
    let Some(format) = format else { return text(DEFAULT_FORMAT, sink, filter) };
    let omit = format.omit_empty_values;
    let log = match &format.format {
        None => text(DEFAULT_FORMAT, sink, filter),
        #[expect(deprecated, reason = "control planes still send it")]
        Some(Format::TextFormat(format)) => text(format, sink, filter).within("text_format"),
        Some(Format::JsonFormat(template)) => {
            json_log(template, omit, sink, filter).within("json_format")
        }
        Some(Format::TextFormatSource(source)) => match &source.specifier {
            Some(Specifier::InlineString(format)) => {
                text(format, sink, filter).within("text_format_source.inline_string")
            }
            _ => Err(FieldError::at("text_format_source", "only inline_string is supported")),
        },
    };
    log.within("log_format")
}

/// How deep filters may be nested.
const DEPTH: usize = 16;

/// Compiles a filter. One that Weft can't evaluate lets every record pass, with a warning: logging
/// more does not change the traffic.
pub(super) fn log_filter(config: &AccessLogFilter) -> Result<Option<LogFilter>, FieldError> {
    log_filter_within(config, DEPTH)
}

fn log_filter_within(
    config: &AccessLogFilter,
    depth: usize,
) -> Result<Option<LogFilter>, FieldError> {
    use FilterSpecifier as Spec;
    let deeper = depth.checked_sub(1).ok_or_else(|| FieldError::new("is nested too deeply"))?;
    let all = |filters: &[AccessLogFilter]| -> Result<Vec<Option<LogFilter>>, FieldError> {
        let each = filters.iter().enumerate();
        each.map(|(index, one)| log_filter_within(one, deeper).within_item("filters", index))
            .collect()
    };
    Ok(match &config.filter_specifier {
        None => return Err(FieldError::new("has no condition")),
        Some(Spec::StatusCodeFilter(filter)) => {
            let (op, value) =
                comparison(filter.comparison.as_ref()).within("status_code_filter")?;
            Some(LogFilter::Status(op, value))
        }
        Some(Spec::DurationFilter(filter)) => {
            let (op, value) = comparison(filter.comparison.as_ref()).within("duration_filter")?;
            Some(LogFilter::Duration(op, value))
        }
        Some(Spec::NotHealthCheckFilter(_)) => Some(LogFilter::NotHealthCheck),
        Some(Spec::ResponseFlagFilter(filter)) => {
            Some(LogFilter::Flags(flags(&filter.flags).within("response_flag_filter")?))
        }
        Some(Spec::AndFilter(filter)) => {
            let filters = all(&filter.filters).within("and_filter")?;
            Some(LogFilter::All(filters.into_iter().flatten().collect()))
        }
        // What always holds makes the whole disjunction hold.
        Some(Spec::OrFilter(filter)) => {
            let filters: Option<Vec<_>> =
                all(&filter.filters).within("or_filter")?.into_iter().collect();
            filters.map(LogFilter::Any)
        }
        Some(_) => {
            tracing::warn!("this access log filter is not supported; every record passes");
            None
        }
    })
}

fn comparison(config: Option<&ComparisonFilter>) -> Result<(Comparison, u64), FieldError> {
    let config = config.ok_or_else(|| FieldError::missing("comparison"))?;
    let op = match Op::try_from(config.op) {
        Ok(Op::Eq) => Comparison::Equal,
        Ok(Op::Ge) => Comparison::AtLeast,
        Ok(Op::Le) => Comparison::AtMost,
        Ok(Op::Ne) => Comparison::NotEqual,
        Err(_) => {
            let reason = format!("{} is not one of EQ, GE, LE, NE", config.op);
            return Err(FieldError::at("comparison.op", reason));
        }
    };
    let value = config.value.as_ref().ok_or_else(|| FieldError::missing("comparison.value"))?;
    Ok((op, value.default_value.into()))
}

fn flags(names: &[String]) -> Result<Vec<ResponseFlag>, FieldError> {
    let find = |name: &String| ResponseFlag::ALL.into_iter().find(|flag| flag.short() == name);
    let each = names.iter().enumerate();
    each.map(|(index, name)| {
        let unknown = || FieldError::new(format!("{name:?} is not a response flag"));
        find(name).ok_or_else(unknown).within_item("flags", index)
    })
    .collect()
}
