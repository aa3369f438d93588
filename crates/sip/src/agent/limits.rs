//! Every bound of the agent on what peers, names and strangers may cost, each with its reason.

use std::time::Duration;

// Finding servers (RFC 3263).

/// Look-ups for one request. A name has at most three NAPTR services that we speak, one SRV set each, and a few hosts.
pub const LOOKUPS_MAX: usize = 16;

/// Addresses that one request is sent to, one after the other. Somebody waits, and each may take seconds.
pub const TARGETS_MAX: usize = 16;

/// Records of one answer that are looked at.
pub const RECORDS_MAX: usize = 32;

/// Addresses of one host that are tried.
pub const ADDRESSES_MAX: usize = 8;

/// Answers remembered; of more, those that run out first go.
pub const ANSWERS_MAX: usize = 4_096;

/// Longest that an answer is believed, whatever its TTL says: an operator who moves a trunk waits no longer.
pub const ANSWER_TTL_MAX: Duration = Duration::from_hours(1);

/// Longest that "there is none" is believed (RFC 2308 §5 allows hours; a name that was just made should work soon).
pub const NEGATIVE_TTL_MAX: Duration = Duration::from_mins(1);

/// How long a look-up that failed is not tried again: a dead DNS server costs each name one wait per this time.
pub const FAILED_TTL: Duration = Duration::from_secs(30);

/// A look-up that is not answered by then has failed; three of them in a row still leave a caller patient.
pub const LOOKUP_WITHIN: Duration = Duration::from_secs(5);

/// How long an address that fell silent or refused a connection is tried only after all others.
pub const SHUN_FOR: Duration = Duration::from_secs(30);

/// Longest Retry-After of a 503 that is honoured: nobody can turn us away from himself, or from others, for a day.
pub const SHUN_FOR_MAX: Duration = Duration::from_mins(5);

/// Addresses that are shunned at one time.
pub const SHUNNED_MAX: usize = 1_024;

// Guessed passwords.

/// Pairs of an address and a user that have guessed wrongly; of more, those that guessed longest ago are forgotten.
pub const GUESSING_PAIRS_MAX: usize = 16_384;

/// Addresses that have guessed wrongly.
pub const GUESSING_SOURCES_MAX: usize = 8_192;

/// Users that were guessed at.
pub const GUESSED_USERS_MAX: usize = 8_192;

/// Pairs of an address and a user that have been right: about as many as there are phones.
pub const FRIENDS_MAX: usize = 32_768;

/// How long a wrong guess is held against somebody who makes no other.
pub const FORGET_AFTER: Duration = Duration::from_hours(1);

/// How long an address is known as a user's: longer than a phone is switched off over a weekend.
pub const KNOWN_FOR: Duration = Duration::from_hours(24 * 7);

/// Refusals that one wait is worth; who asks more often is not answered, and its packets cost nobody an answer.
pub const REFUSALS_MAX: u32 = 8;

// Strangers.

/// Calls of an earlier process that ring or answer late and are ended at one time. Each costs a CANCEL and a BYE, or an ACK
/// and a BYE, with their repetitions, on nothing but the word of a packet.
pub const STRAYS_MAX: usize = 64;

/// Requests that this process may have sent within such a call before it forgot it as well: their numbers are jumped over.
/// Less than lies between two processes.
pub const STRAY_REQUESTS_MAX: u32 = 8;

/// How long a late answer of an earlier process is remembered: as long as a phone repeats it.
pub const STRAY_FOR: Duration = Duration::from_secs(32);

// Connections.

/// A message that has begun is whole by then, and a connection that was accepted has brought one: as long as any
/// transaction lasts (RFC 3261 §17.1.1.2, 64 × T1). Who sends byte by byte holds no memory for longer.
pub const MESSAGE_WITHIN: Duration = Duration::from_secs(32);

/// Bytes of unfinished messages on all connections; when there would be more, the connections that have held theirs for
/// longest are closed, but for those that a call or a registration goes by.
pub const UNFINISHED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Messages on one connection that cannot be read before it is closed: a peer whose software is broken, or none.
pub const UNREADABLE_MAX: u32 = 32;

// Calls.

/// Early dialogs of one INVITE whose reliable responses are acknowledged. A forking proxy rings a handful of devices.
pub const EARLY_DIALOGS_MAX: usize = 16;

/// Reliable provisional responses of one call that wait for the PRACK of the one before. One more or less tells the
/// caller nothing that the next one does not.
pub const PROVISIONALS_WAITING_MAX: usize = 4;

/// Requests that an earlier process may have sent within a dialog and did not write down: refreshes, every 45 s at most, of
/// seven weeks. Their numbers are jumped over where processes have no numbers.
pub const UNTOLD_REQUESTS_MAX: u32 = 100_000;

/// Ways that one request within a dialog is sent after the first: a phone whose connections all break is gone.
pub const DETOURS_MAX: u8 = 3;

/// Contacts of one redirecting response that are told. Phones name one, carriers a few gateways.
pub const REDIRECTS_MAX: usize = 5;
