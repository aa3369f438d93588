//! The world in one thread: the whole server except sockets, threads and disks, on virtual time, from one seed.
//!
//! Real inside: `control`, `sip`'s agent, the switch's operator, `media`'s rooms and ports tick by tick, the engine, the
//! API below HTTP, the courier. Simulated: the network, phones, webhooks, the disk, and death. A seed says everything
//! that happens, to the byte; see `world.rs` for how time passes and `oracle.rs` for what must be true.

mod bot;
mod cast;
mod chance;
mod disk;
mod falls;
mod hook;
mod log;
mod net;
mod oracle;
mod phone;
mod process;
mod script;
mod sound;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

pub use cast::Cast;
pub use log::listen;
pub use world::{Ending, Faults};

/// Plays one seed. A world that falls is a broken one.
pub fn play(seed: u64, cast: &Arc<Cast>) -> Ending {
    let played = catch_unwind(AssertUnwindSafe(|| world::World::new(seed, cast).play(seed)));
    played.unwrap_or_else(|fall| {
        let why = fall.downcast_ref::<String>().cloned();
        let why = why.or_else(|| fall.downcast_ref::<&str>().map(|why| (*why).to_owned())).unwrap_or_default();
        Ending {
            seed,
            broken: vec![format!("the world fell: {why}")],
            trace: String::new(),
            faults: Faults::default(),
            virtual_ms: 0,
            operations: 0,
            calls: 0,
        }
    })
}
