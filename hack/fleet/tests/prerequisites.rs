//! What is missing or too old on a machine is said before anything is compiled, by the script and by the fleet alike.
#![allow(clippy::unwrap_used)] // helpers of tests, too

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// A machine on which everything is there and new enough.
const PROGRAMS: [(&str, &str); 7] = [
    ("cc", "true"),
    ("git", "true"),
    ("setpriv", "true"),
    ("python3", "true"),
    ("rustc", "echo 'rustc 1.95.0 (abc 2026-01-01)'"),
    ("cargo", "echo 'cargo 1.95.0 (abc 2026-01-01)'"),
    ("go", "echo go1.26.8"),
];

/// The Rust and the Go that the builds ask for, read from where they read it.
fn wanted() -> (String, String) {
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap();
    let line = |text: &str, start: &str| Some(text.lines().find_map(|line| line.strip_prefix(start))?.to_owned());
    let toolchain = read(Path::new(ROOT).join("rust-toolchain.toml"));
    let rust = line(&toolchain, "channel = ").unwrap().trim_matches('"').to_owned();
    let tools = std::fs::read_dir(Path::new(ROOT).join("hack/tools")).unwrap().flatten();
    let mods = tools
        .map(|tool| tool.path().join("go.mod"))
        .filter(|path| path.exists());
    let number = |version: &String| -> Vec<u32> { version.split('.').map(|part| part.parse().unwrap()).collect() };
    let go = mods.filter_map(|path| line(&read(path), "go ")).max_by_key(number);
    (rust, go.unwrap())
}

/// A folder with what the script itself calls, and the machine's programs, of which `changed` wins; an empty script
/// means that the program is not there.
fn machine(changed: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for tool in ["bash", "sed", "awk", "sort", "tail", "head", "grep", "dirname", "uname"] {
        let found = ["/usr/bin", "/bin"].map(|bin| Path::new(bin).join(tool));
        let found = found.iter().find(|path| path.exists()).unwrap();
        std::os::unix::fs::symlink(found, dir.path().join(tool)).unwrap();
    }
    for (name, script) in PROGRAMS {
        let script = changed
            .iter()
            .find(|(other, _)| *other == name)
            .map_or(script, |(_, script)| *script);
        if script.is_empty() {
            continue;
        }
        let path = dir.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    dir
}

fn script(machine: &Path) -> (bool, String) {
    let output = Command::new(Path::new(ROOT).join("hack/prerequisites.sh"))
        .env("PATH", machine)
        .output()
        .unwrap();
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn what_is_missing_or_too_old_is_named_with_the_command_that_installs_it() {
    let (ok, text) = script(machine(&[]).path());
    assert!(ok && text.is_empty(), "{text}");
    let (rust, go) = wanted();
    let go = |found: &str| format!("go {go} or newer (found: {found};");
    let rust = |program: &str, found: &str| {
        format!("{program} {rust} or newer (found: {found}): curl -fsS https://sh.rustup.rs")
    };
    for (changed, want) in [
        (("go", "echo go1.19.8"), go("1.19.8")),
        (("go", "echo go1.24.3"), go("1.24.3")),
        (("go", "echo no network >&2; exit 1"), go("none")),
        (("go", ""), "https://go.dev/dl/go1.".to_owned()),
        (("cargo", "echo 'cargo 0.66.0'"), rust("cargo", "0.66.0")),
        (
            ("rustc", "echo 'error: not installed' >&2; exit 1"),
            rust("rustc", "none"),
        ),
        (("rustc", ""), rust("rustc", "none")),
        (("setpriv", ""), "setpriv: sudo apt-get install util-linux".to_owned()),
        (("cc", ""), "cc: sudo apt-get install gcc libc6-dev".to_owned()),
        (
            ("python3", "exit 1"),
            "pip: sudo apt-get install python3 python3-pip".to_owned(),
        ),
    ] {
        let (ok, text) = script(machine(&[changed]).path());
        assert!(!ok && text.contains(&want), "{changed:?}: {text}");
        assert_eq!(text.matches(": sudo apt-get install make ").count(), 1, "{text}");
    }
    for newer in [("go", "echo go1.30.1"), ("cargo", "echo 'cargo 1.100.0-nightly'")] {
        let (ok, text) = script(machine(&[newer]).path());
        assert!(ok, "{newer:?}: {text}");
    }
}

#[test]
fn the_fleet_says_it_in_the_same_words() {
    for (program, script_of) in [("go", "echo go1.19.8"), ("go", ""), ("python3", "exit 1")] {
        let machine = machine(&[(program, script_of)]);
        let (_, want) = script(machine.path());
        let line = want.lines().nth(1).unwrap().trim();
        let cache = tempfile::tempdir().unwrap();
        // The tools that Go builds come first: databases alone need none of them.
        let verb: &[&str] = match program {
            "python3" => &["up", "--name", "none", "--clusters", "", "--postgres", "east"],
            _ => &["tools"],
        };
        let output = Command::new(env!("CARGO_BIN_EXE_fleet"))
            .args(verb)
            .env("PATH", machine.path())
            .env("MULTIACTIVE_CACHE", cache.path())
            .env("MULTIACTIVE_STATE", cache.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && said.contains(line),
            "want {line:?} in {said}"
        );
    }
}

#[test]
fn the_readme_names_the_packages_and_versions_of_the_script() {
    let output = Command::new(Path::new(ROOT).join("hack/prerequisites.sh"))
        .arg("--packages")
        .output()
        .unwrap();
    let packages = String::from_utf8(output.stdout).unwrap();
    let readme = std::fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let want = format!("sudo apt-get install {}", packages.trim());
    assert!(readme.contains(&want), "README.md lacks: {want}");
    let (_, said) = script(machine(&[("go", "")]).path());
    let (_, install) = said.lines().nth(1).unwrap().split_once("1.19): ").unwrap();
    let install = install.replace("arm64", "amd64");
    assert!(readme.contains(&install), "README.md lacks: {install}");
}

#[test]
fn scripts_and_fleet_keep_what_they_build_in_one_place() {
    let machine = machine(&[("go", "")]);
    for name in ["MULTIACTIVE_CACHE", "XDG_CACHE_HOME", "HOME"] {
        let dir = tempfile::tempdir().unwrap();
        let run = |program: &Path, args: &[&str]| {
            let mut command = Command::new(program);
            command.args(args).env_clear().env("PATH", machine.path());
            command.env(name, dir.path()).output().unwrap().stdout
        };
        let root = run(Path::new("/bin/sh"), &[&format!("{ROOT}/hack/cache-root.sh")]);
        let root = String::from_utf8(root).unwrap();
        assert!(root.starts_with(dir.path().to_str().unwrap()), "{name}: {root}");
        // It fails for want of Go, once it has made the folder of its locks.
        run(Path::new(env!("CARGO_BIN_EXE_fleet")), &["tools"]);
        assert!(
            Path::new(root.trim()).join("locks").is_dir(),
            "{name}: nothing in {root}"
        );
    }
}
