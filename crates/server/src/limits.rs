//! How much anybody may ask of the HTTP side at once, and why that much. What an operator may want to change is a
//! setting; these are the rest.

use std::time::Duration;

/// Bytes of a request's line and headers together. The largest token that is looked at has 16 KiB.
pub(crate) const HEADERS_MAX: usize = 32 * 1024;

/// Headers of a request: SDKs send twenty or so.
pub(crate) const HEADERS_COUNT_MAX: usize = 100;

/// What one HTTP/2 connection may ask at once.
pub(crate) const STREAMS_MAX: u32 = 256;

/// A body of the Graph API, before and after inflation (contract 3.1.8).
pub(crate) const BODY_MAX: usize = 1024 * 1024;

/// A body from someone who has shown no token: a form of the token endpoint, which has fewer than 2 KiB as a rule.
pub(crate) const FORM_MAX: usize = 64 * 1024;

/// Of a body that is too large, so much is read and thrown away: most clients read no answer before they have sent all.
pub(crate) const DRAINED_MAX: usize = 16 * BODY_MAX;

/// Wrong secrets for one application from one source before that source has to wait: a typing error or a stale
/// configuration, retried by an SDK.
pub(crate) const WRONG_FREE_PAIR: u32 = 5;

/// Wrong secrets and unknown applications from one source before all of it has to wait.
pub(crate) const WRONG_FREE_SOURCE: u32 = 20;

/// Wrong secrets for one application from everywhere before sources that it was never used from have to wait.
pub(crate) const WRONG_FREE_APP: u32 = 100;

/// The first wait; each further wrong secret doubles it.
pub(crate) const WAIT_FIRST: Duration = Duration::from_secs(5);

/// The longest wait. SDKs give up at once when they are told to wait for three minutes or more.
pub(crate) const WAIT_MAX: Duration = Duration::from_mins(2);

/// Wrong secrets are forgotten when none came for that long.
pub(crate) const WRONG_REMEMBERED_FOR: Duration = Duration::from_mins(15);

/// A source that had the right secret is trusted that long not to be the one who guesses.
pub(crate) const RIGHT_REMEMBERED_FOR: Duration = Duration::from_hours(24);

/// Sources and applications counted; the ones heard of least recently make room. At 64 bytes each this is a MiB.
pub(crate) const COUNTS_MAX: usize = 16 * 1024;

/// Token requests of one source that wait for their turn to be verified; further ones are asked to come back.
pub(crate) const TURNS_WAITING_MAX: usize = 256;

/// Redirects of one notification that are followed, all within its own host.
pub(crate) const REDIRECTS_MAX: usize = 3;
