//! A seed says everything that happens, to the byte.

use std::sync::Arc;

use sim::Cast;

#[test]
fn the_same_seed_is_the_same_world() {
    sim::listen();
    let cast = Arc::new(Cast::default());
    for seed in 1..=6 {
        let once = sim::play(seed, &cast);
        assert_eq!(once.broken, Vec::<String>::new(), "seed {seed}");
        // In another thread, with other keys, at another time.
        let again = std::thread::spawn(move || sim::play(seed, &Arc::new(Cast::default()))).join().expect("it ends");
        let differs = once.trace.lines().zip(again.trace.lines()).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(once.trace.len(), again.trace.len(), "seed {seed}");
    }
}
