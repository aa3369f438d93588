//! `POST …/onlineMeetings/createOrGet`: one meeting per `externalId`, however often it is asked for.

use axum::extract::{Path, State};
use control::UserId;
use graph::OnlineMeeting;
use http::StatusCode;

use super::drafting::{entity, made, organizer_in};
use crate::api::error::ApiError;
use crate::api::exchange::{Ask, Reply};
use crate::api::from_graph::meeting;
use crate::api::service::Service;
use crate::auth::{Permission, wall_clock};

pub(in crate::api) async fn create_or_get(State(service): State<Service>, ask: Ask) -> Result<Reply, ApiError> {
    ask.caller.may(&[Permission::WriteMeetings])?;
    let body: OnlineMeeting = ask.json()?;
    let organizer = organizer_in(&ask, &service, &body)?;
    obtained(&ask, &service, body, organizer).await
}

pub(in crate::api) async fn create_or_get_for_user(
    State(service): State<Service>,
    Path(user): Path<String>,
    ask: Ask,
) -> Result<Reply, ApiError> {
    ask.caller.may(&[Permission::WriteMeetings])?;
    let user = super::user(&ask, &service.directory(), &user)?;
    obtained(&ask, &service, ask.json()?, Some(user)).await
}

async fn obtained(
    ask: &Ask,
    service: &Service,
    body: OnlineMeeting,
    organizer: Option<UserId>,
) -> Result<Reply, ApiError> {
    let draft = meeting(body, wall_clock())?;
    if draft.external_id.as_ref().is_none_or(String::is_empty) {
        return Err(ApiError::Invalid(graph::Bad::at("externalId", "is required")));
    }
    let get = |meeting| service.store.create_or_get_meeting(meeting);
    let obtained = made(ask, &draft, organizer, get).await?;
    let status = if obtained.created { StatusCode::CREATED } else { StatusCode::OK };
    Ok(entity(ask, service, status, &obtained.meeting))
}
