//! The sweeper: deletes what was kept long enough, and gives its space back, while turns are written between its steps.

use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge};
use store::{Keep, Store, Swept};
use tokio_util::sync::CancellationToken;

use crate::auth::wall_clock;

/// Days are kept, so a minute more is nothing.
const SWEEP_EVERY: Duration = Duration::from_mins(1);

/// Between two steps of a sweep, for the turns that wait meanwhile: 2000 rows a second of each kind at most.
const BREATH: Duration = Duration::from_millis(50);

/// Sweeps at once and every minute, until `stop`.
///
/// A store that refuses is told to the log once and asked again a minute later: nothing depends on a sweep.
pub async fn sweep(store: Arc<dyn Store>, keep: Keep, stop: CancellationToken) {
    let mut failing = false;
    loop {
        let pause = match store.sweep(wall_clock(), keep).await {
            Ok(swept) => {
                failing = false;
                tell(&swept);
                if swept.more { BREATH } else { SWEEP_EVERY }
            }
            Err(error) => {
                counter!("convoke_retention_failures_total").increment(1);
                if failing {
                    tracing::debug!(%error, "what was kept long enough still cannot be deleted");
                } else {
                    tracing::error!(%error, "what was kept long enough cannot be deleted; it is tried again");
                }
                failing = true;
                SWEEP_EVERY
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn tell(swept: &Swept) {
    for (what, count) in [
        ("dead_letters", swept.dead_letters + swept.dead_letters_crowded_out),
        ("meetings", swept.meetings),
        ("registrations", swept.registrations),
    ] {
        if count > 0 {
            counter!("convoke_retention_deleted_total", "what" => what).increment(count as u64);
            tracing::debug!(what, count, "kept long enough");
        }
    }
    if swept.dead_letters_crowded_out > 0 {
        tracing::warn!(
            count = swept.dead_letters_crowded_out,
            "the oldest dead letters are deleted: there are more than retention.dead_letters_max"
        );
    }
    counter!("convoke_database_reclaimed_bytes_total").increment(swept.reclaimed_bytes);
    gauge!("convoke_database_bytes").set(swept.bytes as f64);
    gauge!("convoke_database_free_bytes").set(swept.free_bytes as f64);
}
