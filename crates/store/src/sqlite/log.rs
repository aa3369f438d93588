//! The logs of conferences: a row per turn, a snapshot now and then, and the index of calls.

use std::panic::{AssertUnwindSafe, catch_unwind};

use control::{CallId, Conference, ConferenceId, Event, Timestamp};
use rusqlite::{Connection, OptionalExtension};
use uuid::Uuid;

use super::{meetings, outbox};
use crate::{Commit, Committed, Loaded, OutgoingNotice, StoreError};

/// A commit with its JSON made: that is the caller's time, not the writer's.
pub(super) struct Turn {
    conference: ConferenceId,
    position: u64,
    count: u64,
    at: Timestamp,
    events: String,
    placed: Vec<CallId>,
    closed: bool,
    snapshot: Option<String>,
    notices: Vec<(Uuid, OutgoingNotice)>,
}

impl Turn {
    pub(super) fn new(commit: Commit) -> Result<Self, StoreError> {
        let json = |error: serde_json::Error| StoreError::Failed(format!("an event has no JSON: {error}"));
        let placed = commit.events.iter().filter_map(|event| match event {
            Event::CallPlaced { call, .. } => Some(*call),
            _ => None,
        });
        Ok(Self {
            conference: commit.conference,
            position: commit.position,
            count: commit.events.len() as u64,
            at: commit.at,
            placed: placed.collect(),
            closed: commit.events.iter().any(|event| matches!(event, Event::Closed)),
            events: serde_json::to_string(&commit.events).map_err(json)?,
            snapshot: commit.snapshot.map(|snapshot| serde_json::to_string(&snapshot)).transpose().map_err(json)?,
            notices: commit
                .notices
                .into_iter()
                .map(|notice| Ok((outbox::fresh_message_id()?, notice)))
                .collect::<Result<_, StoreError>>()?,
        })
    }

    pub(super) fn write(&self, db: &Connection) -> Result<Committed, StoreError> {
        let id = self.conference.0.as_bytes().as_slice();
        let position = self.position + self.count;
        if self.closed {
            self.close(db)?;
        } else {
            self.append(db, position)?;
            for call in &self.placed {
                db.prepare_cached("INSERT INTO calls (id, conference) VALUES (?1, ?2)")?
                    .execute((call.0.as_bytes().as_slice(), id))?;
            }
            if let Some(snapshot) = &self.snapshot {
                db.prepare_cached("REPLACE INTO snapshots (conference, position, body) VALUES (?1, ?2, ?3)")?
                    .execute((id, position as i64, snapshot))?;
            }
        }
        let notices = self.notices.iter().map(|(message_id, notice)| outbox::insert(db, *message_id, self.at, notice));
        Ok(Committed { position, notices: notices.collect::<Result<_, _>>()? })
    }

    fn append(&self, db: &Connection, position: u64) -> Result<(), StoreError> {
        let id = self.conference.0.as_bytes().as_slice();
        let moved = if self.position == 0 {
            db.prepare_cached("INSERT OR IGNORE INTO conferences (id, position) VALUES (?1, ?2)")?
                .execute((id, position as i64))?
        } else {
            db.prepare_cached("UPDATE conferences SET position = ?2 WHERE id = ?1 AND position = ?3")?.execute((
                id,
                position as i64,
                self.position as i64,
            ))?
        };
        if moved == 0 {
            return Err(StoreError::Diverged(self.conference));
        }
        db.prepare_cached("INSERT INTO log (conference, position, at, events) VALUES (?1, ?2, ?3, ?4)")?.execute((
            id,
            self.position as i64,
            self.at.0,
            &self.events,
        ))?;
        Ok(())
    }

    fn close(&self, db: &Connection) -> Result<(), StoreError> {
        let id = self.conference.0.as_bytes().as_slice();
        let removed = db
            .prepare_cached("DELETE FROM conferences WHERE id = ?1 AND position = ?2")?
            .execute((id, self.position as i64))?;
        // A conference that opened and closed in one turn was never written.
        let fits = removed > 0 || (self.position == 0 && read_position(db, self.conference)?.is_none());
        if !fits {
            return Err(StoreError::Diverged(self.conference));
        }
        meetings::held(db, self.conference, self.at)
    }
}

