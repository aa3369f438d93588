//! Notices that are owed, and those that were given up.

use control::{AppId, CallId, ChainId, OperationId, ScenarioId, TenantId, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row};
use uuid::Uuid;

use super::log::uuid;
use crate::{DeadLetter, Fate, NoticeId, OutgoingNotice, PendingNotice, Settled, StoreError};

const COLUMNS: &str = "id, message_id, created, call, app, tenant, callback, scenario, chain, body, waits_for, settles, \
                       full_roster, ends_call";

pub(super) fn fresh_message_id() -> Result<Uuid, StoreError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| StoreError::Failed(format!("no random numbers: {error}")))?;
    Ok(uuid::Builder::from_random_bytes(bytes).into_uuid())
}

pub(super) fn insert(
    db: &Connection,
    message_id: Uuid,
    at: Timestamp,
    notice: &OutgoingNotice,
) -> Result<NoticeId, StoreError> {
    db.prepare_cached(
        "INSERT INTO outbox (message_id, created, call, app, tenant, callback, scenario, chain, body, waits_for, \
         settles, full_roster, ends_call) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?
    .execute((
        message_id.as_bytes().as_slice(),
        at.0,
        notice.call.0.as_bytes().as_slice(),
        notice.app.0.as_bytes().as_slice(),
        notice.tenant.0.as_bytes().as_slice(),
        &notice.callback,
        notice.scenario.0.as_bytes().as_slice(),
        notice.chain.0.as_bytes().as_slice(),
        &notice.body,
        notice.after.as_ref().map(|id| id.0.as_bytes().as_slice()),
        notice.settles.as_ref().map(|id| id.0.as_bytes().as_slice()),
        notice.full_roster,
        notice.ends_call,
    ))?;
    Ok(NoticeId(db.last_insert_rowid()))
}

pub(super) fn pending(db: &Connection, after: NoticeId, limit: usize) -> Result<Vec<PendingNotice>, StoreError> {
    let mut statement =
        db.prepare_cached(&format!("SELECT {COLUMNS} FROM outbox WHERE id > ?1 ORDER BY id LIMIT ?2"))?;
    let notices = statement.query_map((after.0, bound(limit)), notice)?;
    Ok(notices.collect::<Result<_, _>>()?)
}

pub(super) fn settle(db: &Connection, at: Timestamp, settled: &[(NoticeId, Settled)]) -> Result<(), StoreError> {
    for (id, how) in settled {
        match how {
            Settled::Delivered => {
                fate_of_letter(db, *id, FATE_DELIVERED, at)?;
            }
            Settled::Dead { status, reason, attempts } => {
                let again = db
                    .prepare_cached(
                        "UPDATE dead_letters SET fate = ?2, fate_at = NULL, died = ?3, status = ?4, reason = ?5, \
                         attempts = attempts + ?6 WHERE id = (SELECT letter FROM outbox WHERE id = ?1)",
                    )?
                    .execute((id.0, FATE_GIVEN_UP, at.0, status, reason, attempts))?;
                if again == 0 {
                    db.prepare_cached(&format!(
                        "INSERT INTO dead_letters ({COLUMNS}, died, status, reason, attempts) \
                         SELECT {COLUMNS}, ?2, ?3, ?4, ?5 FROM outbox WHERE id = ?1"
                    ))?
                    .execute((id.0, at.0, status, reason, attempts))?;
                }
            }
            // What is put back is sent for itself, and never superseded.
            Settled::Superseded => {}
        }
        db.prepare_cached("DELETE FROM outbox WHERE id = ?1")?.execute([id.0])?;
    }
    Ok(())
}

/// The column `fate`.
const FATE_GIVEN_UP: i64 = 0;
const FATE_PUT_BACK: i64 = 1;
const FATE_DELIVERED: i64 = 2;

/// Notes what became of the letter that a notice was put back from, if it was.
fn fate_of_letter(db: &Connection, notice: NoticeId, fate: i64, at: Timestamp) -> Result<(), StoreError> {
    db.prepare_cached(
        "UPDATE dead_letters SET fate = ?2, fate_at = ?3 WHERE id = (SELECT letter FROM outbox WHERE id = ?1)",
    )?
    .execute((notice.0, fate, at.0))?;
    Ok(())
}

const LETTER: &str = "died, status, reason, attempts, fate, fate_at, replays";

pub(super) fn dead_letters(db: &Connection, app: Option<AppId>, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
    let mut statement = db.prepare_cached(&format!(
        "SELECT {COLUMNS}, {LETTER} FROM dead_letters WHERE ?1 IS NULL OR app = ?1 ORDER BY died DESC, id DESC LIMIT ?2"
    ))?;
    let app = app.as_ref().map(|app| app.0.as_bytes().as_slice());
    let letters = statement.query_map((app, bound(limit)), letter)?;
    Ok(letters.collect::<Result<_, _>>()?)
}

pub(super) fn dead_letter(db: &Connection, id: NoticeId) -> Result<Option<DeadLetter>, StoreError> {
    let found = db
        .prepare_cached(&format!("SELECT {COLUMNS}, {LETTER} FROM dead_letters WHERE id = ?1"))?
        .query_row([id.0], letter)
        .optional()?;
    Ok(found)
}

pub(super) fn given_up(
    db: &Connection,
    app: Option<AppId>,
    after: NoticeId,
    limit: usize,
) -> Result<Vec<NoticeId>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT id FROM dead_letters WHERE id > ?1 AND fate = ?2 AND (?3 IS NULL OR app = ?3) ORDER BY id LIMIT ?4",
    )?;
    let app = app.as_ref().map(|app| app.0.as_bytes().as_slice());
    let ids = statement.query_map((after.0, FATE_GIVEN_UP, app, bound(limit)), |row| Ok(NoticeId(row.get(0)?)))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

