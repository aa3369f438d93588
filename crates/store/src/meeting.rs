//! Meetings: rows that belong to no conference. A meeting's conference has its id and opens with the first to join.

use control::{AppId, ConferenceId, TenantId, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meeting {
    pub id: ConferenceId,
    pub tenant: TenantId,
    pub organizer: Option<UserId>,
    /// Only its own meetings may an application move people between (INV-18).
    pub created_by: AppId,
    pub created: Timestamp,
    pub subject: Option<String>,
    pub start: Timestamp,
    pub end: Timestamp,
    /// Graph's `chatInfo.threadId`: part of the join URL. Unique.
    pub thread: String,
    /// 10 to 12 digits. Unique.
    pub join_meeting_id: String,
    pub passcode: Option<String>,
    /// Given by the client to `createOrGet`. Unique per tenant, application and organizer.
    pub external_id: Option<String>,
    /// Graph's `videoTeleconferenceId`. Unique.
    pub vtc_id: Option<String>,
    /// Whatever else the API keeps of it.
    pub body: Value,
}

/// By what a meeting is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MeetingKey {
    Id(ConferenceId),
    Thread(String),
    JoinMeetingId(String),
    VtcId(String),
}

/// The answer of `create_or_get_meeting`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obtained {
    pub meeting: Meeting,
    pub created: bool,
}
