//! Notices that are owed, and those that were given up.

use control::{AppId, CallId, ChainId, OperationId, ScenarioId, TenantId, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row};
use uuid::Uuid;

use super::log::uuid;
use crate::{DEAD_LETTERS_KEPT_FOR, DeadLetter, NoticeId, OutgoingNotice, PendingNotice, Settled, StoreError};

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
        if let Settled::Dead { status, reason, attempts } = how {
            db.prepare_cached(&format!(
                "INSERT INTO dead_letters ({COLUMNS}, died, status, reason, attempts) \
                 SELECT {COLUMNS}, ?2, ?3, ?4, ?5 FROM outbox WHERE id = ?1"
            ))?
            .execute((id.0, at.0, status, reason, attempts))?;
        }
        db.prepare_cached("DELETE FROM outbox WHERE id = ?1")?.execute([id.0])?;
    }
    if settled.iter().any(|(_, how)| matches!(how, Settled::Dead { .. })) {
        forget_dead(db, at)?;
    }
    Ok(())
}

pub(super) fn forget_dead(db: &Connection, now: Timestamp) -> Result<(), StoreError> {
    db.prepare_cached("DELETE FROM dead_letters WHERE died < ?1")?.execute([(now - DEAD_LETTERS_KEPT_FOR).0])?;
    Ok(())
}

pub(super) fn dead_letters(db: &Connection, app: Option<AppId>, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
    let mut statement = db.prepare_cached(&format!(
        "SELECT {COLUMNS}, died, status, reason, attempts FROM dead_letters WHERE ?1 IS NULL OR app = ?1 \
         ORDER BY died DESC, id DESC LIMIT ?2"
    ))?;
    let app = app.as_ref().map(|app| app.0.as_bytes().as_slice());
    let letters = statement.query_map((app, bound(limit)), |row| {
        let PendingNotice { id, message_id, created, notice } = notice(row)?;
        Ok(DeadLetter {
            id,
            message_id,
            created,
            died: Timestamp(row.get(14)?),
            status: row.get(15)?,
            reason: row.get(16)?,
            attempts: row.get(17)?,
            notice,
        })
    })?;
    Ok(letters.collect::<Result<_, _>>()?)
}

/// The message id stays, so that the application can tell that it is the same notification.
pub(super) fn revive(db: &Connection, at: Timestamp, dead: &[NoticeId]) -> Result<usize, StoreError> {
    let mut revived = 0;
    for id in dead {
        let letter = db
            .prepare_cached(&format!("SELECT {COLUMNS} FROM dead_letters WHERE id = ?1"))?
            .query_row([id.0], notice)
            .optional()?;
        let Some(letter) = letter else { continue };
        let waiting_for_nothing = OutgoingNotice { after: None, ..letter.notice };
        insert(db, letter.message_id, at, &waiting_for_nothing)?;
        db.prepare_cached("DELETE FROM dead_letters WHERE id = ?1")?.execute([id.0])?;
        revived += 1;
    }
    Ok(revived)
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
