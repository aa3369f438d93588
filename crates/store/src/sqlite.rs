//! The store in one SQLite file.

/// How a data directory is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// By the server: nobody else may serve from the same directory.
    Serve,
    /// By a command of the operator, whether a server runs or not.
    Command,
}
