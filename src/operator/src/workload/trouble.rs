//! What went wrong with a member or an object, in words that say what to do.

use super::render::Id;
use std::fmt;
use std::time::Duration;

/// Why something is not as it should be. The order is that of importance: the first cause comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The MemberCluster does not allow the namespace.
    NamespaceNotAllowed,
    /// The team's account is missing in the member.
    AccountMissing,
    /// An account lacks a right.
    MissingRight,
    /// The member does not know the kind.
    UnknownKind,
    /// The member refused the object.
    Refused,
    /// The object, or a field of it, belongs to another.
    Conflict,
    /// The object is there and failed.
    Failed,
    /// The member does not answer.
    Unreachable,
    /// Not finished yet.
    Progressing,
}

impl Cause {
    /// One word, for conditions.
    pub fn word(self) -> &'static str {
        match self {
            Self::NamespaceNotAllowed => "NamespaceNotAllowed",
            Self::AccountMissing => "AccountMissing",
            Self::MissingRight => "MissingRight",
            Self::UnknownKind => "UnknownKind",
            Self::Refused => "Refused",
            Self::Conflict => "Conflict",
            Self::Failed => "Failed",
            Self::Unreachable => "Unreachable",
            Self::Progressing => "Progressing",
        }
    }

    /// When to look again, where no watch tells.
    pub fn retry(self) -> Option<Duration> {
        let seconds = match self {
            Self::NamespaceNotAllowed | Self::Failed | Self::Progressing => return None,
            Self::Unreachable => 2,
            Self::AccountMissing | Self::UnknownKind | Self::Conflict => 10,
            Self::MissingRight | Self::Refused => 20,
        };
        Some(Duration::from_secs(seconds))
    }
}

/// A cause and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The cause.
    pub cause: Cause,
    /// For people.
    pub message: String,
}

impl Trouble {
    /// A trouble.
    pub fn new(cause: Cause, message: impl Into<String>) -> Self {
        let message: String = message.into();
        Self {
            cause,
            message: message.chars().take(600).collect(),
        }
    }
}

impl Trouble {
    /// Whether it is an answer that keeps the team out, until somebody changes that.
    pub fn is_refusal(&self) -> bool {
        match self.cause {
            Cause::NamespaceNotAllowed | Cause::AccountMissing | Cause::MissingRight => true,
            Cause::UnknownKind
            | Cause::Refused
            | Cause::Conflict
            | Cause::Failed
            | Cause::Unreachable
            | Cause::Progressing => false,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// How the API server says that a right is asked for in no namespace.
const CLUSTER_SCOPE: &str = "at the cluster scope";

/// What was tried, for the words of a trouble.
#[derive(Clone, Copy, Debug)]
pub struct Tried<'a> {
    /// The verb.
    pub verb: &'a str,
    /// The object.
    pub id: &'a Id,
    /// The namespace.
    pub namespace: &'a str,
    /// The member.
    pub cluster: &'a str,
}

/// What an answer to a call of the team's account means.
pub fn explain(error: &kube::Error, tried: Tried<'_>) -> Trouble {
    let Tried {
        verb,
        id,
        namespace,
        cluster,
    } = tried;
    let kube::Error::Api(status) = error else {
        let why = crate::error::chain(error);
        return Trouble::new(Cause::Unreachable, format!("member {cluster} did not answer: {why}"));
    };
    let said = &status.message;
    match status.code {
        401 => Trouble::new(
            Cause::Unreachable,
            format!("member {cluster} refused the token of multiactive-deployer: {said}"),
        ),
        403 if said.contains(" cannot ") => Trouble::new(
            Cause::MissingRight,
            format!(
                "ServiceAccount multiactive-deployer in namespace {namespace} of member {cluster} has no right to {}; \
                 give it that right there by {}",
                missing_right(said).unwrap_or_else(|| format!("{verb} {id}")),
                if said.contains(CLUSTER_SCOPE) {
                    "a ClusterRole and a ClusterRoleBinding"
                } else {
                    "a Role and a RoleBinding"
                }
            ),
        ),
        404 => Trouble::new(
            Cause::UnknownKind,
            format!(
                "member {cluster} knows no {} in {} here: {said}",
                id.kind, id.api_version
            ),
        ),
        408 | 429 | 500..=599 => Trouble::new(Cause::Unreachable, format!("member {cluster} could not serve: {said}")),
        _ => Trouble::new(Cause::Refused, format!("member {cluster} refuses it: {said}")),
    }
}

/// Verb and resource in the API server's words `… cannot patch resource "roles" in API group "rbac…" in the namespace …`.
fn missing_right(said: &str) -> Option<String> {
    let (_, rest) = said.split_once(" cannot ")?;
    let (verb, rest) = rest.split_once(" resource \"")?;
    let (resource, rest) = rest.split_once('"')?;
    let group = rest
        .split_once("API group \"")
        .and_then(|(_, rest)| rest.split_once('"'))
        .map_or("", |(group, _)| group);
    let scope = if rest.contains(CLUSTER_SCOPE) {
        " at the cluster scope"
    } else {
        ""
    };
    Some(if group.is_empty() {
        format!("{verb} {resource}{scope}")
    } else {
        format!("{verb} {resource}.{group}{scope}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    #[test]
    fn a_refusal_says_what_is_missing_and_what_to_do() {
        let id = Id {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            name: "web".into(),
        };
        let tried = Tried {
            verb: "patch",
            id: &id,
            namespace: "shop",
            cluster: "east",
        };
        let user = "User \"system:serviceaccount:shop:multiactive-deployer\"";
        for (code, said, cause, want) in [
            (
                403,
                format!(
                    "deployments.apps \"web\" is forbidden: {user} cannot patch resource \"deployments\" in API group \"apps\" in the namespace \"shop\""
                ),
                Cause::MissingRight,
                "patch deployments.apps; give it that right there by a Role and a RoleBinding",
            ),
            (
                403,
                format!(
                    "x is forbidden: {user} cannot create resource \"namespaces\" in API group \"\" at the cluster scope"
                ),
                Cause::MissingRight,
                "create namespaces at the cluster scope; give it that right there by a ClusterRole and a ClusterRoleBinding",
            ),
            (
                403,
                "admission webhook \"x\" denied the request: no".into(),
                Cause::Refused,
                "denied the request",
            ),
            (
                422,
                "spec.replicas: must be positive".into(),
                Cause::Refused,
                "spec.replicas",
            ),
            (404, "not found".into(), Cause::UnknownKind, "knows no Deployment"),
            (503, "starting".into(), Cause::Unreachable, "could not serve"),
            (401, "Unauthorized".into(), Cause::Unreachable, "token"),
        ] {
            let status = Status {
                code,
                message: said.clone(),
                ..Status::failure("", "")
            };
            let status = Status {
                message: said,
                ..status
            };
            let trouble = explain(&kube::Error::Api(Box::new(status)), tried);
            assert_eq!(trouble.cause, cause, "{trouble}");
            assert!(trouble.message.contains(want), "{trouble}");
        }
    }
}
