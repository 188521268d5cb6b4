//! Removes temporary folders also where our process is killed: a small shell that waits for its input to end.
//!
//! Destructors do not run for statics or after SIGKILL; tests share clusters in statics. The shell reads paths from a
//! pipe that only we hold open. When we end, however we end, the pipe closes and it removes what was not forgotten.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// `+path` is remembered, `-path` forgotten. Our processes end with us, some a moment later: hence the second try.
const SCRIPT: &str = r#"
trap '' INT TERM HUP QUIT
all=''
while IFS= read -r line; do
  path="${line#?}"
  case "$line" in
    +*) all="$all$path
" ;;
    -*) all="$(printf '%s' "$all" | grep -vxF -- "$path")
" ;;
  esac
done
for try in 1 2 3 4 5 6 7 8 9 10; do
  left=''
  printf '%s' "$all" | { while IFS= read -r path; do
    [ -n "$path" ] && [ -e "$path" ] && { rm -rf -- "$path" 2>/dev/null; [ -e "$path" ] && left=1; }
  done; [ -z "$left" ]; } && [ "$try" -gt 2 ] && exit 0
  sleep 0.3
done
"#;

static SHELL: Mutex<Option<Child>> = Mutex::new(None);

/// Removes `path` when this process ends.
pub(crate) fn remember(path: &Path) {
    tell('+', path);
}

/// `path` was removed, or is to stay.
pub(crate) fn forget(path: &Path) {
    tell('-', path);
}

fn tell(sign: char, path: &Path) {
    let mut shell = SHELL.lock().unwrap_or_else(PoisonError::into_inner);
    if shell.is_none() {
        let spawned = Command::new("/bin/sh")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .process_group(0)
            .spawn();
        match spawned {
            Ok(child) => *shell = Some(child),
            Err(error) => tracing::warn!(%error, "no shell to clean up after us"),
        }
    }
    if let Some(stdin) = shell.as_mut().and_then(|child| child.stdin.as_mut()) {
        // A janitor that was killed costs us a folder, nothing else.
        let _ = writeln!(stdin, "{sign}{}", path.display());
    }
}
