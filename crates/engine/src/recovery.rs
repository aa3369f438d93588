//! Takes up what an earlier process left: each conference of the log hears that its process has ended, and goes on.

use std::sync::Arc;

use store::StoreError;

use crate::registry::Shared;

/// Gives every live conference its mailbox, in which commands wait from here on; the logs are read in the background.
pub(crate) async fn take_up(shared: &Arc<Shared>) -> Result<(), StoreError> {
    let live = shared.store.live_conferences().await?;
    if !live.is_empty() {
        tracing::info!(conferences = live.len(), "taking up what was live when the last process ended");
    }
    for conference in live {
        shared.take_up(conference);
    }
    Ok(())
}
