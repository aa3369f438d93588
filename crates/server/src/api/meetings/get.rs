//! `GET …/onlineMeetings/{id}`.

use axum::extract::{Path, State};
use control::UserId;
use http::StatusCode;

use super::drafting::entity;
use crate::api::error::ApiError;
use crate::api::exchange::{Ask, Reply};
use crate::api::service::Service;
use crate::auth::Permission;

pub(in crate::api) async fn get(
    State(service): State<Service>,
    Path(meeting): Path<String>,
    ask: Ask,
) -> Result<Reply, ApiError> {
    ask.caller.may(&[Permission::ReadMeetings, Permission::WriteMeetings])?;
    shown(&ask, &service, &meeting, None).await
}

pub(in crate::api) async fn get_of_user(
    State(service): State<Service>,
    Path((user, meeting)): Path<(String, String)>,
    ask: Ask,
) -> Result<Reply, ApiError> {
    ask.caller.may(&[Permission::ReadMeetings, Permission::WriteMeetings])?;
    let user = super::user(&ask, &service.directory(), &user)?;
    shown(&ask, &service, &meeting, Some(user)).await
}

async fn shown(ask: &Ask, service: &Service, key: &str, organizer: Option<UserId>) -> Result<Reply, ApiError> {
    let meeting = super::find(ask, service, key, organizer).await?;
    Ok(entity(ask, service, StatusCode::OK, &meeting).selected(&ask.exchange))
}
