//! Where a registered phone is found: a row per contact of an address of record (RFC 3261 §10).

use control::Timestamp;

/// Only the registrar knows what its texts mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The address of record, in the registrar's canonical form.
    pub aor: String,
    pub contact: String,
    pub expires_at: Timestamp,
    /// The `Path` header (RFC 3327), as it came.
    pub path: Option<String>,
    /// The transport and address that the registration came from.
    pub received: Option<String>,
    pub call_id: String,
    pub cseq: u32,
    /// `+sip.instance` (RFC 5626).
    pub instance: Option<String>,
    /// Whatever else the registrar keeps of it.
    pub data: String,
}
