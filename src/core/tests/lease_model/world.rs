//! The parts of the modelled world and what each may do, one atomic step an action.

use jiff::SignedDuration;
use multiactive_core::epoch::Epoch;
use multiactive_core::lease::{Act, Challenge, Heard, Lease, Memory, Mode, NotRenewed, Seal, Terms};
use stateright::{Model as Checked, Property};
use std::collections::BTreeMap;

pub const ONE_WRITER: &str = "1: no write lands in the lost unit while another one is open";

/// A fault planted into the model, to see that the checker finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The lease is counted from the reply instead of from before the sending.
    CountedFromTheReply,
    /// The table is changed without a seal.
    NoSeal,
    /// The seal is written over whatever renewal there is.
    SealUncompared,
    /// The challenger waits for less than the lease.
    Impatient,
    /// A sealed lease is renewed.
    RenewsSealed,
    /// The database takes a lease whatever table it was brought to.
    GrantIgnored,
    /// The deadline is read at the write and not again at the commit.
    NoCheckAtCommit,
}

impl Fault {
    pub const ALL: &[Self] = &[
        Self::CountedFromTheReply,
        Self::NoSeal,
        Self::SealUncompared,
        Self::Impatient,
        Self::RenewsSealed,
        Self::GrantIgnored,
        Self::NoCheckAtCommit,
    ];
}

pub struct Model {
    pub faults: &'static [Fault],
    /// When time ends.
    pub until: i64,
}

/// Where the holder's attempt stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Attempt {
    None,
    /// The database's clock was read.
    Read(i64),
    /// The renewal of the lease that it knew is on its way.
    Sent(i64, Lease),
    /// The ledger took it; the reply is on its way.
    Taken(i64, Epoch),
    /// The reply came; the call to the database is on its way.
    Telling(i64, Epoch),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub now: i64,
    pub lease: Lease,
    /// The table: its epoch, and whether the slot is still the lost unit's.
    pub table: Epoch,
    pub owned: bool,
    /// The table that the lost unit's cluster holds, and whether the slot is its own by it.
    pub projected: (Epoch, bool),
    pub attempt: Attempt,
    /// When the holder began an attempt last: one a second at most.
    pub began: i64,
    /// The lost unit's database: until when the lease lets writes pass, to which table it was brought, whether the slot is
    /// open, and whether a transaction has passed the check at its write.
    pub until: i64,
    pub brought: Epoch,
    pub open: bool,
    pub writing: bool,
    /// What the challenger has seen: the renewal, and when.
    pub seen: Option<(u64, i64)>,
    pub sealed_by_us: bool,
    /// Whether the new owner is open.
    pub other_open: bool,
    /// Whether a write landed here meanwhile.
    pub two_writers: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    Tick,
    /// The holder: reads the clock, sends, the ledger takes it, the reply comes, the database is told.
    ReadClock,
    Send,
    Take,
    Reply,
    Tell,
    /// The holder is killed; what it sent may still arrive as often as not.
    Forget,
    /// The table reaches the lost unit's cluster, and its agent brings the database to it.
    Project,
    Apply,
    /// A transaction writes, and commits.
    Write,
    Commit,
    /// The challenger looks, seals, changes the table; the new owner opens; the lease is granted anew.
    Look,
    Seal,
    Change,
    Open,
    Grant,
}

fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

fn terms() -> Terms {
    Terms::new(seconds(5)).unwrap()
}

impl Model {
    fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    /// Whether the database's deadline lets a write pass now.
    fn passes(world: &World) -> bool {
        world.now < world.until
    }

    fn take(&self, world: &mut World) -> Option<()> {
        let Attempt::Sent(from, known) = world.attempt.clone() else {
            return None;
        };
        // By compare-and-swap: a lease that was written meanwhile is read anew.
        if known != world.lease && !self.has(Fault::RenewsSealed) {
            world.attempt = Attempt::Sent(from, world.lease.clone());
            return (known.sealed.is_none()).then_some(());
        }
        let mut lease = world.lease.clone();
        if self.has(Fault::RenewsSealed) {
            lease.sealed = None;
        }
        match lease.renewed(&"east".into(), BTreeMap::new(), None) {
            Ok(renewed) => {
                world.attempt = Attempt::Taken(from, renewed.granted);
                world.lease = renewed;
            }
            Err(NotRenewed::Sealed { by, .. }) => {
                let mut memory = Memory::default();
                assert_eq!(memory.hear(Mode::Fence, Heard::Sealed { by }, seconds(0)), Act::Expire);
                (world.until, world.attempt) = (0, Attempt::None);
            }
            Err(NotRenewed::Another { .. }) => return None,
        }
        Some(())
    }

    fn tell(&self, world: &mut World) -> Option<()> {
        let Attempt::Telling(from, granted) = world.attempt else {
            return None;
        };
        let mut memory = Memory::default();
        let Act::Extend { granted } = memory.hear(Mode::Fence, Heard::Renewed { granted }, seconds(from)) else {
            return None;
        };
        world.attempt = Attempt::None;
        if world.brought >= granted || self.has(Fault::GrantIgnored) {
            // Whole seconds that lie within the window.
            let window = terms().window().as_millis();
            let until = from + i64::try_from(window).unwrap().div_euclid(1000) + 1;
            world.until = world.until.max(until);
        }
        Some(())
    }