/// A log as it lies on disk.
pub(super) struct Written {
    snapshot: Option<(u64, String)>,
    turns: Vec<(u64, String)>,
    position: u64,
}

pub(super) fn read(db: &Connection, conference: ConferenceId) -> Result<Option<Written>, StoreError> {
    let id = conference.0.as_bytes().as_slice();
    let position = read_position(db, conference)?;
    let Some(position) = position else { return Ok(None) };
    let snapshot = db
        .prepare_cached("SELECT position, body FROM snapshots WHERE conference = ?1")?
        .query_row([id], |row| Ok((row.get::<_, i64>(0)? as u64, row.get(1)?)))
        .optional()?;
    let mut statement =
        db.prepare_cached("SELECT position, events FROM log WHERE conference = ?1 ORDER BY position")?;
    let turns = statement.query_map([id], |row| Ok((row.get::<_, i64>(0)? as u64, row.get(1)?)))?;
    Ok(Some(Written { snapshot, turns: turns.collect::<Result<_, _>>()?, position }))
}

fn read_position(db: &Connection, conference: ConferenceId) -> Result<Option<u64>, StoreError> {
    let position = db
        .prepare_cached("SELECT position FROM conferences WHERE id = ?1")?
        .query_row([conference.0.as_bytes().as_slice()], |row| Ok(row.get::<_, i64>(0)? as u64))
        .optional()?;
    Ok(position)
}

impl Written {
    /// Rebuilds the conference. A snapshot that does not read, or that another version made, is passed over: the log
    /// alone says everything.
    pub(super) fn replay(self, id: ConferenceId) -> Result<Loaded, StoreError> {
        let snapshot = self.snapshot.as_ref().and_then(|(position, body)| {
            let conference: Conference = serde_json::from_str(body)
                .inspect_err(|error| tracing::warn!(conference = %id, %error, "a snapshot does not read"))
                .ok()?;
            Some((*position, conference))
        });
        let (mut at, mut conference) = snapshot.unwrap_or_else(|| (0, Conference::new(id)));
        let unreadable = |why: String| StoreError::Unreadable { conference: id, why };
        for (position, text) in self.turns.iter().filter(|(position, _)| *position >= at).collect::<Vec<_>>() {
            if *position != at {
                return Err(unreadable(format!("event {at} is missing")));
            }
            let events: Vec<Event> =
                serde_json::from_str(text).map_err(|error| unreadable(format!("event {at}: {error}")))?;
            // An event that cannot be applied is a log that cannot be read, and no reason to fall.
            let applied = catch_unwind(AssertUnwindSafe(|| events.iter().for_each(|event| conference.apply(event))));
            applied.map_err(|_| unreadable(format!("event {at} or one after it does not fit")))?;
            at += events.len() as u64;
        }
        if at != self.position {
            return Err(unreadable(format!("it ends after {at} of {} events", self.position)));
        }
        Ok(Loaded { conference, position: at })
    }
}

pub(super) fn live(db: &Connection) -> Result<Vec<ConferenceId>, StoreError> {
    let mut statement = db.prepare_cached("SELECT id FROM conferences ORDER BY id")?;
    let ids = statement.query_map([], |row| Ok(ConferenceId(uuid(row.get(0)?))))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

pub(super) fn conference_of(db: &Connection, call: CallId) -> Result<Option<ConferenceId>, StoreError> {
    let found = db
        .prepare_cached("SELECT conference FROM calls WHERE id = ?1")?
        .query_row([call.0.as_bytes().as_slice()], |row| Ok(ConferenceId(uuid(row.get(0)?))))
        .optional()?;
    Ok(found)
}

pub(super) fn uuid(bytes: [u8; 16]) -> Uuid {
    Uuid::from_bytes(bytes)
}
