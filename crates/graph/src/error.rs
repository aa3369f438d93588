//! The error envelope (contract 6.1): every answer of 400 and above carries one, else SDKs show an opaque error.

use serde_json::{Value, json};

/// What an error says besides its code and message.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// `2025-01-01T00:00:00`, in UTC, without a zone: as Graph prints it.
    pub date: &'a str,
    pub request_id: &'a str,
    pub client_request_id: &'a str,
}

/// A further remark of an error.
#[derive(Clone, Copy, Debug)]
pub struct Detail<'a> {
    pub code: &'a str,
    pub message: &'a str,
    pub target: &'a str,
}

/// `target` names the property that is wrong.
pub fn envelope(
    code: &str,
    message: &str,
    target: Option<&str>,
    detail: Option<Detail<'_>>,
    context: Context<'_>,
) -> Value {
    let details: Vec<_> = detail
        .iter()
        .map(|detail| json!({"code": detail.code, "message": detail.message, "target": detail.target}))
        .collect();
    json!({"error": {
        "code": code,
        "message": message,
        "target": target,
        "details": details,
        "innerError": {
            "date": context.date,
            "request-id": context.request_id,
            "client-request-id": context.client_request_id,
        },
    }})
}
