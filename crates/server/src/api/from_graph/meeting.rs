//! The body of a meeting to be made or changed (contract 3.19).

use std::time::Duration;

use control::Timestamp;
use graph::{OnlineMeeting, Wire as _};
use store::Meeting;
use time::OffsetDateTime;
use time::format_description::well_known::Iso8601;

use super::{KEPT, bad};
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
    let (start, end) = dates(&body)?;
    if start.is_none() && end.is_some() {
        return Err(bad("startDateTime", "is required when endDateTime is given"));
    }
    let start = start.unwrap_or(now);
    let end = end.unwrap_or(start + LENGTH);
    check(&body, start, end)?;
    Ok(MeetingDraft {
        start,
        end,
        subject: body.subject.clone(),
        external_id: body.external_id.clone(),
        passcode_required: passcode_required(&body).unwrap_or(false),
        kept: laid_over(body, OnlineMeeting::default()),
    })
}

/// A meeting as a client wants it changed. Who organizes it and how it is found stay as they are.
pub(in crate::api) fn changed_meeting(
    body: OnlineMeeting,
    meeting: Meeting,
    new_passcode: impl FnOnce() -> String,
) -> Result<Meeting, ApiError> {
    let (start, end) = dates(&body)?;
    let (start, end) = (start.unwrap_or(meeting.start), end.unwrap_or(meeting.end));
    check(&body, start, end)?;
    let kept = OnlineMeeting::read(&meeting.body).unwrap_or_default();
    Ok(Meeting {
        start,
        end,
        subject: body.subject.clone().or(meeting.subject),
        passcode: match passcode_required(&body) {
            None => meeting.passcode,
            Some(true) => meeting.passcode.or_else(|| Some(new_passcode())),
            Some(false) => None,
        },
        body: laid_over(body, kept).write(KEPT),
        ..meeting
    })
}

fn dates(body: &OnlineMeeting) -> Result<(Option<Timestamp>, Option<Timestamp>), ApiError> {
    let start = date(body.start_date_time.as_deref(), "startDateTime")?;
    Ok((start, date(body.end_date_time.as_deref(), "endDateTime")?))
}

fn check(body: &OnlineMeeting, start: Timestamp, end: Timestamp) -> Result<(), ApiError> {
    if end < start {
        return Err(bad("endDateTime", "is before startDateTime"));
    }
    for (text, path) in [(&body.subject, "subject"), (&body.external_id, "externalId")] {
        if text.as_ref().is_some_and(|text| text.chars().count() > TEXT_MAX) {
            return Err(bad(path, "is longer than 1024 characters"));
        }
    }
    Ok(())
}

fn passcode_required(body: &OnlineMeeting) -> Option<bool> {
    body.join_meeting_id_settings.as_ref()?.is_passcode_required
}

/// What is read back as it was sent, over what was sent before.
fn laid_over(sent: OnlineMeeting, before: OnlineMeeting) -> OnlineMeeting {
    OnlineMeeting {
        allow_attendee_to_enable_camera: sent
            .allow_attendee_to_enable_camera
            .or(before.allow_attendee_to_enable_camera),
        allow_attendee_to_enable_mic: sent.allow_attendee_to_enable_mic.or(before.allow_attendee_to_enable_mic),
        allowed_presenters: sent.allowed_presenters.or(before.allowed_presenters),
        is_entry_exit_announced: sent.is_entry_exit_announced.or(before.is_entry_exit_announced),
        lobby_bypass_settings: sent.lobby_bypass_settings.or(before.lobby_bypass_settings),
        participants: sent.participants.or(before.participants),
        ..OnlineMeeting::default()
    }
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
