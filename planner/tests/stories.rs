//! Every file of `stories/` is a story that must come true.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, dead_code)]

mod story;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

#[test]
fn stories_come_true() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stories");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut failed = vec![];
    let mut told = 0;
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "story")) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(file).unwrap();
        told += 1;
        if catch_unwind(AssertUnwindSafe(|| story::tell::tell(&name, &text))).is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "these did not come true: {failed:?}");
    assert!(told >= 25, "only {told} stories were found");
}
