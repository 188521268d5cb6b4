//! What is known of a pod's containers, and who is told when it changes.

use std::collections::BTreeMap;
use std::process::ExitStatus;
use std::sync::{Mutex, PoisonError};

use k8s_openapi::jiff::Timestamp;
use tokio::sync::watch;

use super::Waiting;

/// One container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    pub(super) state: State,
    /// How it ended the last time.
    pub(super) last: Option<Ended>,
    pub(super) restarts: i32,
    pub(super) started: bool,
    pub(super) ready: bool,
    /// It will not be started (again).
    pub(super) over: bool,
}

/// What a container is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Waiting(Waiting),
    Running { pid: i32, since: Timestamp },
    Ended(Ended),
}

/// The end of a container's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) pid: i32,
    pub(super) code: i32,
    pub(super) since: Timestamp,
    pub(super) at: Timestamp,
    pub(super) message: String,
}

impl Ended {
    pub(super) fn new(pid: i32, status: ExitStatus, since: Timestamp, message: String) -> Ended {
        use std::os::unix::process::ExitStatusExt;
        let code = status
            .code()
            .or_else(|| status.signal().map(|signal| 128 + signal))
            .unwrap_or(255);
        Ended {
            pid,
            code,
            since,
            at: Timestamp::now(),
            message,
        }
    }
}

/// The containers of one pod, by name.
#[derive(Debug)]
pub(super) struct Views {
    all: Mutex<BTreeMap<String, View>>,
    changed: watch::Sender<u64>,
}

impl Views {
    /// All of them waiting; `restarts` says how often each was started before this node ran.
    pub(super) fn new<'a>(names: impl Iterator<Item = &'a str>, restarts: impl Fn(&str) -> i32) -> Views {
        let view = |name: &str| View {
            state: State::Waiting(Waiting {
                reason: "ContainerCreating",
                message: String::new(),
            }),
            last: None,
            restarts: restarts(name),
            started: false,
            ready: false,
            over: false,
        };
        let all = names.map(|name| (name.to_owned(), view(name))).collect();
        Views {
            all: Mutex::new(all),
            changed: watch::Sender::new(0),
        }
    }

    /// Changes what is known of one.
    pub(super) fn update(&self, name: &str, change: impl FnOnce(&mut View)) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(view) = all.get_mut(name) else { return };
        let before = view.clone();
        change(view);
        if *view != before {
            drop(all);
            self.changed.send_modify(|count| *count += 1);
        }
    }

    /// Says why none of them can start.
    pub(super) fn all_wait(&self, waiting: &Waiting) {
        for name in self.now().into_keys() {
            self.update(&name, |view| view.state = State::Waiting(waiting.clone()));
        }
    }

    /// All as they are now.
    pub(super) fn now(&self) -> BTreeMap<String, View> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A change after each of which something differs.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
