//! A file that is no plugin, or not the right one, is refused with what to do about it, and harms nobody.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tidemill::plugin::{Plugin, PluginError};

use super::{ECHO, MOODY, library, load, odd, say, scratch, start};

fn refused(file: &Path) -> PluginError {
    Plugin::load(file, None, &scratch().join("private")).unwrap_err()
}

fn written(name: &str, bytes: &[u8]) -> PathBuf {
    let file = scratch().join(library(name));
    fs::write(&file, bytes).unwrap();
    file
}

#[test]
fn a_file_that_is_no_library_is_refused() {
    for (name, bytes) in [
        ("empty", &b""[..]),
        ("text", b"#!/bin/sh\n"),
        ("elf", b"\x7fELF\x02\x01\x01"),
        ("zeros", &[0; 4096]),
    ] {
        let error = refused(&written(name, bytes));
        assert!(matches!(error, PluginError::NotALibrary { .. }), "{name}: {error}");
    }
    let error = refused(&std::env::current_exe().unwrap()).to_string();
    assert!(error.contains("not export") || error.contains("not a shared library"), "{error}");
    let missing = refused(Path::new("/nowhere/libx.so")).to_string();
    assert!(missing.contains("/nowhere/libx.so") && missing.contains("tidemill build"), "{missing}");
}

#[test]
fn a_file_cut_off_anywhere_is_refused_before_the_loader_dies_of_it() {
    let whole = fs::read(&*ECHO).unwrap();
    for tenths in 0..10 {
        let cut = written(&format!("cut{tenths}"), &whole[..whole.len() * tenths / 10]);
        let error = refused(&cut);
        let told = matches!(error, PluginError::CutOff { .. } | PluginError::NotALibrary { .. });
        assert!(told, "{tenths}/10: {error}");
    }
    let error = refused(&written("cut", &whole[..whole.len() - 1])).to_string();
    assert!(error.contains("cut off") && error.contains("again"), "{error}");
}

#[test]
fn a_library_for_another_machine_is_refused() {
    if cfg!(not(target_os = "linux")) {
        return;
    }
    let mut bytes = fs::read(odd("arch", &[])).unwrap();
    let other: u16 = if cfg!(target_arch = "x86_64") { 0xb7 } else { 0x3e };
    bytes[0x12..0x14].copy_from_slice(&other.to_le_bytes());
    let error = refused(&written("other_arch", &bytes));
    assert!(matches!(error, PluginError::WrongArchitecture { .. }), "{error}");
}

#[test]
fn a_library_that_is_no_plugin_is_refused() {
    let error = refused(&odd("no_symbol", &["NO_SYMBOL"]));
    assert!(matches!(error, PluginError::NoSymbol { .. }), "{error}");
    assert!(error.to_string().contains("export!"), "{error}");
}

#[test]
fn a_plugin_of_another_abi_is_told_what_to_rebuild_with() {
    let error = refused(&odd("abi2", &["ABI=2"]));
    let expected = format!(
        "built for ABI 2, this tidemill speaks 1: rebuild with tidemill-sdk {}",
        env!("CARGO_PKG_VERSION")
    );
    assert!(error.to_string().contains(&expected), "{error}");
    // Another version may have other tables altogether: only the first two numbers are looked at.
    let error = refused(&odd("abi9", &["ABI=9", "SIZE=8"]));
    assert!(matches!(error, PluginError::WrongAbi { theirs: 9, .. }), "{error}");
}

#[test]
fn broken_tables_are_refused() {
    for (name, macros, detail) in [
        ("short", "SIZE=16", "16 bytes of at least"),
        ("null", "NULL_TABLE", "the plugin's table is missing"),
        ("none", "COUNT=0", "0 handlers"),
        ("twins", "COUNT=2", "two handlers are called `odd`"),
        ("nameless", "NAME=\"\"", "handler 0 has no name"),
        ("latin", "NAME=\"\\xff\"", "handler 0 has no name in UTF-8"),
        ("handless", "HANDLE=NULL", "lacks init, handle or drop"),
    ] {
        let error = refused(&odd(name, &[macros]));
        assert!(matches!(error, PluginError::BrokenTable { .. }), "{name}: {error}");
        assert!(error.to_string().contains(detail), "{name}: {error}");
    }
}

#[test]
fn a_table_that_grew_at_its_end_is_still_understood() {
    let mut instance = start(&load(&odd("grown", &["SIZE=4096"])), None);
    assert_eq!(say(&mut instance, "x").1, ["one"]);
}

#[test]
fn a_wrong_digest_is_refused() {
    let plugin = load(&ECHO);
    let private = scratch().join("private");
    assert!(Plugin::load(&ECHO, Some(plugin.sha256()), &private).is_ok());
    let error = Plugin::load(&ECHO, Some(&"0".repeat(64)), &private).unwrap_err().to_string();
    assert!(error.contains(plugin.sha256()) && error.contains("`sha256:`"), "{error}");
}

#[test]
fn the_private_copies_are_for_this_user_alone() {
    let private = scratch().join(format!("fresh-{}", std::process::id()));
    let plugin = Plugin::load(&ECHO, None, &private).unwrap();
    assert_eq!(fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o700);
    let copies: Vec<_> = fs::read_dir(&private).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(copies, [format!("{}{}", plugin.sha256(), std::env::consts::DLL_SUFFIX).as_str()]);
    // A damaged copy is replaced, never loaded.
    let copy = private.join(&copies[0]);
    fs::remove_file(&copy).unwrap();
    fs::write(&copy, b"damaged").unwrap();
    assert!(Plugin::load(&ECHO, None, &private).is_ok());
    assert_eq!(fs::read(&copy).unwrap(), fs::read(&*ECHO).unwrap());
    fs::remove_dir_all(&private).unwrap();
}

#[test]
fn the_entry_chooses_among_several_handlers() {
    let plugin = load(&MOODY);
    assert_eq!(plugin.handlers().collect::<Vec<_>>(), ["moody", "show", "gather", "clerk"]);
    assert!(plugin.made_with().starts_with("tidemill-sdk "));
    assert_eq!(plugin.entry(Some("show")).unwrap(), "show");
    let error = plugin.entry(None).unwrap_err().to_string();
    assert!(error.contains("choose with `entry:` among moody, show, gather, clerk"), "{error}");
    let error = plugin.entry(Some("shwo")).unwrap_err().to_string();
    assert!(error.contains("no handler `shwo`") && error.contains("moody, show"), "{error}");
    assert_eq!(load(&ECHO).entry(None).unwrap(), "echo");
}
