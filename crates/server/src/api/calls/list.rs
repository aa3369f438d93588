//! `GET /communications/calls`: the application's own live calls (contract 3.3).

use axum::extract::State;
use engine::CommandError;

use crate::api::error::ApiError;
use crate::api::exchange::{Ask, Reply};
use crate::api::service::Service;
use crate::api::to_graph;

pub(in crate::api) async fn list(State(service): State<Service>, ask: Ask) -> Result<Reply, ApiError> {
    ask.caller.is_application()?;
    let form = ask.form;
    let mut listed = Vec::new();
    for call in service.placed.of(ask.by()) {
        let read = service.engine.read(ask.by(), call, move |conference, _| {
            conference.call(call).map(|call| to_graph::call(conference, call, form))
        });
        match read.await {
            Ok(found) => listed.extend(found),
            Err(CommandError::NoSuchCall) => service.placed.forget(ask.by(), call),
            Err(error) => return Err(error.into()),
        }
    }
    let context = ask.exchange.context("communications/calls");
    Ok(Reply::collection(listed, &context).selected(&ask.exchange))
}
