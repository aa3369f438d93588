//! What the reader sees: one line per happening, with the time since the start.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Instant;

/// Prints; clones print to the same place with the same clock.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    start: Instant,
    colours: bool,
    /// Lines of two tasks do not mix.
    turn: Arc<std::sync::Mutex<()>>,
}

/// Whose line it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lane {
    Http,
    Sip,
    Audio,
    Hook,
}

impl Timeline {
    pub(super) fn new() -> Self {
        let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { start: Instant::now(), colours, turn: Arc::default() }
    }

    pub(super) fn title(&self, text: &str) {
        self.print(&format!("\n{}{text}{}", self.colour("1"), self.colour("0")));
    }

    pub(super) fn say(&self, text: &str) {
        self.print(&format!("  {text}"));
    }

    pub(super) fn check(&self, held: bool, text: &str) {
        let (mark, colour) = if held { ("✓", "32") } else { ("✗", "31") };
        self.print(&format!("  {}{mark}{} {text}", self.colour(colour), self.colour("0")));
    }

    pub(super) fn happened(&self, lane: Lane, text: &str) {
        let (name, colour) = match lane {
            Lane::Http => ("HTTP ", "34"),
            Lane::Sip => ("SIP  ", "33"),
            Lane::Audio => ("audio", "36"),
            Lane::Hook => ("hook ", "35"),
        };
        let seconds = self.start.elapsed().as_secs_f64();
        self.print(&format!("  {seconds:7.3}  {}{name}{}  {text}", self.colour(colour), self.colour("0")));
    }

    /// An escape sequence on a terminal, else nothing.
    fn colour(&self, code: &str) -> String {
        if self.colours { format!("\x1b[{code}m") } else { String::new() }
    }

    /// Whoever reads may have gone away; the demo goes on.
    fn print(&self, line: &str) {
        let _turn = self.turn.lock();
        let _ = writeln!(std::io::stdout(), "{line}");
    }
}
