//! Which of several servers comes first (RFC 2782), with chance from a seed.

use super::Srv;

/// Numbers from a seed (SplitMix64): the same seed, the same numbers. For choices among equals, not for secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`, 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }
}

/// By priority, and within a priority by weighted chance.
pub(super) fn in_order(mut servers: Vec<Srv>, chance: &mut Chance) -> Vec<Srv> {
    // RFC 2782: those of weight 0 stand first, so that they have a small chance at all.
    servers.sort_by_key(|srv| (srv.priority, srv.weight > 0));
    let mut ordered = Vec::with_capacity(servers.len());
    while let Some(first) = servers.first() {
        let equals = servers.iter().take_while(|srv| srv.priority == first.priority).count();
        let total: u64 = servers[..equals].iter().map(|srv| u64::from(srv.weight)).sum();
        let drawn = chance.below(total + 1);
        let mut sum = 0;
        let chosen = servers[..equals].iter().position(|srv| {
            sum += u64::from(srv.weight);
            sum >= drawn
        });
        ordered.push(servers.remove(chosen.unwrap_or(0)));
    }
    ordered
}
