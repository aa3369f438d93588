//! `POST /users/{id}/onlineMeetings` and `POST /communications/onlineMeetings`.

use axum::extract::{Path, State};
use control::UserId;
use graph::OnlineMeeting;
use http::StatusCode;
use store::Meeting;

use super::drafting::{entity, made, organizer_in};
use crate::api::error::ApiError;
use crate::api::exchange::{Ask, Reply};
use crate::api::from_graph::meeting;
use crate::api::service::Service;
use crate::auth::{Permission, wall_clock};

pub(in crate::api) async fn create(State(service): State<Service>, ask: Ask) -> Result<Reply, ApiError> {
    ask.caller.may(&[Permission::WriteMeetings])?;
    let body: OnlineMeeting = ask.json()?;
    let organizer = organizer_in(&ask, &service, &body)?;
    created(&ask, &service, body, organizer).await
}

pub(in crate::api) async fn create_for_user(
    State(service): State<Service>,
    Path(user): Path<String>,
    ask: Ask,
) -> Result<Reply, ApiError> {
    ask.caller.may(&[Permission::WriteMeetings])?;
    let user = super::user(&ask, &service.directory(), &user)?;
    created(&ask, &service, ask.json()?, Some(user)).await
}

async fn created(
    ask: &Ask,
    service: &Service,
    body: OnlineMeeting,
    organizer: Option<UserId>,
) -> Result<Reply, ApiError> {
    let draft = meeting(body, wall_clock())?;
    let create = |meeting: Meeting| async { service.store.create_meeting(meeting.clone()).await.map(|()| meeting) };
    let meeting = made(ask, &draft, organizer, create).await?;
    let at = ask.exchange.url(&format!("/onlineMeetings/{}", meeting.id));
    Ok(entity(ask, service, StatusCode::CREATED, &meeting).at(at))
}
