//! A new version takes over beside the old one, and whatever happens to files harms nothing that is loaded.

use std::fs;
use std::sync::Arc;

use tidemill::plugin::Registry;

use super::{function, library, load, odd, say, scratch, start};

#[test]
fn a_loaded_file_may_be_overwritten_truncated_and_deleted() {
    let file = scratch().join(library("mutable"));
    fs::copy(odd("mutable_origin", &["ANSWER=\"mutable\""]), &file).unwrap();
    let plugin = load(&file);
    let mut instance = start(&plugin, None);
    fs::write(&file, b"x").unwrap();
    assert_eq!(say(&mut instance, "x").1, ["mutable"]);
    fs::write(&file, vec![0; 1 << 20]).unwrap();
    assert_eq!(say(&mut start(&plugin, None), "x").1, ["mutable"]);
    fs::remove_file(&file).unwrap();
    assert_eq!(say(&mut instance, "x").1, ["mutable"]);
}

#[test]
fn two_versions_of_one_file_run_side_by_side() {
    let file = scratch().join(library("versions"));
    fs::copy(odd("version_one", &["ANSWER=\"one\""]), &file).unwrap();
    let mut old = start(&load(&file), None);
    fs::copy(odd("version_two", &["ANSWER=\"two\""]), &file).unwrap();
    let mut new = start(&load(&file), None);
    assert_eq!((say(&mut old, "x").1, say(&mut new, "x").1), (vec!["one".into()], vec!["two".into()]));
    assert_eq!(say(&mut old, "x").1, ["one"]);
}

#[test]
fn the_registry_tells_workers_of_a_new_version() {
    let registry = Registry::default();
    assert!(registry.get(&function()).is_none());
    let one = Arc::new(load(&odd("registry_one", &["ANSWER=\"one\""])));
    let two = Arc::new(load(&odd("registry_two", &["ANSWER=\"two\""])));
    assert_eq!(registry.put(&function(), one), 1);
    let current = registry.get(&function()).unwrap();
    assert_eq!(current.generation, 1);
    assert!(!current.is_outdated());
    let mut running = start(&current.plugin, None);

    assert_eq!(registry.put(&function(), two), 2);
    assert!(current.is_outdated());
    assert_eq!(say(&mut running, "x").1, ["one"], "until the worker takes the new one at a cut");
    let current = registry.get(&function()).unwrap();
    assert_eq!(current.generation, 2);
    assert_eq!(say(&mut start(&current.plugin, None), "x").1, ["two"]);

    registry.remove(&function());
    assert!(registry.get(&function()).is_none());
    assert!(!current.is_outdated(), "what runs goes on");
}
