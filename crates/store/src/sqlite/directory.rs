//! The directory's tables. What is to change is worked out and checked in memory first, so that a refusal can say in
//! words what is wrong; the constraints of the schema stand behind that.

use std::collections::{BTreeMap, BTreeSet};

use control::{AppId, TenantId, UserId};
use rusqlite::Connection;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{App, Change, DirectoryKey, DirectorySet, StoreError, Tenant, Trunk, User, Verb};

pub(super) fn version(db: &Connection) -> Result<i64, StoreError> {
    Ok(db.prepare_cached("SELECT version FROM directory_version")?.query_row([], |row| row.get(0))?)
}

pub(super) fn read(db: &Connection) -> Result<DirectorySet, StoreError> {
    Ok(DirectorySet {
        tenants: bodies(db, "tenants")?,
        apps: bodies(db, "apps")?,
        users: bodies(db, "users")?,
        trunks: bodies(db, "trunks")?,
    })
}

fn bodies<T: DeserializeOwned>(db: &Connection, table: &str) -> Result<Vec<T>, StoreError> {
    let mut statement = db.prepare_cached(&format!("SELECT body FROM {table}"))?;
    let texts = statement.query_map([], |row| row.get::<_, String>(0))?;
    texts
        .map(|text| {
            serde_json::from_str(&text?)
                .map_err(|error| StoreError::Corrupt { what: format!("a row of {table}"), why: error.to_string() })
        })
        .collect()
}

pub(super) fn apply(db: &Connection, set: DirectorySet, prune: bool) -> Result<Vec<Change>, StoreError> {
    let before = Entries::new(read(db)?)?;
    let wanted = Entries::new(set)?;
    let after = if prune { wanted.clone() } else { before.clone().overlaid(&wanted) };
    after.check()?;
    let changes = after.changes_since(&before, &wanted);
    write(db, &after, &changes)?;
    Ok(changes)
}

pub(super) fn delete(db: &Connection, key: &DirectoryKey) -> Result<bool, StoreError> {
    let before = Entries::new(read(db)?)?;
    let mut after = before.clone();
    let gone = match key {
        DirectoryKey::Tenant(id) => after.tenants.remove(id).is_some(),
        DirectoryKey::App(id) => after.apps.remove(id).is_some(),
        DirectoryKey::User(id) => after.users.remove(id).is_some(),
        DirectoryKey::Trunk(name) => after.trunks.remove(name).is_some(),
    };
    after.check()?;
    write(db, &after, &after.changes_since(&before, &Entries::default()))?;
    Ok(gone)
}

/// The directory by key.
#[derive(Clone, Default)]
struct Entries {
    tenants: BTreeMap<TenantId, Tenant>,
    apps: BTreeMap<AppId, App>,
    users: BTreeMap<UserId, User>,
    trunks: BTreeMap<String, Trunk>,
}

impl Entries {
    fn new(set: DirectorySet) -> Result<Self, StoreError> {
        Ok(Self {
            tenants: keyed("tenant", set.tenants, |tenant| tenant.id)?,
            apps: keyed("app", set.apps, |app| app.id)?,
            users: keyed("user", set.users, |user| user.id)?,
            trunks: keyed("trunk", set.trunks, |trunk| trunk.name.clone())?,
        })
    }

    fn overlaid(mut self, with: &Self) -> Self {
        let with = with.clone();
        self.tenants.extend(with.tenants);
        self.apps.extend(with.apps);
        self.users.extend(with.users);
        self.trunks.extend(with.trunks);
        self
    }

    /// Everything that must be unique is, and everything referred to exists.
    fn check(&self) -> Result<(), StoreError> {
        let mut domains = BTreeSet::new();
        for tenant in self.tenants.values() {
            unique(&mut domains, tenant.domain.to_ascii_lowercase(), || {
                format!("two tenants have the domain {}", tenant.domain)
            })?;
        }
        let (mut numbers, mut instances) = (BTreeSet::new(), BTreeSet::new());
        for app in self.apps.values() {
            self.tenant_of("app", &app.name, app.tenant)?;
            if let Some(number) = &app.number {
                unique(&mut numbers, number.clone(), || format!("two apps have the number {}", number.as_str()))?;
            }
            unique(&mut instances, app.instance, || format!("two apps have the instance {}", app.instance))?;
        }
        let mut usernames = BTreeSet::new();
        for user in self.users.values() {
            let tenant = self.tenant_of("user", &user.name, user.tenant)?;
            let Some(sip) = &user.sip else { continue };
            unique(&mut usernames, (user.tenant, sip.username.to_ascii_lowercase()), || {
                format!("two users of the tenant {} have the SIP user name {}", tenant.domain, sip.username)
            })?;
        }
        for trunk in self.trunks.values() {
            trunk.tenants.iter().try_for_each(|id| self.tenant_of("trunk", &trunk.name, *id).map(drop))?;
        }
        Ok(())
    }

    fn tenant_of(&self, kind: &str, name: &str, id: TenantId) -> Result<&Tenant, StoreError> {
        let missing =
            || StoreError::Taken(format!("the {kind} {name} belongs to the tenant {id}, which does not exist"));
        self.tenants.get(&id).ok_or_else(missing)
    }

    /// What differs from `before`, and what of `named` does not.
    fn changes_since(&self, before: &Self, named: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        compare(&mut changes, &before.tenants, &self.tenants, &named.tenants, DirectoryKey::Tenant, |t| &t.domain);
        compare(&mut changes, &before.apps, &self.apps, &named.apps, DirectoryKey::App, |app| &app.name);
        compare(&mut changes, &before.users, &self.users, &named.users, DirectoryKey::User, |user| &user.name);
        compare(&mut changes, &before.trunks, &self.trunks, &named.trunks, DirectoryKey::Trunk, |trunk| &trunk.name);
        changes
    }
}

