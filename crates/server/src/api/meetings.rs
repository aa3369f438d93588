//! Online meetings, as far as they are needed to be joined (contract 3.19): one file per operation.

mod change;
mod create;
mod create_or_get;
mod delete;
mod drafting;
mod get;
mod list;
mod view;

pub(super) use change::{change, change_of_user};
pub(super) use create::{create, create_for_user};
pub(super) use create_or_get::{create_or_get, create_or_get_for_user};
pub(super) use delete::{delete, delete_of_user};
pub(super) use get::{get, get_of_user};
pub(super) use list::{list, list_of_user};

use control::UserId;
use store::{Directory, Meeting, MeetingKey};

use super::error::ApiError;
use super::exchange::Ask;
use super::service::Service;

/// `/me` needs a token that stands for a user, and this server issues none.
pub(super) async fn me(_: Ask) -> ApiError {
    ApiError::Unreadable("/me request is only valid with delegated authentication flow.".to_owned())
}

/// The user of a path, by id or principal name.
fn user(ask: &Ask, directory: &Directory, text: &str) -> Result<UserId, ApiError> {
    let tenant = ask.by().tenant;
    let by_id = text.parse().ok().and_then(|id| directory.user(id));
    let named = |name: &str| {
        directory.users().find(|user| user.upn.as_deref().is_some_and(|upn| upn.eq_ignore_ascii_case(name)))
    };
    let user = by_id.or_else(|| named(text)).filter(|user| user.tenant == tenant);
    Ok(user.ok_or(ApiError::NotFound("User"))?.id)
}

/// A meeting by its id, or by its VTC id (contract 3.19). Another application's is as unknown as one there is not
/// (CALL-8).
async fn find(ask: &Ask, service: &Service, key: &str, organizer: Option<UserId>) -> Result<Meeting, ApiError> {
    let key = match key.parse() {
        Ok(id) => MeetingKey::Id(id),
        Err(_) => MeetingKey::VtcId(key.to_owned()),
    };
    let found = service.store.meeting(key).await?.filter(|meeting| is_theirs(ask, meeting));
    let found = found.filter(|meeting| organizer.is_none() || meeting.organizer == organizer);
    found.ok_or(ApiError::NotFound("Meeting"))
}

fn is_theirs(ask: &Ask, meeting: &Meeting) -> bool {
    meeting.tenant == ask.by().tenant && meeting.created_by == ask.by().app
}
