//! From Graph's JSON to commands: parse, don't validate. Past this there are no strings that mean something; what a
//! decision needs of the directory and of other conferences has been looked up.

mod callback;
mod inviting;
mod meeting;
mod people;
mod placing;

pub(super) use inviting::{InviteTarget, invite};
pub(super) use meeting::{MeetingDraft, changed_meeting, meeting};
pub(super) use people::organizer;
pub(super) use placing::create;

use graph::{Bad, Form};

use super::error::ApiError;

/// The longest `clientContext`, in code points (INV-7).
const CLIENT_CONTEXT_MAX: usize = 256;

/// Invitees of a request, and targets of a call (INV-12, contract 3.2).
const PEOPLE_MAX: usize = 5;

/// Everything that was sent, for `to_graph` to read back.
pub(super) const KEPT: Form = Form { nulls: false, beta: true, lower_status: false };

fn bad(path: impl Into<String>, problem: impl Into<String>) -> ApiError {
    ApiError::Invalid(Bad::at(path, problem))
}
