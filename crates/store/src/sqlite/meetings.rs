//! Meetings: the columns are what they are found by, the rest is JSON.

use control::{ConferenceId, TenantId, Timestamp, UserId};
use rusqlite::{Connection, OptionalExtension, ToSql};

use super::outbox::bound;
use crate::{Meeting, MeetingKey, Obtained, StoreError};

pub(super) fn create(db: &Connection, meeting: &Meeting) -> Result<(), StoreError> {
    put(
        db,
        "INSERT INTO meetings (id, tenant, organizer, created_by, created, thread, join_meeting_id, vtc_id, \
         external_id, body, ends) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        meeting,
    )
    .map(drop)
}

pub(super) fn create_or_get(db: &Connection, meeting: Meeting) -> Result<Obtained, StoreError> {
    let existing = db
        .prepare_cached(
            "SELECT body FROM meetings WHERE tenant = ?1 AND created_by = ?2 AND ifnull(organizer, x'') = \
             ifnull(?3, x'') AND external_id = ?4",
        )?
        .query_row(
            (
                meeting.tenant.0.as_bytes().as_slice(),
                meeting.created_by.0.as_bytes().as_slice(),
                meeting.organizer.as_ref().map(|id| id.0.as_bytes().as_slice()),
                &meeting.external_id,
            ),
            |row| row.get::<_, String>(0),
        )
        .optional()?;
    match existing {
        Some(text) => Ok(Obtained { meeting: parsed(&text)?, created: false }),
        None => create(db, &meeting).map(|()| Obtained { meeting, created: true }),
    }
}

pub(super) fn update(db: &Connection, meeting: &Meeting) -> Result<bool, StoreError> {
    let updated = put(
        db,
        "UPDATE meetings SET tenant = ?2, organizer = ?3, created_by = ?4, created = ?5, thread = ?6, \
         join_meeting_id = ?7, vtc_id = ?8, external_id = ?9, body = ?10, ends = ?11 WHERE id = ?1",
        meeting,
    )?;
    Ok(updated > 0)
}

fn put(db: &Connection, sql: &str, meeting: &Meeting) -> Result<usize, StoreError> {
    let body = serde_json::to_string(meeting).map_err(|error| StoreError::Failed(error.to_string()))?;
    let written = db.prepare_cached(sql)?.execute((
        meeting.id.0.as_bytes().as_slice(),
        meeting.tenant.0.as_bytes().as_slice(),
        meeting.organizer.as_ref().map(|id| id.0.as_bytes().as_slice()),
        meeting.created_by.0.as_bytes().as_slice(),
        meeting.created.0,
        &meeting.thread,
        &meeting.join_meeting_id,
        &meeting.vtc_id,
        &meeting.external_id,
        body,
        meeting.end.max(meeting.created).0,
    ));
    written.map_err(|error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => {
            StoreError::Taken("an id of the meeting is taken by another meeting".to_owned())
        }
        _ => error.into(),
    })
}

pub(super) fn delete(db: &Connection, id: ConferenceId) -> Result<bool, StoreError> {
    let deleted = db.prepare_cached("DELETE FROM meetings WHERE id = ?1")?.execute([id.0.as_bytes().as_slice()])?;
    Ok(deleted > 0)
}

/// A conference has closed: if it was a meeting, that is when it was last held.
pub(super) fn held(db: &Connection, id: ConferenceId, at: Timestamp) -> Result<(), StoreError> {
    db.prepare_cached("UPDATE meetings SET held = ?2 WHERE id = ?1")?.execute((id.0.as_bytes().as_slice(), at.0))?;
    Ok(())
}

pub(super) fn find(db: &Connection, key: &MeetingKey) -> Result<Option<Meeting>, StoreError> {
    let id;
    let (column, value): (&str, &dyn ToSql) = match key {
        MeetingKey::Id(given) => {
            id = given.0.as_bytes().as_slice();
            ("id", &id)
        }
        MeetingKey::Thread(thread) => ("thread", thread),
        MeetingKey::JoinMeetingId(join) => ("join_meeting_id", join),
        MeetingKey::VtcId(vtc) => ("vtc_id", vtc),
    };
    let text = db
        .prepare_cached(&format!("SELECT body FROM meetings WHERE {column} = ?1"))?
        .query_row([value], |row| row.get::<_, String>(0))
        .optional()?;
    text.map(|text| parsed(&text)).transpose()
}

pub(super) fn of(
    db: &Connection,
    tenant: TenantId,
    organizer: Option<UserId>,
    limit: usize,
) -> Result<Vec<Meeting>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT body FROM meetings WHERE tenant = ?1 AND organizer IS ?2 ORDER BY created DESC, id LIMIT ?3",
    )?;
    let organizer = organizer.as_ref().map(|id| id.0.as_bytes().as_slice());
    let texts = statement
        .query_map((tenant.0.as_bytes().as_slice(), organizer, bound(limit)), |row| row.get::<_, String>(0))?;
    texts.map(|text| parsed(&text?)).collect()
}

fn parsed(text: &str) -> Result<Meeting, StoreError> {
    serde_json::from_str(text)
        .map_err(|error| StoreError::Corrupt { what: "a meeting".to_owned(), why: error.to_string() })
}
