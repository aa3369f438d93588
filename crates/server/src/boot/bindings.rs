//! Registrations on their way between the switch, which knows them, and the store, which remembers them.

use std::sync::Arc;

use control::Timestamp;
use serde::{Deserialize, Serialize};
use store::{Store, StoreError};
use switch::Report;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What a row keeps beyond its columns.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Extra {
    aor_uri: String,
    path: Vec<String>,
    transport: String,
    q_thousandths: u16,
    user_agent: Option<String>,
}

/// Reports taken in one go.
const BATCH: usize = 512;

/// The registrations that still hold.
pub(super) async fn load(store: &dyn Store, now: Timestamp) -> Result<Vec<switch::Binding>, StoreError> {
    let rows = store.bindings().await?;
    let (live, dead): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.expires_at > now);
    store.remove_bindings(dead.into_iter().map(|row| (row.aor, row.contact)).collect()).await?;
    Ok(live.into_iter().filter_map(read).collect())
}

/// Writes down what the switch reports, until it is gone.
pub(super) async fn keep(store: Arc<dyn Store>, mut reports: mpsc::Receiver<Report>, died: CancellationToken) {
    let mut batch = Vec::new();
    while reports.recv_many(&mut batch, BATCH).await > 0 {
        let (mut bound, mut unbound) = (Vec::new(), Vec::new());
        for report in batch.drain(..) {
            match report {
                Report::Bound(binding) => {
                    unbound.retain(|gone: &(String, String)| *gone != (binding.aor.clone(), binding.contact.clone()));
                    bound.push(write(*binding));
                }
                Report::Unbound { aor, contact } => {
                    bound.retain(|row: &store::Binding| row.aor != aor || row.contact != contact);
                    unbound.push((aor, contact));
                }
                Report::TrunkAlive { name } => tracing::info!(trunk = name, "the trunk answers"),
                Report::TrunkDead { name } => tracing::warn!(trunk = name, "the trunk does not answer"),
                Report::Died { part } => {
                    tracing::error!(part, "a part of the switch has died; the server stops");
                    died.cancel();
                }
            }
        }
        // A registration that is not written down is lost with the process only; phones renew it.
        let written = async {
            if !unbound.is_empty() {
                store.remove_bindings(unbound).await?;
            }
            if bound.is_empty() { Ok(()) } else { store.put_bindings(bound).await }
        };
        if let Err(error) = written.await {
            tracing::error!(%error, "registrations could not be written down");
        }
    }
}

fn write(binding: switch::Binding) -> store::Binding {
    let extra = Extra {
        aor_uri: binding.aor_uri,
        path: binding.path.clone(),
        transport: binding.transport,
        q_thousandths: binding.q_thousandths,
        user_agent: binding.user_agent,
    };
    store::Binding {
        aor: binding.aor,
        contact: binding.contact,
        expires_at: binding.expires_at,
        path: (!binding.path.is_empty()).then(|| binding.path.join(", ")),
        received: Some(binding.source.to_string()),
        call_id: binding.call_id,
        cseq: binding.cseq,
        instance: binding.instance,
        data: serde_json::to_string(&extra).unwrap_or_default(),
    }
}

fn read(row: store::Binding) -> Option<switch::Binding> {
    let extra: Extra = serde_json::from_str(&row.data).ok()?;
    Some(switch::Binding {
        aor: row.aor,
        aor_uri: extra.aor_uri,
        contact: row.contact,
        path: extra.path,
        source: row.received?.parse().ok()?,
        transport: extra.transport,
        call_id: row.call_id,
        cseq: row.cseq,
        q_thousandths: extra.q_thousandths,
        user_agent: extra.user_agent,
        instance: row.instance,
        expires_at: row.expires_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_survives_the_store() {
        let binding = switch::Binding {
            aor: "front-desk@contoso.example".to_owned(),
            aor_uri: "sip:front-desk@contoso.example".to_owned(),
            contact: "<sip:front-desk@192.0.2.7:5060>;q=0.5".to_owned(),
            path: vec!["<sip:edge,1@proxy.example;lr>".to_owned(), "<sip:b.example;lr>".to_owned()],
            source: "192.0.2.7:5060".parse().unwrap(),
            transport: "udp".to_owned(),
            call_id: "a".to_owned(),
            cseq: 7,
            q_thousandths: 500,
            user_agent: Some("Desk/1".to_owned()),
            instance: None,
            expires_at: Timestamp(1),
        };
        assert_eq!(read(write(binding.clone())), Some(binding));
    }
}
