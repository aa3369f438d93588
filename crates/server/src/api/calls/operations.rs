//! `GET /communications/calls/{id}/operations` and one of them (contract 3.17).

use axum::extract::{Path, State};
use control::OperationId;
use http::StatusCode;

use crate::api::error::ApiError;
use crate::api::exchange::{Ask, Reply, call_id};
use crate::api::service::Service;
use crate::api::to_graph;

pub(in crate::api) async fn operations(
    State(service): State<Service>,
    Path(call): Path<String>,
    ask: Ask,
) -> Result<Reply, ApiError> {
    ask.caller.is_application()?;
    let (call, form) = (call_id(&call)?, ask.form);
    let read = service.engine.read(ask.by(), call, move |conference, now| {
        let visible = conference.operations().filter(|(_, operation)| to_graph::visible(operation, call, now));
        visible.map(|(id, operation)| to_graph::operation(id, operation, false, form)).collect()
    });
    let context = ask.exchange.context(&format!("communications/calls('{call}')/operations"));
    Ok(Reply::collection(read.await?, &context).selected(&ask.exchange))
}

pub(in crate::api) async fn operation(
    State(service): State<Service>,
    Path((call, operation)): Path<(String, String)>,
    ask: Ask,
) -> Result<Reply, ApiError> {
    ask.caller.is_application()?;
    let (call, form) = (call_id(&call)?, ask.form);
    let wanted = operation.parse::<OperationId>().ok();
    let read = service.engine.read(ask.by(), call, move |conference, now| {
        let id = wanted?;
        let operation = conference.operation(id).filter(|operation| to_graph::visible(operation, call, now))?;
        Some(to_graph::operation(id, operation, false, form))
    });
    let body = read.await?.ok_or(ApiError::NotFound("Operation"))?;
    Ok(Reply::entity(StatusCode::OK, body, &ask.exchange.context("inviteParticipantsOperation")))
}
