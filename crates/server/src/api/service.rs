//! What the handlers stand on: the parts of the server, and what the API keeps of its own.

use std::ops::Deref;
use std::sync::Arc;

use store::Directory;

use super::State;
use super::placed::Placed;
use crate::auth::throttle::Throttle;
use crate::auth::{Secrets, Tokens};

/// Cheap to clone: one per router.
#[derive(Clone)]
pub(crate) struct Service(Arc<Parts>);

pub(crate) struct Parts {
    pub(crate) state: State,
    pub(crate) tokens: Tokens,
    pub(crate) secrets: Secrets,
    pub(crate) throttle: Throttle,
    pub(crate) placed: Placed,
}

impl Service {
    pub(super) fn new(state: State) -> Self {
        let tokens = Tokens::new(Arc::clone(&state.keys), state.settings.base_url.clone());
        Self(Arc::new(Parts {
            state,
            tokens,
            secrets: Secrets::default(),
            throttle: Throttle::default(),
            placed: Placed::default(),
        }))
    }

    /// The directory as it is: one consistent picture for one request.
    pub(crate) fn directory(&self) -> Arc<Directory> {
        self.state.directory.load_full()
    }
}

impl Deref for Service {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Deref for Parts {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}
