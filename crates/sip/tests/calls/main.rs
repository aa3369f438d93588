//! Agents that call each other, on a clock we turn and a network we spoil.

mod bad_days;
mod cancelling;
mod challenges;
mod hostile;
mod locating;
mod offers;
mod plain;
mod redirects;
mod registering;
mod reliable;
mod resuming;
mod seeds;
mod sessions;
mod streams;
mod world;
