//! The binary `convoke`: HTTP in, HTTP out, the command line, and the wiring of everything else.

pub mod api;
pub mod auth;
pub mod config;