fn keyed<K: Ord + std::fmt::Debug, T>(
    kind: &str,
    list: Vec<T>,
    key: impl Fn(&T) -> K,
) -> Result<BTreeMap<K, T>, StoreError> {
    let mut entries = BTreeMap::new();
    for entry in list {
        let key = key(&entry);
        if entries.contains_key(&key) {
            return Err(StoreError::Taken(format!("the {kind} {key:?} is given twice")));
        }
        entries.insert(key, entry);
    }
    Ok(entries)
}

fn unique<K: Ord>(seen: &mut BTreeSet<K>, key: K, sentence: impl FnOnce() -> String) -> Result<(), StoreError> {
    if seen.insert(key) { Ok(()) } else { Err(StoreError::Taken(sentence())) }
}

fn compare<K: Ord + Clone, T: PartialEq>(
    changes: &mut Vec<Change>,
    before: &BTreeMap<K, T>,
    after: &BTreeMap<K, T>,
    named: &BTreeMap<K, T>,
    key: impl Fn(K) -> DirectoryKey,
    name: impl Fn(&T) -> &String,
) {
    for (id, entry) in after {
        let verb = match before.get(id) {
            None => Verb::Created,
            Some(old) if old != entry => Verb::Updated,
            Some(_) if named.contains_key(id) => Verb::Unchanged,
            Some(_) => continue,
        };
        changes.push(Change { key: key(id.clone()), name: name(entry).clone(), verb });
    }
    for (id, entry) in before.iter().filter(|(id, _)| !after.contains_key(*id)) {
        changes.push(Change { key: key(id.clone()), name: name(entry).clone(), verb: Verb::Deleted });
    }
}

/// Rows that change are removed first and then written, so that two users can exchange their names.
fn write(db: &Connection, after: &Entries, changes: &[Change]) -> Result<(), StoreError> {
    let changed = |verbs: &'static [Verb]| changes.iter().filter(move |change| verbs.contains(&change.verb));
    if changed(&[Verb::Created, Verb::Updated, Verb::Deleted]).next().is_none() {
        return Ok(());
    }
    for change in changed(&[Verb::Updated, Verb::Deleted]) {
        match &change.key {
            // Others refer to a tenant: it steps aside and stays.
            DirectoryKey::Tenant(id) => {
                db.execute("UPDATE tenants SET domain = hex(id) WHERE id = ?1", [id.0.as_bytes().as_slice()])?
            }
            DirectoryKey::App(id) => db.execute("DELETE FROM apps WHERE id = ?1", [id.0.as_bytes().as_slice()])?,
            DirectoryKey::User(id) => db.execute("DELETE FROM users WHERE id = ?1", [id.0.as_bytes().as_slice()])?,
            DirectoryKey::Trunk(name) => db.execute("DELETE FROM trunks WHERE name = ?1", [name])?,
        };
    }
    // Tenants come first among the changes: whoever refers to them finds them.
    for change in changed(&[Verb::Created, Verb::Updated]) {
        match &change.key {
            DirectoryKey::Tenant(id) => after.tenants.get(id).map_or(Ok(()), |tenant| put_tenant(db, tenant))?,
            DirectoryKey::App(id) => after.apps.get(id).map_or(Ok(()), |app| put_app(db, app))?,
            DirectoryKey::User(id) => after.users.get(id).map_or(Ok(()), |user| put_user(db, user))?,
            DirectoryKey::Trunk(name) => after.trunks.get(name).map_or(Ok(()), |trunk| put_trunk(db, trunk))?,
        }
    }
    for change in changed(&[Verb::Deleted]) {
        if let DirectoryKey::Tenant(id) = &change.key {
            db.execute("DELETE FROM tenants WHERE id = ?1", [id.0.as_bytes().as_slice()])?;
        }
    }
    db.execute("UPDATE directory_version SET version = version + 1", [])?;
    Ok(())
}

fn put_tenant(db: &Connection, tenant: &Tenant) -> Result<(), StoreError> {
    db.prepare_cached(
        "INSERT INTO tenants (id, domain, body) VALUES (?1, ?2, ?3) \
         ON CONFLICT (id) DO UPDATE SET domain = excluded.domain, body = excluded.body",
    )?
    .execute((tenant.id.0.as_bytes().as_slice(), &tenant.domain, body(tenant)?))?;
    Ok(())
}

fn put_app(db: &Connection, app: &App) -> Result<(), StoreError> {
    db.prepare_cached("INSERT INTO apps (id, tenant, number, instance, body) VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(
        (
            app.id.0.as_bytes().as_slice(),
            app.tenant.0.as_bytes().as_slice(),
            app.number.as_ref().map(control::PhoneNumber::as_str),
            app.instance.0.as_bytes().as_slice(),
            body(app)?,
        ),
    )?;
    Ok(())
}

fn put_user(db: &Connection, user: &User) -> Result<(), StoreError> {
    db.prepare_cached("INSERT INTO users (id, tenant, username, body) VALUES (?1, ?2, ?3, ?4)")?.execute((
        user.id.0.as_bytes().as_slice(),
        user.tenant.0.as_bytes().as_slice(),
        user.sip.as_ref().map(|sip| &sip.username),
        body(user)?,
    ))?;
    Ok(())
}

fn put_trunk(db: &Connection, trunk: &Trunk) -> Result<(), StoreError> {
    db.prepare_cached("INSERT INTO trunks (name, body) VALUES (?1, ?2)")?.execute((&trunk.name, body(trunk)?))?;
    Ok(())
}

fn body(entry: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(entry).map_err(|error| StoreError::Failed(error.to_string()))
}