/// The message id stays, so that the application can tell that it is the same notification; and so does the order of the
/// letters of one call, whichever way they are named.
pub(super) fn revive(db: &Connection, at: Timestamp, mut dead: Vec<NoticeId>) -> Result<usize, StoreError> {
    dead.sort_unstable();
    let mut revived = 0;
    for id in dead {
        let letter = db
            .prepare_cached(&format!("SELECT {COLUMNS} FROM dead_letters WHERE id = ?1 AND fate = ?2"))?
            .query_row((id.0, FATE_GIVEN_UP), notice)
            .optional()?;
        let Some(letter) = letter else { continue };
        // It neither waits for anything, nor is waited for, nor gives way to a newer roster.
        let alone = OutgoingNotice { after: None, settles: None, full_roster: false, ..letter.notice };
        let again = insert(db, letter.message_id, at, &alone)?;
        db.prepare_cached("UPDATE outbox SET letter = ?2 WHERE id = ?1")?.execute((again.0, id.0))?;
        db.prepare_cached("UPDATE dead_letters SET fate = ?2, fate_at = ?3, replays = replays + 1 WHERE id = ?1")?
            .execute((id.0, FATE_PUT_BACK, at.0))?;
        revived += 1;
    }
    Ok(revived)
}

fn letter(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    let PendingNotice { id, message_id, created, notice } = notice(row)?;
    let fate_at = Timestamp(row.get::<_, Option<i64>>(19)?.unwrap_or_default());
    Ok(DeadLetter {
        id,
        message_id,
        created,
        died: Timestamp(row.get(14)?),
        status: row.get(15)?,
        reason: row.get(16)?,
        attempts: row.get(17)?,
        fate: match row.get::<_, i64>(18)? {
            FATE_PUT_BACK => Fate::PutBack(fate_at),
            FATE_DELIVERED => Fate::Delivered(fate_at),
            _ => Fate::GivenUp,
        },
        replays: row.get(20)?,
        notice,
    })
}

fn notice(row: &Row<'_>) -> rusqlite::Result<PendingNotice> {
    Ok(PendingNotice {
        id: NoticeId(row.get(0)?),
        message_id: uuid(row.get(1)?),
        created: Timestamp(row.get(2)?),
        notice: OutgoingNotice {
            call: CallId(uuid(row.get(3)?)),
            app: AppId(uuid(row.get(4)?)),
            tenant: TenantId(uuid(row.get(5)?)),
            callback: row.get(6)?,
            scenario: ScenarioId(uuid(row.get(7)?)),
            chain: ChainId(uuid(row.get(8)?)),
            body: row.get(9)?,
            after: row.get::<_, Option<[u8; 16]>>(10)?.map(|id| OperationId(uuid(id))),
            settles: row.get::<_, Option<[u8; 16]>>(11)?.map(|id| OperationId(uuid(id))),
            full_roster: row.get(12)?,
            ends_call: row.get(13)?,
        },
    })
}

pub(super) fn bound(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
