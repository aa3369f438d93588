//! `POST /communications/calls/{id}/participants/invite` (contract 3.1).

use axum::extract::{Path, State};
use control::{Answer, Conference};
use engine::Place;
use http::StatusCode;

use crate::api::error::ApiError;
use crate::api::exchange::{Ask, Reply, call_id};
use crate::api::service::Service;
use crate::api::{from_graph, to_graph};
use crate::auth::Permission;

pub(in crate::api) async fn invite(
    State(service): State<Service>,
    Path(call): Path<String>,
    ask: Ask,
) -> Result<Reply, ApiError> {
    // INV-2, INV-3
    ask.caller.may(&[Permission::InitiateGroupCall])?;
    let call = call_id(&call)?;
    // The call comes before the body: a foreign one is unknown, whatever is asked of it.
    let target = service.engine.read(ask.by(), call, from_graph::InviteTarget::of).await?;
    let directory = service.directory();
    let command = from_graph::invite(&ask, &service, &directory, call, &target).await?;
    let form = ask.form;
    let render = move |conference: &Conference, _now, answer| {
        let Answer::Operation { operation: id, repeated } = answer else { return None };
        let operation = conference.operation(id)?;
        Some((id, to_graph::operation(id, operation, !repeated, form)))
    };
    let answer = service.engine.command(ask.by(), Place::Call(call), command, render).await?;
    let (id, body) = answer.ok_or(ApiError::Internal)?;
    // INV-8
    Ok(Reply::entity(StatusCode::OK, body, &ask.exchange.context("inviteParticipantsOperation"))
        .at(ask.exchange.url(&format!("/calls/{call}/operations/{id}"))))
}
