//! Whether a member's database is the one that it is taken for: another one, an empty one and an older state of the same
//! are told apart from it, and whether a link that is made to it may lack rows.
//!
//! A database has two names: which one it is (`incarnation`, made at the first install), and since when its log is its own
//! (`born`, another one once a person has brought rows back into it). Both are remembered outside of it.

use crate::epoch::Epoch;

/// What is remembered of a database. A first one has nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered<'a> {
    /// Which one it was.
    pub incarnation: Option<&'a str>,
    /// The highest epoch that it held.
    pub epoch: Option<Epoch>,
}

/// What a database says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// Which one it is.
    pub incarnation: &'a str,
    /// The highest epoch that it holds.
    pub epoch: Epoch,
    /// Whether a slot was ever open in it, and so rows may have been written.
    pub opened: bool,
}

/// How a database is not the one that it is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistaken {
    /// It is new: nobody ever wrote to it.
    Empty,
    /// It is another one.
    Another,
    /// It held this epoch, and does not hold it any more.
    Older(Epoch),
    /// A peer has applied more of its log than there is.
    Behind,
}

/// Compares what is found with what is remembered; `proven_behind` is what peers prove.
pub fn mistaken(remembered: Remembered<'_>, found: Found<'_>, proven_behind: bool) -> Option<Mistaken> {
    if is_another(remembered.incarnation, Some(found.incarnation)) {
        return Some(if found.opened {
            Mistaken::Another
        } else {
            Mistaken::Empty
        });
    }
    let older = remembered.epoch.filter(|epoch| *epoch > found.epoch);
    older
        .map(Mistaken::Older)
        .or_else(|| proven_behind.then_some(Mistaken::Behind))
}

/// Whether two names are known to differ; one that nobody knows differs from none.
pub fn is_another(remembered: Option<&str>, found: Option<&str>) -> bool {
    remembered
        .zip(found)
        .is_some_and(|(remembered, found)| remembered != found)
}

/// What is known of a link when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkPast {
    /// Whether this database had it before.
    pub made: bool,
    /// Whether its slot at the peer was kept, and is adopted.
    pub kept: bool,
    /// Whether the peer goes on with rows that were brought back into it since.
    pub reborn: bool,
    /// Whether a slot was ever open at the peer; `None` where it does not say.
    pub opened: Option<bool>,
}

/// Whether rows of the peer may be missing here once the link is made: a slot that was kept for this very database has all;
/// else rows may have come before it, unless nobody could write.
pub fn may_lack_rows(past: LinkPast) -> bool {
    let has_all = past.kept && past.made;
    !has_all && (past.reborn || past.opened.unwrap_or(past.made))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_another_one_by_its_name_and_an_older_one_by_its_epoch_or_its_peers() {
        let at = |epoch| Epoch::new(1, epoch);
        // What is remembered: incarnation, epoch; what is found: incarnation, epoch, opened; what peers prove.
        for (known, known_epoch, found, epoch, opened, behind, want) in [
            (None, None, "a", 0, false, false, None),
            (None, None, "a", 9, true, false, None),
            (Some("a"), Some(9), "a", 9, true, false, None),
            (Some("a"), Some(9), "a", 10, true, false, None),
            (Some("a"), Some(9), "b", 0, false, false, Some(Mistaken::Empty)),
            (Some("a"), Some(9), "b", 9, true, false, Some(Mistaken::Another)),
            (Some("a"), Some(9), "a", 8, true, false, Some(Mistaken::Older(at(9)))),
            (Some("a"), Some(9), "a", 9, true, true, Some(Mistaken::Behind)),
            (None, None, "a", 0, false, true, Some(Mistaken::Behind)),
        ] {
            let remembered = Remembered {
                incarnation: known,
                epoch: known_epoch.map(at),
            };
            let found = Found {
                incarnation: found,
                epoch: at(epoch),
                opened,
            };
            assert_eq!(
                mistaken(remembered, found, behind),
                want,
                "{remembered:?} {found:?} {behind}"
            );
        }
    }

    #[test]
    fn a_link_may_lack_rows_unless_its_slot_was_kept_for_it_or_nobody_could_write() {
        for (made, kept, reborn, opened, want) in [
            (true, true, false, Some(true), false),
            (true, true, true, Some(true), false),
            (false, true, false, Some(true), true),
            (false, true, false, Some(false), false),
            (true, false, false, Some(true), true),
            (false, false, false, Some(false), false),
            (false, false, true, Some(false), true),
            (true, false, false, None, true),
            (false, false, false, None, false),
        ] {
            let past = LinkPast {
                made,
                kept,
                reborn,
                opened,
            };
            assert_eq!(may_lack_rows(past), want, "{past:?}");
        }
    }
}
