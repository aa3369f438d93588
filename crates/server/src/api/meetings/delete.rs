//! `DELETE …/onlineMeetings/{id}`: nobody can join any more; those who are in it stay.

use axum::extract::{Path, State};
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
    let meeting = super::find(&ask, &service, &meeting, None).await?;
    service.store.delete_meeting(meeting.id).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

pub(in crate::api) async fn delete_of_user(
    State(service): State<Service>,
    Path((user, meeting)): Path<(String, String)>,
    ask: Ask,
) -> Result<Reply, ApiError> {
    ask.caller.may(&[Permission::WriteMeetings])?;
    let user = super::user(&ask, &service.directory(), &user)?;
    let meeting = super::find(&ask, &service, &meeting, Some(user)).await?;
    service.store.delete_meeting(meeting.id).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}
