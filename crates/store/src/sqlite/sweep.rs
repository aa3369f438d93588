//! Deletes what was kept long enough, a little at a time, and gives the space back.

use control::Timestamp;
use rusqlite::Connection;

use super::outbox::bound;
use crate::limits::{EXPIRED_KEPT_FOR, FREE_PAGES_KEPT, RECLAIM_PAGES, SWEEP_ROWS};
use crate::{Keep, StoreError, Swept};

pub(super) fn step(db: &Connection, now: Timestamp, keep: &Keep) -> Result<Swept, StoreError> {
    let rows = bound(SWEEP_ROWS);
    let dead_letters = db
        .prepare_cached(
            "DELETE FROM dead_letters WHERE id IN (SELECT id FROM dead_letters WHERE died < ?1 \
             AND ifnull(fate_at, 0) < ?1 ORDER BY died LIMIT ?2)",
        )?
        .execute(((now - keep.dead_letters).0, rows))?;
    let dead_letters_crowded_out = crowd_out(db, keep.dead_letters_max)?;
    // A meeting that is being held stays, however old it is.
    let meetings = db
        .prepare_cached(
            "DELETE FROM meetings WHERE id IN (SELECT id FROM meetings WHERE ends < ?1 AND held < ?1 \
             AND id NOT IN (SELECT id FROM conferences) ORDER BY ends LIMIT ?2)",
        )?
        .execute(((now - keep.meetings).0, rows))?;
    let registrations = db
        .prepare_cached(
            "DELETE FROM bindings WHERE (aor, contact) IN (SELECT aor, contact FROM bindings WHERE expires_at < ?1 \
             ORDER BY expires_at LIMIT ?2)",
        )?
        .execute(((now - EXPIRED_KEPT_FOR).0, rows))?;
    let (reclaimed, free) = reclaim(db)?;
    let page_size = number(db, "PRAGMA page_size")?;
    Ok(Swept {
        dead_letters,
        dead_letters_crowded_out,
        meetings,
        registrations,
        reclaimed_bytes: reclaimed * page_size,
        more: [dead_letters, dead_letters_crowded_out, meetings, registrations].contains(&SWEEP_ROWS)
            || (reclaimed > 0 && free > FREE_PAGES_KEPT),
        bytes: number(db, "PRAGMA page_count")? * page_size,
        free_bytes: free * page_size,
    })
}

/// Deletes the oldest of too many.
fn crowd_out(db: &Connection, most: u64) -> Result<usize, StoreError> {
    let excess = number(db, "SELECT count(*) FROM dead_letters")?.saturating_sub(most);
    if excess == 0 {
        return Ok(0);
    }
    let deleted = db
        .prepare_cached("DELETE FROM dead_letters WHERE id IN (SELECT id FROM dead_letters ORDER BY died LIMIT ?1)")?
        .execute([bound(SWEEP_ROWS).min(i64::try_from(excess).unwrap_or(i64::MAX))])?;
    Ok(deleted)
}

/// Gives a few pages back. Answers how many, and how many free ones are left.
fn reclaim(db: &Connection) -> Result<(u64, u64), StoreError> {
    let free = number(db, "PRAGMA freelist_count")?;
    let wanted = free.saturating_sub(FREE_PAGES_KEPT).min(RECLAIM_PAGES);
    if wanted == 0 {
        return Ok((0, free));
    }
    let mut statement = db.prepare(&format!("PRAGMA incremental_vacuum({wanted})"))?;
    let mut pages = statement.query([])?;
    // Each row is a page: whoever stops asking, stops it.
    while pages.next()?.is_some() {}
    let left = number(db, "PRAGMA freelist_count")?;
    Ok((free.saturating_sub(left), left))
}

fn number(db: &Connection, sql: &str) -> Result<u64, StoreError> {
    let number: i64 = db.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    Ok(u64::try_from(number).unwrap_or(0))
}
