//! The names that our certificates carry.

const ROUTER: &str = ".router.multiactive.internal";

/// The name in the certificate of a unit's routers.
pub fn router_name(unit: &str, namespace: &str) -> String {
    format!("{unit}.{namespace}{ROUTER}")
}

/// The name in the certificate of a member cluster's agent.
pub fn agent_name(cluster: &str) -> String {
    format!("{cluster}.agent.multiactive.internal")
}

/// The `(unit, namespace)` whose router has this name; `None` where it is no router's.
pub fn router_unit(name: &str) -> Option<(&str, &str)> {
    // A namespace holds no dot, so the last one parts it from the unit.
    let (unit, namespace) = name.strip_suffix(ROUTER)?.rsplit_once('.')?;
    (!unit.is_empty() && !namespace.is_empty()).then_some((unit, namespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_routers_name_is_read_back_and_no_other_name_is_taken_for_one() {
        assert_eq!(router_unit(&router_name("east-1", "shop")), Some(("east-1", "shop")));
        assert_eq!(router_unit(&router_name("a.b", "shop")), Some(("a.b", "shop")));
        for other in [
            agent_name("east").as_str(),
            "router.multiactive.internal",
            "east-1.router.multiactive.internal",
            ".shop.router.multiactive.internal",
            "east-1.shop.router.multiactive.internal.evil",
        ] {
            assert_eq!(router_unit(other), None, "{other}");
        }
    }
}
