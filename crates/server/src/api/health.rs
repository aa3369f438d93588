//! Whether the server lives, whether it serves, and its figures.

use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::json;

use super::error::ApiError;
use super::service::Service;

/// `GET /health/live`: the process answers.
pub(super) async fn live() -> Response {
    Json(json!({"status": "live"})).into_response()
}

/// `GET /health/ready`: new work is welcome, and the store answers.
pub(super) async fn ready(State(service): State<Service>) -> Response {
    let ready = service.ready.load(Ordering::Relaxed) && service.store.directory_version().await.is_ok();
    let (status, word) = if ready { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready") };
    (status, Json(json!({"status": word}))).into_response()
}

/// `GET /metrics`, for Prometheus.
pub(super) async fn metrics(State(service): State<Service>) -> Result<Response, ApiError> {
    let handle = service.metrics.as_ref().ok_or(ApiError::NoRoute)?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], handle.render()).into_response())
}
