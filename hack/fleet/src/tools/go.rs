//! Which Go builds the tools, and whether it is there. hack/prerequisites.sh asks the same question before anything is
//! compiled, in the same words; a test compares them.

use std::path::Path;
use std::process::{Command, Stdio};

use super::{ETCD, HELM, KUBERNETES, KWOK};
use crate::{Error, Result};

const INSTALL: &str = include_str!("../../../tools/go-install.txt");

/// Fails where the go that answers in `folder`, beside this go.mod, is missing or too old. From 1.21 on, go fetches the
/// toolchain that the go.mod asks for, where GOTOOLCHAIN and the network let it.
pub(super) fn need(folder: &Path, go_mod: &str) -> Result<()> {
    let asked = Command::new("go")
        .args(["env", "GOVERSION"])
        .env("GOWORK", "off")
        .current_dir(folder)
        .stdin(Stdio::null())
        .output();
    let found = asked.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let found = found.unwrap_or_default();
    let wanted = parse(directive(go_mod).unwrap_or_default());
    if parse(found.trim_start_matches("go")).is_some_and(|found| Some(found) >= wanted) {
        return Ok(());
    }
    Err(missing(&found))
}

fn missing(found: &str) -> Error {
    let newest = [KUBERNETES, ETCD, HELM, KWOK]
        .iter()
        .filter_map(|family| directive(family.go_mod))
        .max_by_key(|version| parse(version))
        .unwrap_or_default();
    let found = match found.trim_start_matches("go") {
        "" => "none",
        version => version,
    };
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    Error::Prerequisite {
        what: format!("go {newest} or newer (found: {found}; Debian 12 has 1.19)"),
        install: INSTALL.trim().replace("@VERSION@", newest).replace("@ARCH@", arch),
    }
}

/// The version of Go that a go.mod asks for.
fn directive(go_mod: &str) -> Option<&str> {
    go_mod.lines().find_map(|line| line.strip_prefix("go ")).map(str::trim)
}

/// Major, minor and patch; a candidate such as 1.27rc1 counts as its release. `None` for what is no version.
fn parse(version: &str) -> Option<(u32, u32, u32)> {
    let digits = |part: Option<&str>| -> Option<u32> {
        let part = part?;
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..end].parse().ok()
    };
    let mut parts = version.split('.');
    let (major, minor) = (digits(parts.next())?, digits(parts.next())?);
    Some((major, minor, digits(parts.next()).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (older, newer) in [
            ("1.19.8", "1.21"),
            ("1.9", "1.10"),
            ("1.26.0", "1.26.8"),
            ("1.26.8", "1.27rc1"),
        ] {
            assert!(parse(older).is_some() && parse(older) < parse(newer), "{older} {newer}");
        }
        for nothing in ["", "devel", "1"] {
            assert_eq!(parse(nothing), None, "{nothing}");
        }
        assert!(parse("1.26.8 X:nocoverageredesign") > parse("1.26.0"));
    }

    #[test]
    fn the_go_directive_is_read_and_not_that_of_godebug() {
        assert_eq!(
            directive("module x\n\ngo 1.24.0\n\ngodebug default=go1.23\n"),
            Some("1.24.0")
        );
        assert_eq!(directive("module go\n"), None);
    }
}
