//! Whether a promotion may begin.
#![allow(clippy::unwrap_used, clippy::panic, clippy::type_complexity)] // Helpers of tests are tests too.

mod common;

use common::{admitted, at, request, slots, table, unit};
use multiactive_core::ids::KeyspaceName;
use multiactive_core::promotion::{Finished, OperationKind, Outcome, Refusal, Request, Step, admit};

type Change = fn(&mut Request);

#[test]
fn a_request_that_cannot_run_is_refused_with_its_reason() {
    let rows: [(&str, Change, &str); 13] = [
        ("unknown target", |r| r.target = unit("west"), "UnknownUnit"),
        (
            "unknown keyspace",
            |r| r.select[0].0 = "carts".into(),
            "UnknownKeyspace",
        ),
        ("no selection", |r| r.select.clear(), "NothingSelected"),
        ("empty selection", |r| r.select[0].1 = slots(""), "NothingSelected"),
        (
            "slots that do not exist",
            |r| r.select[0].1 = slots("0-20"),
            "NoSuchSlots",
        ),
        ("unowned slots", |r| r.select[0].1 = slots("4-12"), "NotServing"),
        ("target owns all", |r| r.select[0].1 = slots("8-9"), "AlreadyOwner"),
        ("stale", |r| r.expected_epoch = 3, "Stale"),
        (
            "stale in one slot",
            |r| (r.select[0].1, r.expected_epoch) = (slots("7-8"), 8),
            "Stale",
        ),
        ("as new as the slots", |r| r.expected_epoch = 4, "begins"),
        ("older than other slots", |r| r.expected_epoch = 8, "begins"),
        ("newer than the table", |r| r.expected_epoch = 99, "begins"),
        ("part is owned already", |r| r.select[0].1 = slots("6-9"), "begins"),
    ];
    for (what, change, want) in rows {
        let mut request = request();
        change(&mut request);
        let got = admit(&table(), &request, at(0));
        let got = got.as_ref().map_or_else(Refusal::reason, |_| "begins");
        assert_eq!(got, want, "{what}");
    }
}

#[test]
fn what_begins_stands_at_check_and_moves_only_what_the_target_lacks() {
    let mut request = request();
    request.select = vec![("users".into(), slots("6-9")), ("users".into(), slots("5-7"))];
    let op = admit(&table(), &request, at(7)).unwrap();
    assert_eq!(op.step, Step::Check);
    assert_eq!(op.entered(), Some(at(7)));
    let moves: Vec<_> = op
        .moves
        .iter()
        .map(|m| (m.source.as_str(), m.slots.to_string()))
        .collect();
    assert_eq!(moves, [("east", "5-7".to_owned())], "selected twice is moved once");
}

#[test]
fn what_ended_once_does_nothing_when_it_comes_again() {
    let mut table = table();
    table.finished.push(Finished {
        kind: OperationKind::Promotion,
        uid: "uid-0".into(),
        name: "move".to_owned(),
        outcome: Outcome::Succeeded,
        at: at(0),
        epoch: table.epoch,
        behind: Vec::new(),
        keyspaces: Vec::new(),
        unsettled: Vec::new(),
        loss: None,
        history: Vec::new(),
    });
    let refusal = admit(&table, &request(), at(1)).unwrap_err();
    assert_eq!(
        refusal.reason(),
        "AlreadyDone",
        "another uid, the same name: Git made it again"
    );
}

#[test]
fn two_operations_never_share_a_slot_a_name_or_a_uid() {
    let rows: [(&str, &str, &str, &str); 5] = [
        ("uid-2", "other", "3-5", "SlotsBusy"),
        ("uid-2", "other", "4-5", "begins"),
        ("uid-2", "move", "4-5", "AlreadyRunning"),
        ("uid-1", "other", "4-5", "AlreadyRunning"),
        ("uid-1", "move", "0-3", "AlreadyRunning"),
    ];
    for (uid, name, selected, want) in rows {
        let other = Request {
            uid: uid.into(),
            name: name.to_owned(),
            select: vec![("users".into(), slots(selected))],
            ..request()
        };
        let got = admit(&admitted(), &other, at(0));
        let got = got.as_ref().map_or_else(Refusal::reason, |_| "begins");
        assert_eq!(got, want, "{uid} {name} {selected}");
    }
}

#[test]
fn a_refusal_about_a_single_writer_names_its_store() {
    let keyspace = KeyspaceName::of_writer(&"catalog".into());
    let busy = Refusal::Busy {
        keyspace: keyspace.clone(),
        slots: slots("0"),
        operation: "move".to_owned(),
        step: Step::Check,
    };
    let want = "the writer of DataStore catalog is being moved by move, at Check: wait for its end or abort it";
    assert_eq!(busy.to_string(), want);
    let unowned = Refusal::NotServing {
        keyspace,
        slots: slots("0"),
    };
    let want = "DataStore catalog is not written by any unit yet: wait until it is Ready";
    assert_eq!(unowned.to_string(), want);
}

#[test]
fn a_refusal_says_what_to_do() {
    let busy = Request {
        uid: "uid-2".into(),
        name: "other".to_owned(),
        ..request()
    };
    let mut table_of = admitted();
    let said = admit(&table_of, &busy, at(0)).unwrap_err();
    let want = "slots 0-3 of users are being moved by move, at Check: wait for its end or abort it";
    assert_eq!(said.to_string(), want);
    // After the commit there is no way back.
    table_of.operations[0].step = Step::Settle;
    for (request, begin) in [
        (&busy, "slots 0-3 of users are being moved by move, at Settle: "),
        (&request(), "move runs already, at Settle: "),
    ] {
        let said = admit(&table_of, request, at(0)).unwrap_err().to_string();
        let end = "the owner has changed, so it cannot be aborted; its status.waitingFor says what holds up its end";
        assert_eq!(said, format!("{begin}{end}"));
    }
    let stale = Request {
        expected_epoch: 3,
        ..request()
    };
    let stale = admit(&table(), &stale, at(0)).unwrap_err();
    let want = "slot 0 of users changed at epoch 1.4, after the expected epoch 3: look again, then plan anew";
    assert_eq!(stale.to_string(), want);
}
