//! What the server logs as an error: in a world, nobody has to act.

use std::cell::RefCell;
use std::fmt::{Debug, Write as _};
use std::sync::Once;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::{EnvFilter, Registry, fmt};

thread_local! {
    static ERRORS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Listens from here on, in all threads. With `RUST_LOG` set, everything that it names is printed too.
pub fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let printed = std::env::var_os("RUST_LOG").map(|_| {
            fmt::layer().with_writer(std::io::stderr).without_time().with_filter(EnvFilter::from_default_env())
        });
        let subscriber = Registry::default().with(Errors.with_filter(tracing_subscriber::filter::LevelFilter::ERROR));
        let _ = tracing::subscriber::set_global_default(subscriber.with(printed));
    });
}

/// Those of this thread, since it was last asked.
pub(crate) fn take() -> Vec<String> {
    ERRORS.take()
}

struct Errors;

struct Said(String);

impl<S: Subscriber> Layer<S> for Errors {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() == Level::ERROR {
            let mut said = Said(event.metadata().target().to_owned());
            event.record(&mut said);
            ERRORS.with_borrow_mut(|errors| errors.push(said.0));
        }
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}
