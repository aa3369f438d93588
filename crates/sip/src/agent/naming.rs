//! Call-IDs, tags, branches and nonces: names that others cannot guess and that the node can recognise.
//!
//! Names of calls we place are derived from the leg, from what is called and the node's secret, so that a process that
//! knows nothing else finds them again (and can cancel what an earlier process began), in whatever order it would call
//! itself. All other names come from the process's seed and a counter.

use std::fmt::Write as _;
use std::net::SocketAddr;

use sha2::{Digest as _, Sha256};

use super::vocabulary::LegKey;

/// RFC 3261 §8.1.1.7.
pub(super) const MAGIC_COOKIE: &str = "z9hG4bK";

/// The names of the call of one target of a dialled leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CallNames {
    pub(super) call_id: String,
    pub(super) from_tag: String,
}

/// Makes names.
pub(super) struct Naming {
    node_secret: [u8; 32],
    seed: [u8; 32],
    counter: u64,
}

impl std::fmt::Debug for Naming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Naming").field("counter", &self.counter).finish_non_exhaustive()
    }
}

impl Naming {
    pub(super) fn new(node_secret: [u8; 32], seed: [u8; 32]) -> Self {
        Self { node_secret, seed, counter: 0 }
    }

    /// 32 bytes nobody has seen before.
    pub(super) fn fresh(&mut self) -> [u8; 32] {
        self.counter += 1;
        hmac(&self.seed, &[b"fresh", &self.counter.to_be_bytes()])
    }

    /// A tag, 64 bits of chance (RFC 3261 §19.3 asks for 32).
    pub(super) fn tag(&mut self) -> String {
        hex(&self.fresh()[..8])
    }

    /// The tag of answers to a request that is not remembered: the same for the same request.
    pub(super) fn tag_for(&self, branch: &str, call_id: &str, from_tag: &str) -> String {
        hex(&hmac(&self.seed, &[b"tag", branch.as_bytes(), call_id.as_bytes(), from_tag.as_bytes()])[..8])
    }

    pub(super) fn via_branch(&mut self) -> String {
        format!("{MAGIC_COOKIE}{}", hex(&self.fresh()[..12]))
    }

    /// A Call-ID of a call-less transaction (REGISTER, OPTIONS).
    pub(super) fn call_id(&mut self) -> String {
        hex(&self.fresh()[..16])
    }

    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        let bytes = self.fresh();
        let mut eight = [0; 8];
        eight.copy_from_slice(&bytes[..8]);
        u64::from_be_bytes(eight) % bound.max(1)
    }

    /// The seed of choices among equals for one call: the same in every process of the node, so that a later one looks
    /// for a call where an earlier one sent it.
    pub(super) fn chance_of(&self, call_id: &str) -> u64 {
        let bytes = hmac(&self.node_secret, &[b"chance", call_id.as_bytes()]);
        let mut eight = [0; 8];
        eight.copy_from_slice(&bytes[..8]);
        u64::from_be_bytes(eight)
    }

    /// The names of a dialled leg's call of a target: of a URI, or of a device by its instance. Among several of the same
    /// name it is the `nth`.
    pub(super) fn of_call(&self, leg: LegKey, target: &str, nth: usize) -> CallNames {
        let secret = hmac(&self.node_secret, &[b"call", &leg.0, target.as_bytes(), &(nth as u64).to_be_bytes()]);
        let name = hex(&secret[..12]);
        CallNames { call_id: format!("{name}.{}", self.mark(&name)), from_tag: hex(&secret[16..24]) }
    }

    /// The Via branch of the INVITE with this number, and of its CANCEL. Where a name stands for several addresses, each of
    /// them has one of its own (RFC 3263 §4.3).
    pub(super) fn invite_branch(&self, call_id: &str, cseq: u32, address: Option<SocketAddr>) -> String {
        let address = address.map(|address| address.to_string()).unwrap_or_default();
        let parts = [b"via", call_id.as_bytes(), &cseq.to_be_bytes(), address.as_bytes()];
        let secret = hmac(&self.node_secret, &parts);
        format!("{MAGIC_COOKIE}{}", hex(&secret[..12]))
    }

    /// Whether this node, now or in an earlier life, made this Call-ID for a call that it placed.
    pub(super) fn is_ours(&self, call_id: &str) -> bool {
        call_id.split_once('.').is_some_and(|(name, mark)| name.len() == 24 && self.mark(name) == mark)
    }

    fn mark(&self, name: &str) -> String {
        hex(&hmac(&self.node_secret, &[b"mark", name.as_bytes()])[..4])
    }
}

/// The key that signs the nonces of a process.
pub(super) fn nonce_secret(seed: &[u8; 32]) -> [u8; 32] {
    hmac(seed, &[b"nonce"])
}

/// HMAC-SHA-256 (RFC 2104) over the parts, each preceded by its length.
fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let pad = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let mut inner = Sha256::new();
    inner.update(pad(0x36));
    for part in parts {
        inner.update((part.len() as u64).to_be_bytes());
        inner.update(part);
    }
    let mut outer = Sha256::new();
    outer.update(pad(0x5c));
    outer.update(inner.finalize());
    outer.finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::{LegKey, Naming};

    #[test]
    fn names_of_a_call_are_found_again_and_recognised() {
        let earlier = Naming::new([1; 32], [2; 32]);
        let later = Naming::new([1; 32], [3; 32]);
        let names = earlier.of_call(LegKey([9; 16]), "sip:desk@192.0.2.1", 0);
        assert_eq!(names, later.of_call(LegKey([9; 16]), "sip:desk@192.0.2.1", 0));
        assert_ne!(names, later.of_call(LegKey([9; 16]), "sip:desk@192.0.2.2", 0));
        assert_ne!(names, later.of_call(LegKey([9; 16]), "sip:desk@192.0.2.1", 1));
        assert!(later.is_ours(&names.call_id));
        assert!(!later.is_ours("0123456789abcdef01234567.01234567"));
        assert!(!Naming::new([4; 32], [2; 32]).is_ours(&names.call_id));
    }

    #[test]
    fn fresh_names_differ() {
        let mut naming = Naming::new([1; 32], [2; 32]);
        assert_ne!(naming.tag(), naming.tag());
        assert!(naming.via_branch().starts_with("z9hG4bK"));
    }
}
