//! Every entry of the fuzz targets' corpora, as a test: what was found once stays mended.

#[path = "../../../fuzz/targets.rs"]
mod targets;

use std::fs;
use std::path::Path;

fn each(name: &str, target: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
    let mut count = 0;
    for entry in fs::read_dir(&corpus).expect("the corpus is there") {
        let path = entry.expect("the corpus can be read").path();
        println!("{}", path.display());
        target(&fs::read(&path).expect("it can be read"));
        count += 1;
    }
    assert!(count >= 3, "the corpus of {name} has {count} entries");
}

#[test]
fn frames_mean_the_same_however_they_are_cut() {
    each("frames", targets::frames);
}

#[test]
fn commands_are_bounded_and_their_bodies_stay_in_their_line() {
    each("commands", targets::commands);
}

#[test]
fn a_store_opens_or_says_why_whatever_is_in_its_files() {
    each("store", targets::store);
}

#[test]
fn a_head_means_the_same_however_it_is_cut() {
    each("head", targets::head);
}

#[test]
fn calls_of_the_http_api_are_read_or_refused() {
    each("api", targets::api);
}
