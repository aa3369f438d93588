//! The body of a meeting to be made (contract 3.19).

use std::time::Duration;

use control::Timestamp;
use graph::OnlineMeeting;
use time::OffsetDateTime;
use time::format_description::well_known::Iso8601;

use super::bad;
use crate::api::error::ApiError;

/// A meeting that names no end is that long.
const LENGTH: Duration = Duration::from_hours(1);

/// Longer subjects and ids are refused.
const TEXT_MAX: usize = 1024;

/// What a client says of a meeting.
#[derive(Debug)]
pub(in crate::api) struct MeetingDraft {
    pub(in crate::api) start: Timestamp,
    pub(in crate::api) end: Timestamp,
    pub(in crate::api) subject: Option<String>,
    pub(in crate::api) external_id: Option<String>,
    pub(in crate::api) passcode_required: bool,
    /// What is read back as it was sent.
    pub(in crate::api) kept: OnlineMeeting,
}

pub(in crate::api) fn meeting(body: OnlineMeeting, now: Timestamp) -> Result<MeetingDraft, ApiError> {
    let start = date(body.start_date_time.as_deref(), "startDateTime")?;
    let end = date(body.end_date_time.as_deref(), "endDateTime")?;
    if start.is_none() && end.is_some() {
        return Err(bad("startDateTime", "is required when endDateTime is given"));
    }
    let start = start.unwrap_or(now);
    let end = end.unwrap_or(start + LENGTH);
    if end < start {
        return Err(bad("endDateTime", "is before startDateTime"));
    }
    for (text, path) in [(&body.subject, "subject"), (&body.external_id, "externalId")] {
        if text.as_ref().is_some_and(|text| text.chars().count() > TEXT_MAX) {
            return Err(bad(path, "is longer than 1024 characters"));
        }
    }
    let passcode_required =
        body.join_meeting_id_settings.as_ref().and_then(|settings| settings.is_passcode_required).unwrap_or(false);
    Ok(MeetingDraft {
        start,
        end,
        subject: body.subject.clone(),
        external_id: body.external_id.clone(),
        passcode_required,
        kept: OnlineMeeting {
            allow_attendee_to_enable_camera: body.allow_attendee_to_enable_camera,
            allow_attendee_to_enable_mic: body.allow_attendee_to_enable_mic,
            allowed_presenters: body.allowed_presenters,
            is_entry_exit_announced: body.is_entry_exit_announced,
            lobby_bypass_settings: body.lobby_bypass_settings,
            participants: body.participants,
            ..OnlineMeeting::default()
        },
    })
}

/// ISO 8601 with any fraction and offset.
fn date(text: Option<&str>, path: &'static str) -> Result<Option<Timestamp>, ApiError> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(None) };
    let at = OffsetDateTime::parse(text, &Iso8601::DEFAULT)
        .or_else(|_| OffsetDateTime::parse(&format!("{text}Z"), &Iso8601::DEFAULT))
        .map_err(|_| bad(path, "is not an ISO 8601 date and time"))?;
    Ok(i64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok().map(Timestamp))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_come_with_any_fraction_and_offset() {
        for text in ["2026-11-23T13:00:00+00:00", "2026-11-23T14:00:00.0000000+01:00", "2026-11-23T13:00:00Z"] {
            assert_eq!(date(Some(text), "x").unwrap(), Some(Timestamp(1_795_438_800_000)), "{text}");
        }
        assert!(date(Some("tomorrow"), "x").is_err());
    }

    #[test]
    fn an_end_needs_a_start_before_it() {
        let of = |start: Option<&str>, end: Option<&str>| {
            let body = OnlineMeeting {
                start_date_time: start.map(str::to_owned),
                end_date_time: end.map(str::to_owned),
                ..OnlineMeeting::default()
            };
            meeting(body, Timestamp(0)).map(|draft| draft.end.since(draft.start))
        };
        assert_eq!(of(None, None).unwrap(), LENGTH);
        assert!(of(None, Some("2026-11-23T13:00:00Z")).is_err());
        assert!(of(Some("2026-11-23T13:00:00Z"), Some("2026-11-23T12:00:00Z")).is_err());
    }
}
