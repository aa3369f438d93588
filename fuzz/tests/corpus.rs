//! Every input of the corpora, without a fuzzer: what was found once is found again if it comes back.

use std::fs;
use std::path::Path;

#[test]
fn every_input_of_the_corpora_does_no_harm() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, run) in fuzz::TARGETS {
        let mut count = 0;
        for entry in fs::read_dir(corpora.join(name)).expect("each target has a corpus") {
            let path = entry.expect("an entry").path();
            // Shown only if it fails, and then it is the last line.
            println!("{}", path.display());
            run(&fs::read(&path).expect("a file"));
            count += 1;
        }
        assert!(count >= 5, "{name} has next to no corpus");
    }
}

#[test]
fn every_target_is_in_the_table() {
    let binaries = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets");
    let mut names: Vec<String> = fs::read_dir(binaries)
        .expect("the targets")
        .filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    assert_eq!(names, fuzz::TARGETS.map(|(name, _)| name));
}
