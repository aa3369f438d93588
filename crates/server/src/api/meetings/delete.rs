//! `DELETE …/onlineMeetings/{id}`: nobody can join any more; those who are in it stay.

use axum::extract::{Path, State};
use control::UserId;
use http::StatusCode;

use crate::api::error::ApiError;
use crate::api::exchange::{Ask, Reply};
use crate::api::service::Service;
use crate::auth::Permission;

pub(in crate::api) async fn delete(
    State(service): State<Service>,
    Path(meeting): Path<String>,
    ask: Ask,
) -> Result<Reply, ApiError> {
    ask.caller.may(&[Permission::WriteMeetings])?;
    deleted(&ask, &service, &meeting, None).await
}

pub(in crate::api) async fn delete_of_user(
    State(service): State<Service>,
    Path((user, meeting)): Path<(String, String)>,
    ask: Ask,
) -> Result<Reply, ApiError> {
    ask.caller.may(&[Permission::WriteMeetings])?;
    let user = super::user(&ask, &service.directory(), &user)?;
    deleted(&ask, &service, &meeting, Some(user)).await
}

async fn deleted(ask: &Ask, service: &Service, key: &str, organizer: Option<UserId>) -> Result<Reply, ApiError> {
    let meeting = super::find(ask, service, key, organizer).await?;
    service.store.delete_meeting(meeting.id).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}
