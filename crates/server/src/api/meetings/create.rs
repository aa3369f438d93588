//! `POST /users/{id}/onlineMeetings` and `POST /communications/onlineMeetings`.

use axum::extract::{Path, State};
use control::{ConferenceId, UserId};
use graph::{Form, OnlineMeeting, Wire};
use http::StatusCode;
use store::{Meeting, StoreError};

use super::view::{named_organizer, view};
use crate::api::error::ApiError;
use crate::api::exchange::{Ask, Reply};
use crate::api::from_graph::{MeetingDraft, meeting};
use crate::api::service::Service;
use crate::auth::{Permission, fresh_id, wall_clock};

/// Chance picks ids; one that is taken is picked again, this often.
pub(super) const TRIES: usize = 4;

pub(in crate::api) async fn create(State(service): State<Service>, ask: Ask) -> Result<Reply, ApiError> {
    ask.caller.may(&[Permission::WriteMeetings])?;
    let body: OnlineMeeting = ask.json()?;
    let organizer = organizer_in(&ask, &service, &body)?;
    created(&ask, &service, body, organizer).await
}

pub(in crate::api) async fn create_for_user(
    State(service): State<Service>,
    Path(user): Path<String>,
    ask: Ask,
) -> Result<Reply, ApiError> {
    ask.caller.may(&[Permission::WriteMeetings])?;
    let user = super::user(&ask, &service.directory(), &user)?;
    created(&ask, &service, ask.json()?, Some(user)).await
}

async fn created(
    ask: &Ask,
    service: &Service,
    body: OnlineMeeting,
    organizer: Option<UserId>,
) -> Result<Reply, ApiError> {
    let draft = meeting(body, wall_clock())?;
    for _ in 0..TRIES {
        let meeting = drafted(ask, &draft, organizer);
        match service.store.create_meeting(meeting.clone()).await {
            Ok(()) => {
                let body = view(ask, service, &service.directory(), &meeting);
                let at = ask.exchange.url(&format!("/onlineMeetings/{}", meeting.id));
                let context = ask.exchange.context("communications/onlineMeetings/$entity");
                return Ok(Reply::entity(StatusCode::CREATED, body, &context).at(at));
            }
            Err(StoreError::Taken(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(ApiError::Unavailable)
}

/// OQ-17: from the body; without one, the meeting belongs to its application alone.
pub(super) fn organizer_in(ask: &Ask, service: &Service, body: &OnlineMeeting) -> Result<Option<UserId>, ApiError> {
    let named = named_organizer(body).and_then(|user| user.id.as_deref());
    named.map(|id| super::user(ask, &service.directory(), id)).transpose()
}

/// A meeting with ids picked by chance.
pub(super) fn drafted(ask: &Ask, draft: &MeetingDraft, organizer: Option<UserId>) -> Meeting {
    const KEPT: Form = Form { nulls: false, beta: true, lower_status: false };
    Meeting {
        id: ConferenceId(fresh_id()),
        tenant: ask.by().tenant,
        organizer,
        created_by: ask.by().app,
        created: wall_clock(),
        subject: draft.subject.clone(),
        start: draft.start,
        end: draft.end,
        thread: format!("19:meeting_{}@thread.v2", fresh_id().simple()),
        join_meeting_id: digits(12),
        passcode: draft.passcode_required.then(|| fresh_id().simple().to_string()[..6].to_owned()),
        external_id: draft.external_id.clone(),
        vtc_id: Some(digits(10)),
        body: draft.kept.write(KEPT),
    }
}

/// A number of that many digits, at most 18, that does not begin with 0.
fn digits(count: u32) -> String {
    let low = 10_u64.pow(count - 1);
    let (chance, _) = fresh_id().as_u64_pair();
    (low + chance % (9 * low)).to_string()
}
