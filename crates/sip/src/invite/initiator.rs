//! The calling side: which of many failures a leg is reported with, and which failures send a call elsewhere.

/// Which of two final failures says more (RFC 3261 §16.7 step 6): a 6xx ends the search, else the lowest class, and
/// within it an answer that tells how to ask again. A time-out and our own cancelling say least.
pub fn better(left: u16, right: u16) -> u16 {
    if rank(right) < rank(left) { right } else { left }
}

fn rank(status: u16) -> u32 {
    let class = match status {
        600..=699 => 0,
        300..=399 => 1,
        400..=499 => 2,
        500..=599 => 3,
        _ => 4,
    };
    let within = match status {
        401 | 407 | 415 | 420 | 484 => 0,
        408 => 8,
        487 => 9,
        // RFC 3261 §16.7: a 503 concerns the neighbour, not the callee.
        503 => 9,
        _ => 4,
    };
    class * 10 + within
}

/// Whether another target of the same branch may have more luck: a server that failed, is overloaded, or is silent.
/// A person's decision (486, 603) is not asked for twice.
pub fn is_worth_failing_over(status: u16) -> bool {
    matches!(status, 408 | 430 | 500..=599)
}

#[cfg(test)]
mod tests {
    use super::{better, is_worth_failing_over};

    #[test]
    fn rfc3261_16_7_the_best_failure_is_reported() {
        let best = |statuses: &[u16]| statuses.iter().copied().reduce(better).unwrap();
        assert_eq!(best(&[486, 603, 404]), 603);
        assert_eq!(best(&[503, 486, 408]), 486);
        assert_eq!(best(&[408, 480]), 480);
        assert_eq!(best(&[503, 500]), 500);
        assert_eq!(best(&[486, 480]), 486);
        assert_eq!(best(&[486, 484]), 484);
        assert_eq!(best(&[302, 486]), 302);
        assert_eq!(best(&[487, 408]), 408);
    }

    #[test]
    fn only_servers_are_replaced_not_people() {
        assert!([408, 500, 503, 504].into_iter().all(is_worth_failing_over));
        assert!(![403, 404, 480, 486, 487, 600, 603].into_iter().any(is_worth_failing_over));
    }
}
