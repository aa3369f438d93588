//! Collections that clients read when they take a call up again, and that are empty here (contract 3.3, 3.15, 3.17).

use axum::extract::{Path, State};

use crate::api::error::ApiError;
use crate::api::exchange::{Ask, Reply, call_id};
use crate::api::service::Service;

/// `GET /communications/calls/{id}/audioRoutingGroups`.
pub(in crate::api) async fn audio_routing_groups(
    State(service): State<Service>,
    Path(call): Path<String>,
    ask: Ask,
) -> Result<Reply, ApiError> {
    empty(&service, &ask, &call, "audioRoutingGroups").await
}

/// `GET /communications/calls/{id}/audioRoutingGroups/{gid}`.
pub(in crate::api) async fn audio_routing_group(
    State(service): State<Service>,
    Path((call, _group)): Path<(String, String)>,
    ask: Ask,
) -> Result<Reply, ApiError> {
    empty(&service, &ask, &call, "audioRoutingGroups").await?;
    Err(ApiError::NotFound("Audio routing group"))
}

/// `GET /communications/calls/{id}/contentSharingSessions`.
pub(in crate::api) async fn content_sharing_sessions(
    State(service): State<Service>,
    Path(call): Path<String>,
    ask: Ask,
) -> Result<Reply, ApiError> {
    empty(&service, &ask, &call, "contentSharingSessions").await
}

/// Empty, but only of a call there is.
async fn empty(service: &Service, ask: &Ask, call: &str, name: &str) -> Result<Reply, ApiError> {
    ask.caller.is_application()?;
    let call = call_id(call)?;
    service.engine.read(ask.by(), call, |_, _| ()).await?;
    let context = ask.exchange.context(&format!("communications/calls('{call}')/{name}"));
    Ok(Reply::collection(Vec::new(), &context))
}
