//! The binary `convoke`: HTTP in, HTTP out, the command line, and the wiring of everything else.

pub mod admission;
pub mod api;
pub mod auth;
pub mod boot;
pub mod certs;
pub mod cli;
pub mod config;
pub mod directory;
pub mod hook;
mod limits;
pub mod notify;
pub mod retention;
pub mod serving;
mod source;
pub mod telemetry;
