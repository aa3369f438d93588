//! `POST /communications/calls`: place a call, or join a meeting (contract 3.2).

use axum::extract::State;
use control::Conference;
use http::StatusCode;

use crate::api::error::ApiError;
use crate::api::exchange::{Ask, Reply};
use crate::api::service::Service;
use crate::api::{from_graph, to_graph};
use crate::auth::Permission;

pub(in crate::api) async fn create(State(service): State<Service>, ask: Ask) -> Result<Reply, ApiError> {
    // Which one is needed follows from the body; without any of them there is nothing to read.
    ask.caller.may(&[
        Permission::Initiate,
        Permission::InitiateGroupCall,
        Permission::JoinGroupCall,
        Permission::JoinGroupCallAsGuest,
        Permission::JoinGroupCallChat,
    ])?;
    let directory = service.directory();
    let placement = from_graph::create(&ask, &service, &directory).await?;
    let (id, scenario, form) = (placement.call, placement.scenario, ask.form);
    let render = move |conference: &Conference, _now, _answer| {
        conference.call_or_ended(id).map(|call| to_graph::placed_call(conference, call, form))
    };
    let body = service.engine.command(ask.by(), placement.place, placement.command, render).await?;
    let body = body.ok_or(ApiError::Internal)?;
    service.placed.note(ask.by(), id);
    Ok(Reply::entity(StatusCode::CREATED, body, &ask.exchange.context("communications/calls/$entity"))
        .at(ask.exchange.url(&format!("/calls/{id}")))
        .scenario(scenario))
}
