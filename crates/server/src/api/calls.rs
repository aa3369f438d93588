//! Calls: one file per operation.

mod audio_routing_groups;
mod create;
mod delete;
mod get;
mod invite;
mod keep_alive;
mod list;
mod operations;
mod participants;
mod remove_participant;

pub(super) use audio_routing_groups::{audio_routing_group, audio_routing_groups, content_sharing_sessions};
pub(super) use create::create;
pub(super) use delete::delete;
pub(super) use get::get;
pub(super) use invite::invite;
pub(super) use keep_alive::keep_alive;
pub(super) use list::list;
pub(super) use operations::{operation, operations};
pub(super) use participants::{participant, participants};
pub(super) use remove_participant::remove_participant;
