//! Watching somebody else's lease: since when no newer renewal was seen, by the watcher's own clock alone.

use super::Terms;
use jiff::SignedDuration;

/// What a challenger has seen of a lease. `now` is always its own clock, from whatever beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge<V> {
    version: V,
    since: SignedDuration,
}

impl<V: PartialEq> Challenge<V> {
    /// The first look: `version` names the very write that was read, and the reading was completed at `now`.
    pub fn new(version: V, now: SignedDuration) -> Self {
        Self { version, since: now }
    }

    /// Another look: another write begins it anew.
    pub fn see(&mut self, version: V, now: SignedDuration) {
        if self.version != version {
            *self = Self::new(version, now);
        }
    }

    /// The write that a seal must be compared with.
    pub fn version(&self) -> &V {
        &self.version
    }

    /// For how long no newer one was seen.
    pub fn silent_for(&self, now: SignedDuration) -> SignedDuration {
        now - self.since
    }

    /// When it may be sealed at the earliest. A seal that succeeds then proves that the holder's window is over.
    pub fn ends_at(&self, terms: Terms) -> SignedDuration {
        self.since + terms.patience()
    }

    /// Whether it may be sealed.
    pub fn is_over(&self, terms: Terms, now: SignedDuration) -> bool {
        now >= self.ends_at(terms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_silence_for_the_whole_patience_ends_a_lease() {
        let at = SignedDuration::from_millis;
        let terms = Terms::default();
        let mut challenge = Challenge::new("41", at(500));
        assert!(!challenge.is_over(terms, at(10_500)), "the length alone is not enough");
        challenge.see("41", at(9_000));
        assert!(
            challenge.is_over(terms, at(500) + terms.patience()),
            "the same write again is no news"
        );
        challenge.see("42", at(9_000));
        assert!(!challenge.is_over(terms, at(500) + terms.patience()));
        assert!(challenge.is_over(terms, at(9_000) + terms.patience()));
        assert_eq!(challenge.version(), &"42");
    }
}
