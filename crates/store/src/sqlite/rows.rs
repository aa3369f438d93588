//! Plain rows: registrations, signing keys, the secrets of this node and the number of its process.

use control::Timestamp;
use rusqlite::{Connection, OptionalExtension as _};

use crate::{Binding, Purpose, SigningKey, StoreError, process_after};

pub(super) fn put_bindings(db: &Connection, bindings: &[Binding]) -> Result<(), StoreError> {
    for binding in bindings {
        db.prepare_cached(
            "REPLACE INTO bindings (aor, contact, expires_at, path, received, call_id, cseq, instance, data) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute((
            &binding.aor,
            &binding.contact,
            binding.expires_at.0,
            &binding.path,
            &binding.received,
            &binding.call_id,
            binding.cseq,
            &binding.instance,
            &binding.data,
        ))?;
    }
    Ok(())
}

pub(super) fn remove_bindings(db: &Connection, gone: &[(String, String)]) -> Result<(), StoreError> {
    for key in gone {
        db.prepare_cached("DELETE FROM bindings WHERE aor = ?1 AND contact = ?2")?.execute((&key.0, &key.1))?;
    }
    Ok(())
}

pub(super) fn bindings(db: &Connection) -> Result<Vec<Binding>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT aor, contact, expires_at, path, received, call_id, cseq, instance, data FROM bindings \
         ORDER BY aor, contact",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(Binding {
            aor: row.get(0)?,
            contact: row.get(1)?,
            expires_at: Timestamp(row.get(2)?),
            path: row.get(3)?,
            received: row.get(4)?,
            call_id: row.get(5)?,
            cseq: row.get(6)?,
            instance: row.get(7)?,
            data: row.get(8)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn word(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Access => "access",
        Purpose::Notification => "notification",
    }
}

pub(super) fn keys(db: &Connection, purpose: Purpose) -> Result<Vec<SigningKey>, StoreError> {
    let mut statement = db
        .prepare_cached("SELECT kid, private, created, retire_at FROM keys WHERE purpose = ?1 ORDER BY created, kid")?;
    let rows = statement.query_map([word(purpose)], |row| {
        Ok(SigningKey {
            kid: row.get(0)?,
            purpose,
            private: row.get(1)?,
            created: Timestamp(row.get(2)?),
            retire_at: row.get::<_, Option<i64>>(3)?.map(Timestamp),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn add_key(db: &Connection, key: &SigningKey) -> Result<(), StoreError> {
    db.prepare_cached("INSERT INTO keys (kid, purpose, private, created, retire_at) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute((&key.kid, word(key.purpose), &key.private, key.created.0, key.retire_at.map(|at| at.0)))?;
    Ok(())
}

pub(super) fn retire_key(db: &Connection, kid: &str, at: Timestamp) -> Result<bool, StoreError> {
    Ok(db.prepare_cached("UPDATE keys SET retire_at = ?2 WHERE kid = ?1")?.execute((kid, at.0))? > 0)
}

pub(super) fn forget_keys(db: &Connection, before: Timestamp) -> Result<(), StoreError> {
    db.prepare_cached("DELETE FROM keys WHERE retire_at < ?1")?.execute([before.0])?;
    Ok(())
}

pub(super) fn secret(db: &Connection, name: &str) -> Result<[u8; 32], StoreError> {
    let mut fresh = [0; 32];
    getrandom::fill(&mut fresh).map_err(|error| StoreError::Failed(format!("no random numbers: {error}")))?;
    db.prepare_cached("INSERT OR IGNORE INTO secrets (name, value) VALUES (?1, ?2)")?
        .execute((name, fresh.as_slice()))?;
    Ok(db.prepare_cached("SELECT value FROM secrets WHERE name = ?1")?.query_row([name], |row| row.get(0))?)
}

pub(super) fn next_process(db: &Connection, now: Timestamp) -> Result<u32, StoreError> {
    let last = db.prepare_cached("SELECT number FROM processes")?.query_row([], |row| row.get(0)).optional()?;
    let next = process_after(last, now);
    db.prepare_cached("REPLACE INTO processes (only_row, number) VALUES (1, ?1)")?.execute([next])?;
    Ok(next)
}