    fn seal(&self, world: &mut World) -> Option<()> {
        let (renewals, since) = world.seen?;
        let challenge = Challenge::new(renewals, seconds(since));
        let over = challenge.is_over(terms(), seconds(world.now));
        let impatient = self.has(Fault::Impatient) && world.now >= since + 3;
        let same = *challenge.version() == world.lease.renewals || self.has(Fault::SealUncompared);
        if !(over || impatient) || !same || world.sealed_by_us || !world.owned {
            return None;
        }
        if !self.has(Fault::NoSeal) {
            world.lease = world.lease.sealed_by(&Seal {
                by: "op".into(),
                at: world.table,
            })?;
        }
        world.sealed_by_us = true;
        Some(())
    }

    fn act(&self, world: &mut World, action: Action) -> Option<()> {
        match action {
            Action::Tick if world.now < self.until => world.now += 1,
            Action::ReadClock if world.attempt == Attempt::None && world.began < world.now => {
                (world.attempt, world.began) = (Attempt::Read(world.now), world.now);
            }
            Action::Send => {
                let Attempt::Read(from) = world.attempt else {
                    return None;
                };
                world.attempt = Attempt::Sent(from, world.lease.clone());
            }
            Action::Take => return self.take(world),
            Action::Reply => {
                let Attempt::Taken(from, granted) = world.attempt else {
                    return None;
                };
                let from = if self.has(Fault::CountedFromTheReply) {
                    world.now
                } else {
                    from
                };
                world.attempt = Attempt::Telling(from, granted);
            }
            Action::Tell => return self.tell(world),
            Action::Forget if world.attempt != Attempt::None => world.attempt = Attempt::None,
            Action::Project if world.projected.0 < world.table => world.projected = (world.table, world.owned),
            Action::Apply if world.brought < world.projected.0 => {
                world.brought = world.projected.0;
                world.open = world.projected.1;
                // Closing waits for who has written, or ends it.
                world.writing &= world.open;
            }
            Action::Write if world.open && Self::passes(world) && !world.writing => world.writing = true,
            Action::Commit if world.writing => {
                world.writing = false;
                let lands = Self::passes(world) || self.has(Fault::NoCheckAtCommit);
                world.two_writers |= lands && world.other_open;
            }
            Action::Look => {
                let seen = world.seen.map(|(renewals, _)| renewals);
                if seen != Some(world.lease.renewals) {
                    world.seen = Some((world.lease.renewals, world.now));
                }
            }
            Action::Seal => return self.seal(world),
            Action::Change if world.sealed_by_us && world.owned => {
                world.table = world.table.next();
                world.owned = false;
            }
            Action::Open if !world.owned => world.other_open = true,
            Action::Grant if world.other_open => world.lease = world.lease.granted_at(world.table)?,
            Action::Tick
            | Action::ReadClock
            | Action::Forget
            | Action::Project
            | Action::Apply
            | Action::Write
            | Action::Commit
            | Action::Change
            | Action::Open
            | Action::Grant => return None,
        }
        Some(())
    }
}

impl Checked for Model {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let first = Epoch::new(1, 1);
        vec![World {
            now: 0,
            lease: Lease::first("east".into(), first),
            table: first,
            owned: true,
            projected: (first, true),
            attempt: Attempt::None,
            began: -1,
            until: 0,
            brought: first,
            open: true,
            writing: false,
            seen: None,
            sealed_by_us: false,
            other_open: false,
            two_writers: false,
        }]
    }

    fn actions(&self, _: &World, actions: &mut Vec<Action>) {
        actions.extend([
            Action::Tick,
            Action::ReadClock,
            Action::Send,
            Action::Take,
            Action::Reply,
            Action::Tell,
            Action::Forget,
            Action::Project,
            Action::Apply,
            Action::Write,
            Action::Commit,
            Action::Look,
            Action::Seal,
            Action::Change,
            Action::Open,
            Action::Grant,
        ]);
    }

    fn next_state(&self, before: &World, action: Action) -> Option<World> {
        let mut world = before.clone();
        self.act(&mut world, action)?;
        Some(world).filter(|world| world != before)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_WRITER, |_, world: &World| !world.two_writers),
            // What must be possible, or the rest would say nothing.
            Property::sometimes(
                "the new owner opens although the lost unit lives",
                |_, world: &World| world.other_open && world.attempt != Attempt::None,
            ),
            Property::sometimes(
                "a lease that was granted anew is taken by a database",
                |_, world: &World| {
                    world.other_open && world.lease.granted == world.table && world.until > world.now && !world.open
                },
            ),
            Property::sometimes("a seal comes too late for a renewal", |_, world: &World| {
                let late = |(renewals, since): (u64, i64)| {
                    world.lease.renewals > renewals && world.now >= since + 6 && !world.sealed_by_us
                };
                world.seen.is_some_and(late)
            }),
        ]
    }
}
