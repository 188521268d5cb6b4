//! The definitions on disk are those of the types.
#![allow(missing_docs)]

use std::process::Command;

#[test]
fn the_definitions_on_disk_are_as_generated() {
    let output = Command::new(env!("CARGO_BIN_EXE_crdgen"))
        .arg("--check")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
