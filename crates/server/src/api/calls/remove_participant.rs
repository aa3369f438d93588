//! `DELETE /communications/calls/{id}/participants/{pid}`: drop someone, or withdraw their invitation (contract 3.4,
//! INV-29).

use axum::extract::{Path, State};
use control::Command;
use engine::Place;
use http::StatusCode;

use crate::api::error::ApiError;
use crate::api::exchange::{Ask, Reply, call_id};
use crate::api::service::Service;
use crate::auth::Permission;

pub(in crate::api) async fn remove_participant(
    State(service): State<Service>,
    Path((call, participant)): Path<(String, String)>,
    ask: Ask,
) -> Result<Reply, ApiError> {
    ask.caller.may(&[Permission::JoinGroupCall, Permission::JoinGroupCallAsGuest])?;
    let allowed = service.directory().app(ask.by().app).is_some_and(|app| app.may_remove_participants);
    if !allowed {
        return Err(ApiError::Forbidden("The application is not allowed to remove participants in this tenant."));
    }
    let call = call_id(&call)?;
    let Ok(participant) = participant.parse() else {
        // The call comes first: a foreign one is unknown as a whole.
        service.engine.read(ask.by(), call, |_, _| ()).await?;
        return Err(ApiError::NotFound("Participant"));
    };
    let remove = Command::Remove { call, participant };
    service.engine.command(ask.by(), Place::Call(call), remove, |_, _, _| ()).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}
