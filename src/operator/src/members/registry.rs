//! The members that have been reached, for all parts of the operator.

use kube::Client;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use tokio::sync::watch;

/// Whether a member answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answers.
    Ready,
    /// It has not answered for some time: what is known of it is old.
    NotReady {
        /// One word.
        reason: &'static str,
        /// What is wrong.
        message: String,
    },
}

/// A cluster that has been reached at least once with its present credentials.
#[derive(Clone)]
pub struct Member {
    /// The MemberCluster's name.
    pub name: String,
    /// Its API server; without retries of its own.
    pub client: Client,
    /// How it is reached: to make clients with other credentials, such as a team's.
    pub config: kube::Config,
    /// The number of the connection: it grows when credentials or address change, and then all watches start anew.
    pub connection: u64,
    /// The uid of its kube-system namespace.
    pub uid: String,
    /// Whether it is the hub itself.
    pub hub: bool,
    /// The namespaces that the operator may write to.
    pub allowed_namespaces: Vec<String>,
    /// The namespace of its agent.
    pub agent_namespace: String,
    /// Whether it answers now.
    pub health: Health,
}

impl Member {
    /// Whether the operator may work in this namespace of it.
    pub fn allows(&self, namespace: &str) -> bool {
        self.allowed_namespaces.iter().any(|allowed| allowed == namespace)
    }

    /// Whether it answers now.
    pub fn is_ready(&self) -> bool {
        self.health == Health::Ready
    }

    /// Whether nothing but the client's inside may differ.
    fn same(&self, other: &Self) -> bool {
        self.name == other.name
            && self.connection == other.connection
            && self.uid == other.uid
            && self.hub == other.hub
            && self.allowed_namespaces == other.allowed_namespaces
            && self.agent_namespace == other.agent_namespace
            && self.health == other.health
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("name", &self.name)
            .field("connection", &self.connection)
            .field("hub", &self.hub)
            .field("health", &self.health)
            .finish_non_exhaustive()
    }
}

/// All members by name.
pub type MemberMap = BTreeMap<String, Arc<Member>>;

/// The registry. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Members(Arc<watch::Sender<Arc<MemberMap>>>);

impl Members {
    /// The member of this name; `None` where it has never been reached.
    pub fn get(&self, name: &str) -> Option<Arc<Member>> {
        self.0.borrow().get(name).cloned()
    }

    /// All members as they are now.
    pub fn all(&self) -> Arc<MemberMap> {
        Arc::clone(&self.0.borrow())
    }

    /// Word of every change of any member.
    pub fn subscribe(&self) -> watch::Receiver<Arc<MemberMap>> {
        self.0.subscribe()
    }

    /// Puts a member in; tells nobody where nothing changed.
    pub fn put(&self, member: Member) {
        self.0.send_if_modified(|map| {
            if map.get(&member.name).is_some_and(|known| known.same(&member)) {
                return false;
            }
            Arc::make_mut(map).insert(member.name.clone(), Arc::new(member));
            true
        });
    }

    /// Takes a member out.
    pub fn remove(&self, name: &str) {
        self.0.send_if_modified(|map| {
            let known = map.contains_key(name);
            if known {
                Arc::make_mut(map).remove(name);
            }
            known
        });
    }
}
