//! `GET /communications/calls/{id}/participants` and one of them (contract 3.4).

use axum::extract::{Path, State};
use control::ParticipantId;
use http::StatusCode;

use crate::api::error::ApiError;
use crate::api::exchange::{Ask, Reply, call_id};
use crate::api::service::Service;
use crate::api::to_graph;

/// Everyone this application may see, itself included; of a peer-to-peer call, both parties.
pub(in crate::api) async fn participants(
    State(service): State<Service>,
    Path(call): Path<String>,
    ask: Ask,
) -> Result<Reply, ApiError> {
    ask.caller.is_application()?;
    let (call, form) = (call_id(&call)?, ask.form);
    let read = service.engine.read(ask.by(), call, move |conference, _| {
        conference.call(call).map(|call| to_graph::roster(conference, call, form))
    });
    let value = read.await?.ok_or(ApiError::NotFound("Call"))?;
    let context = ask.exchange.context(&format!("communications/calls('{call}')/participants"));
    Ok(Reply::collection(value, &context).selected(&ask.exchange))
}

pub(in crate::api) async fn participant(
    State(service): State<Service>,
    Path((call, participant)): Path<(String, String)>,
    ask: Ask,
) -> Result<Reply, ApiError> {
    ask.caller.is_application()?;
    let (call, form) = (call_id(&call)?, ask.form);
    let wanted = participant.parse::<ParticipantId>().ok();
    let read = service.engine.read(ask.by(), call, move |conference, _| {
        let call = conference.call(call)?;
        Some(wanted.and_then(|id| to_graph::roster_entry(conference, call, id, form)))
    });
    let found = read.await?.ok_or(ApiError::NotFound("Call"))?;
    let body = found.ok_or(ApiError::NotFound("Participant"))?;
    let context = ask.exchange.context(&format!("communications/calls('{call}')/participants/$entity"));
    Ok(Reply::entity(StatusCode::OK, body, &context).selected(&ask.exchange))
}
