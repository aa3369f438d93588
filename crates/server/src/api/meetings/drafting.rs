//! What making a meeting takes, whichever way it is asked for.

use control::{ConferenceId, UserId};
use graph::{OnlineMeeting, Wire as _};
use http::StatusCode;
use store::{Meeting, StoreError};

use super::view::{named_organizer, view};
use crate::api::error::ApiError;
use crate::api::exchange::{Ask, Reply};
use crate::api::from_graph::{KEPT, MeetingDraft};
use crate::api::service::Service;
use crate::auth::{fresh_id, wall_clock};

/// Chance picks ids; one that is taken is picked again, this often.
const TRIES: usize = 4;

/// Makes a meeting of a draft, under ids that nobody else has.
pub(super) async fn made<T, F: Future<Output = Result<T, StoreError>>>(
    ask: &Ask,
    draft: &MeetingDraft,
    organizer: Option<UserId>,
    make: impl Fn(Meeting) -> F,
) -> Result<T, ApiError> {
    for _ in 0..TRIES {
        match make(drafted(ask, draft, organizer)).await {
            Err(StoreError::Taken(_)) => {}
            made => return Ok(made?),
        }
    }
    Err(ApiError::Unavailable)
}

/// A meeting as the answer to a request.
pub(super) fn entity(ask: &Ask, service: &Service, status: StatusCode, meeting: &Meeting) -> Reply {
    let body = view(ask, service, &service.directory(), meeting);
    Reply::entity(status, body, &ask.exchange.context("communications/onlineMeetings/$entity"))
}

/// OQ-17: from the body; without one, the meeting belongs to its application alone.
pub(super) fn organizer_in(ask: &Ask, service: &Service, body: &OnlineMeeting) -> Result<Option<UserId>, ApiError> {
    let named = named_organizer(body).and_then(|user| user.id.as_deref());
    named.map(|id| super::user(ask, &service.directory(), id)).transpose()
}

/// A meeting with ids picked by chance.
fn drafted(ask: &Ask, draft: &MeetingDraft, organizer: Option<UserId>) -> Meeting {
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
        passcode: draft.passcode_required.then(passcode),
        external_id: draft.external_id.clone(),
        vtc_id: Some(digits(10)),
        body: draft.kept.write(KEPT),
    }
}

/// Six characters.
pub(super) fn passcode() -> String {
    fresh_id().simple().to_string()[..6].to_owned()
}

/// A number of that many digits, at most 18, that does not begin with 0.
fn digits(count: u32) -> String {
    let low = 10_u64.pow(count - 1);
    let (chance, _) = fresh_id().as_u64_pair();
    (low + chance % (9 * low)).to_string()
}
