//! `PATCH …/onlineMeetings/{id}`: what is sent is changed, what is left out or null stays (contract 3.19, Q-20).

use axum::extract::{Path, State};
use control::UserId;
use http::StatusCode;

use super::drafting::{entity, passcode};
use crate::api::error::ApiError;
use crate::api::exchange::{Ask, Reply};
use crate::api::from_graph::changed_meeting;
use crate::api::service::Service;
use crate::auth::Permission;

pub(in crate::api) async fn change(
    State(service): State<Service>,
    Path(meeting): Path<String>,
    ask: Ask,
) -> Result<Reply, ApiError> {
    ask.caller.may(&[Permission::WriteMeetings])?;
    changed(&ask, &service, &meeting, None).await
}

pub(in crate::api) async fn change_of_user(
    State(service): State<Service>,
    Path((user, meeting)): Path<(String, String)>,
    ask: Ask,
) -> Result<Reply, ApiError> {
    ask.caller.may(&[Permission::WriteMeetings])?;
    let user = super::user(&ask, &service.directory(), &user)?;
    changed(&ask, &service, &meeting, Some(user)).await
}

async fn changed(ask: &Ask, service: &Service, key: &str, organizer: Option<UserId>) -> Result<Reply, ApiError> {
    let meeting = super::find(ask, service, key, organizer).await?;
    let meeting = changed_meeting(ask.json()?, meeting, passcode)?;
    // Deleted by somebody else meanwhile.
    if !service.store.update_meeting(meeting.clone()).await? {
        return Err(ApiError::NotFound("Meeting"));
    }
    Ok(entity(ask, service, StatusCode::OK, &meeting))
}
