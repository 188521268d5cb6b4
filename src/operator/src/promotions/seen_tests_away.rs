//! What the step machine is shown of members that are away.

use super::*;

#[test]
fn links_with_a_unit_that_is_away_do_not_count_and_it_is_said_to_be_away() {
    // C is gone: its last words are old, and nobody hears from it.
    let gone = || {
        let a = links_from(&[("b", "Running"), ("c", "Broken")]);
        let b = links_from(&[("a", "Running"), ("c", "Broken")]);
        with_third(inputs(a, b), links_from(&[("a", "Running"), ("b", "Running")]))
    };
    let unknown = gone();
    let mut away = gone();
    away.away.insert("c".into());
    for (inputs, reachable, links) in [
        (unknown, None, "Some(Err(\"link orders from c to a is broken\"))"),
        (away, Some(false), ""),
    ] {
        let seen = seen(&three(), &inputs);
        let of = |unit: &str| seen.members.iter().find(|member| member.unit.as_str() == unit).unwrap();
        assert_eq!((of("b").reachable, of("c").reachable), (Some(true), reachable));
        // The third unit tells of all its links; source and target tell of those between them.
        assert!(format!("{:?}", of("c").links).starts_with(links), "{:?}", of("c").links);
        assert_eq!(of("b").links, Some(Ok(())));
        assert_eq!(seen.sources[0].links, Some(Ok(())));
    }
}

#[test]
fn a_member_that_was_away_when_writes_began_to_be_held_holds_up_no_link_either() {
    let a = links_from(&[("b", "Running"), ("c", "Running")]);
    let b = links_from(&[("a", "Running"), ("c", "Running")]);
    let mut inputs = with_third(inputs(a, b), links_from(&[("a", "Running"), ("b", "Starting")]));
    inputs.reachable.insert("c".into());
    let spec = json!({"cluster": "d", "role": "Sharded", "router": "https://r:1"});
    inputs.units.push(Arc::new(object("Unit", "d", spec)));
    let member = serde_json::from_value(json!({"unit": "d", "address": "h:1", "credentials": "s"}));
    Arc::make_mut(&mut inputs.stores[0]).spec.members.push(member.unwrap());
    let d = links_from(&[("a", "Running"), ("b", "Running"), ("c", "Starting")]);
    inputs.reports.extend([report("d", d)]);
    for unit in ["a", "b", "c"] {
        let mut links = inputs.reports[&UnitName::from(unit)].status.clone().unwrap();
        let link = json!({"store": "orders", "from": "d", "state": "Running"});
        links.links.push(serde_json::from_value(link).unwrap());
        Arc::make_mut(inputs.reports.get_mut(&UnitName::from(unit)).unwrap()).status = Some(links);
    }
    let mut op = operation();
    op.stores = vec![orders(&["a", "b", "c", "d"])];
    let links = |op: &Operation| {
        let seen = seen(op, &inputs);
        let of = |unit: &str| {
            seen.members
                .iter()
                .find(|member| member.unit.as_str() == unit)
                .unwrap()
                .links
                .clone()
        };
        format!("{:?} {:?}", of("b"), of("d"))
    };
    assert_eq!(
        links(&op),
        "Some(Ok(())) Some(Err(\"link orders from c to d is starting\"))"
    );
    op.behind = vec!["c".into()];
    assert_eq!(links(&op), "Some(Ok(())) Some(Ok(()))");
}

#[test]
fn source_and_target_are_waited_for_though_they_are_away() {
    let (a, b) = (links_from(&[("b", "Running")]), links_from(&[("a", "Running")]));
    for away in ["a", "b"] {
        let mut inputs = inputs(a.clone(), b.clone());
        inputs.reachable.remove(&UnitName::from(away));
        inputs.away.insert(away.into());
        let seen = seen(&operation(), &inputs);
        let source = format!("{:?}", seen.sources[0].links);
        assert_eq!(source.contains("does not answer"), away == "a", "{source}");
        assert_eq!(seen.members[0].reachable, Some(away != "b"));
        assert_eq!(format!("{:?}", seen.members[0].links), "Some(Ok(()))");
    }
}

#[test]
fn a_member_whose_database_is_silent_for_long_is_as_good_as_away_and_source_and_target_are_not() {
    let a = links_from(&[("b", "Running"), ("c", "Running")]);
    let b = links_from(&[("a", "Running"), ("c", "Running")]);
    for unit in ["a", "b", "c"] {
        let mut inputs = with_third(inputs(a.clone(), b.clone()), json!({}));
        inputs.reachable.insert("c".into());
        inputs.silent_stores.insert((unit.into(), "orders".into()));
        inputs.silent_stores.insert(("c".into(), "another".into()));
        let seen = seen(&three(), &inputs);
        for member in &seen.members {
            let away = member.unit.as_str() == unit && unit == "c";
            assert_eq!(member.away(), away, "{unit} silent: {member:?}");
        }
    }
}
