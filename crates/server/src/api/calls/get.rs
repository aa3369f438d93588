//! `GET /communications/calls/{id}` (contract 3.3).

use axum::extract::{Path, State};
use http::StatusCode;

use crate::api::error::ApiError;
use crate::api::exchange::{Ask, Reply, call_id};
use crate::api::service::Service;
use crate::api::to_graph;

pub(in crate::api) async fn get(
    State(service): State<Service>,
    Path(call): Path<String>,
    ask: Ask,
) -> Result<Reply, ApiError> {
    ask.caller.is_application()?;
    let (call, form) = (call_id(&call)?, ask.form);
    let read = service.engine.read(ask.by(), call, move |conference, _| {
        conference.call(call).map(|call| (to_graph::call(conference, call, form), call.facts.scenario))
    });
    let (body, scenario) = read.await?.ok_or(ApiError::NotFound("Call"))?;
    let context = ask.exchange.context("communications/calls/$entity");
    Ok(Reply::entity(StatusCode::OK, body, &context).scenario(scenario).selected(&ask.exchange))
}
