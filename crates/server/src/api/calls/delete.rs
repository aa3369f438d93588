//! `DELETE /communications/calls/{id}`: hang up (contract 3.7). In a group only this application's call goes.

use axum::extract::{Path, State};
use control::Command;
use engine::Place;
use http::StatusCode;

use crate::api::error::ApiError;
use crate::api::exchange::{Ask, Reply, call_id};
use crate::api::service::Service;

pub(in crate::api) async fn delete(
    State(service): State<Service>,
    Path(call): Path<String>,
    ask: Ask,
) -> Result<Reply, ApiError> {
    ask.caller.is_application()?;
    let call = call_id(&call)?;
    service.engine.command(ask.by(), Place::Call(call), Command::HangUp { call }, |_, _, _| ()).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}
