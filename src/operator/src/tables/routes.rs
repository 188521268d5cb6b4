//! Which Keyspace gets a prefix of paths that several declare: the one that was created first, by name where they are
//! of the same second, as Gateway API has it. The others are published without that route. Pure.

use jiff::Timestamp;
use multiactive_api::Route;
use std::collections::BTreeMap;

/// One Keyspace's claim on prefixes.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// When it was created; `None` for what is in force already and not declared so.
    pub created: Option<Timestamp>,
    /// Its name.
    pub name: &'a str,
    /// Its routes.
    pub routes: &'a [Route],
}

/// The prefix as routers compare it: /orders/ is /orders.
pub fn canonical(prefix: &str) -> &str {
    prefix.trim_end_matches('/')
}

/// The routes that somebody else has, by Keyspace and index in its routes: who has them.
pub fn lost(claims: &[Claim<'_>]) -> BTreeMap<(String, usize), String> {
    let mut ordered = claims.to_vec();
    ordered.sort_by(|a, b| (a.created, a.name).cmp(&(b.created, b.name)));
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    let mut lost = BTreeMap::new();
    for claim in ordered {
        for (index, route) in claim.routes.iter().enumerate() {
            let prefix = canonical(&route.path_prefix);
            match owners.get(prefix) {
                Some(owner) => {
                    lost.insert((claim.name.to_owned(), index), (*owner).to_owned());
                }
                None => {
                    owners.insert(prefix, claim.name);
                }
            }
        }
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keyspace_that_was_created_first_has_the_prefix() {
        let route = |prefix: &str| Route {
            path_prefix: prefix.to_owned(),
            backend: "shop".to_owned(),
        };
        let at = |second| Some(Timestamp::from_second(second).unwrap());
        let (orders, slash, carts) = (route("/orders"), route("/orders/"), route("/carts"));
        let (both, one) = ([orders.clone(), carts], [slash]);
        let claim = |name, created, routes| Claim { created, name, routes };
        for (claims, want) in [
            (
                vec![claim("b", at(1), &both[..]), claim("a", at(2), &one[..])],
                vec![(("a", 0), "b")],
            ),
            (
                vec![claim("b", at(2), &both[..]), claim("a", at(1), &one[..])],
                vec![(("b", 0), "a")],
            ),
            (
                vec![claim("b", at(1), &both[..]), claim("a", at(1), &one[..])],
                vec![(("b", 0), "a")],
            ),
            // What is in force stays.
            (
                vec![claim("b", None, &both[..]), claim("a", at(1), &one[..])],
                vec![(("a", 0), "b")],
            ),
            (vec![claim("b", at(1), &both[..])], vec![]),
        ] {
            let want: BTreeMap<_, _> = want
                .into_iter()
                .map(|((name, index), owner)| ((name.to_owned(), index), owner.to_owned()))
                .collect();
            assert_eq!(lost(&claims), want, "{claims:?}");
        }
        let twice = [orders, one[0].clone()];
        assert_eq!(
            lost(&[claim("a", at(1), &twice)]),
            [(("a".to_owned(), 1), "a".to_owned())].into()
        );
    }
}
