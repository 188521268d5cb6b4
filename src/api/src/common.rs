//! Shapes that several kinds share.

/// The condition that every kind has: true when all that the spec asks for holds.
pub const READY: &str = "Ready";
/// True while the operator is still working towards the spec (kstatus).
pub const RECONCILING: &str = "Reconciling";
/// True when the operator cannot go on without a change from outside (kstatus).
pub const STALLED: &str = "Stalled";

/// The Secret in a member with which its agents reach the hub, for the write leases of its units; the operator writes it.
pub const HUB_ACCESS_SECRET: &str = "multiactive-hub-access";
/// Its key: a kubeconfig whose namespace is that of the leases.
pub const HUB_ACCESS_KEY: &str = "kubeconfig";

/// The longest message in a condition or another status field, in characters.
pub const MESSAGE_MAX: usize = 32_768;

/// `message`, cut where it is longer than a status may hold: the API server would refuse the whole status.
pub fn clip(message: &str) -> String {
    match message.char_indices().nth(MESSAGE_MAX - 1) {
        Some((end, last)) if end + last.len_utf8() < message.len() => format!("{}…", &message[..end]),
        Some(_) | None => message.to_owned(),
    }
}
