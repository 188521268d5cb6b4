//! The order in which objects are applied: definitions, rights, configuration, then what uses them.

/// A step of the order; everything of a step stands before the next begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wave {
    /// CustomResourceDefinitions: later objects may be of their kinds.
    Definitions,
    /// Roles and bindings.
    Rights,
    /// Namespaces, accounts, configuration, services.
    Configuration,
    /// Everything else.
    Rest,
}

impl Wave {
    /// All, in order.
    pub const ALL: [Self; 4] = [Self::Definitions, Self::Rights, Self::Configuration, Self::Rest];

    /// The step of an object of this `apiVersion` and `kind`.
    pub fn of(api_version: &str, kind: &str) -> Self {
        let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
        match (group, kind) {
            ("apiextensions.k8s.io", "CustomResourceDefinition") => Self::Definitions,
            ("rbac.authorization.k8s.io", _) => Self::Rights,
            (
                "",
                "Namespace"
                | "ServiceAccount"
                | "ConfigMap"
                | "Secret"
                | "Service"
                | "LimitRange"
                | "ResourceQuota"
                | "PersistentVolume"
                | "PersistentVolumeClaim",
            )
            | ("storage.k8s.io" | "scheduling.k8s.io" | "networking.k8s.io", _)
            | ("policy", "PodDisruptionBudget") => Self::Configuration,
            _ => Self::Rest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_need_comes_first() {
        for (api_version, kind, want) in [
            ("apiextensions.k8s.io/v1", "CustomResourceDefinition", Wave::Definitions),
            ("rbac.authorization.k8s.io/v1", "Role", Wave::Rights),
            ("v1", "ServiceAccount", Wave::Configuration),
            ("v1", "Secret", Wave::Configuration),
            ("v1", "Service", Wave::Configuration),
            ("example.io/v1", "Service", Wave::Rest),
            ("v1", "Pod", Wave::Rest),
            ("apps/v1", "Deployment", Wave::Rest),
            ("autoscaling/v2", "HorizontalPodAutoscaler", Wave::Rest),
        ] {
            assert_eq!(Wave::of(api_version, kind), want, "{api_version} {kind}");
        }
        assert!(Wave::ALL.is_sorted());
    }
}
