//! The text of a refusal.

use weft_xds_proto::pb::google::rpc::Status;

use crate::Rejection;

/// `INVALID_ARGUMENT` of gRPC.
const INVALID_ARGUMENT: i32 = 3;

/// The `error_detail` that names every rejected resource with its field and the reason, one a
/// line; nothing when all were accepted.
pub(super) fn error_detail(rejected: &[Rejection]) -> Option<Status> {
    if rejected.is_empty() {
        return None;
    }
    let lines: Vec<String> = rejected
        .iter()
        .map(|one| match one.field.as_str() {
            "" => format!("{} \"{}\": {}", one.resource_type, one.name, one.reason),
            field => format!("{} \"{}\": {field}: {}", one.resource_type, one.name, one.reason),
        })
        .collect();
    Some(Status { code: INVALID_ARGUMENT, message: lines.join("\n"), details: Vec::new() })
}
