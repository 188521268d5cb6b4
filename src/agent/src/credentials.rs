//! What a store's Secret must hold, and how it is read. Pure: the Secret is watched elsewhere.

use k8s_openapi::api::core::v1::Secret;
use std::collections::BTreeMap;
use std::fmt;

/// The key of the CA certificates.
pub const CA: &str = "ca.crt";

/// A user of a database and the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub username: String,
    /// The password.
    pub password: String,
}

/// Keeps the password out of logs.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// The logins of one store in one unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The agent's own, in the local database.
    pub own: Login,
    /// With which the local database reads from each peer, by the peer's unit.
    pub peers: BTreeMap<String, Login>,
    /// The CA certificates of the members' servers, where the store wants them.
    pub ca: Option<String>,
}

/// The Secret does not hold what it must.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// There is no such Secret.
    #[error("there is no Secret {0} in this namespace: create it, or correct members[].credentials of the DataStore")]
    NoSecret(String),
    /// A key is missing or empty.
    #[error("Secret {secret} has no key {key}: add it")]
    MissingKey {
        /// The Secret.
        secret: String,
        /// The key.
        key: String,
    },
    /// A value is no text.
    #[error("key {key} of Secret {secret} is not UTF-8")]
    NotText {
        /// The Secret.
        secret: String,
        /// The key.
        key: String,
    },
}

impl CredentialsError {
    /// One word, for status and events.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoSecret(_) => "CredentialsNotFound",
            Self::MissingKey { .. } => "CredentialsKeyMissing",
            Self::NotText { .. } => "CredentialsNotText",
        }
    }
}

/// The logins in a Secret, for a store that receives from these units; the login for one peer wins over the common one. With the
/// CA certificates where the store wants them.
///
/// # Errors
///
/// [`CredentialsError`] for the first key that is missing or no text.
pub fn credentials<'a>(
    name: &str,
    secret: Option<&Secret>,
    peers: impl IntoIterator<Item = &'a str>,
    with_ca: bool,
) -> Result<Credentials, CredentialsError> {
    let secret = secret.ok_or_else(|| CredentialsError::NoSecret(name.to_owned()))?;
    let read = |key: &str| text(name, secret, key);
    let must = |key: &str| {
        read(key)?.ok_or_else(|| CredentialsError::MissingKey {
            secret: name.to_owned(),
            key: key.to_owned(),
        })
    };
    let login = |user: &str, password: &str| {
        Ok(Login {
            username: must(user)?,
            password: must(password)?,
        })
    };
    let own = login("username", "password")?;
    let mut logins = BTreeMap::new();
    for peer in peers {
        let named = format!("{peer}.replicationUsername");
        let found = match read(&named)? {
            Some(_) => login(&named, &format!("{peer}.replicationPassword"))?,
            None => login("replicationUsername", "replicationPassword")?,
        };
        logins.insert(peer.to_owned(), found);
    }
    let ca = if with_ca { Some(must(CA)?) } else { None };
    Ok(Credentials { own, peers: logins, ca })
}

/// The text of a key; `None` where it is missing or empty.
fn text(name: &str, secret: &Secret, key: &str) -> Result<Option<String>, CredentialsError> {
    let Some(value) = secret.data.as_ref().and_then(|data| data.get(key)) else {
        return Ok(None);
    };
    let text = String::from_utf8(value.0.clone()).map_err(|_| CredentialsError::NotText {
        secret: name.to_owned(),
        key: key.to_owned(),
    })?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    fn secret(pairs: &[(&str, &[u8])]) -> Secret {
        let data = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), ByteString(value.to_vec())));
        Secret {
            data: Some(data.collect()),
            ..Secret::default()
        }
    }

    const FULL: [(&str, &[u8]); 4] = [
        ("username", b"agent"),
        ("password", b"own-secret"),
        ("replicationUsername", b"repl"),
        ("replicationPassword", b"repl-secret"),
    ];

    #[test]
    fn each_key_that_is_needed_and_missing_is_named() {
        for (without, peers, with_ca, want) in [
            ("username", vec![], false, Err("username")),
            ("password", vec![], false, Err("password")),
            (
                "replicationUsername",
                vec!["north-1"],
                false,
                Err("replicationUsername"),
            ),
            (
                "replicationPassword",
                vec!["north-1"],
                false,
                Err("replicationPassword"),
            ),
            ("replicationPassword", vec![], false, Ok(())),
            ("nothing", vec![], true, Err(CA)),
        ] {
            let pairs: Vec<_> = FULL.into_iter().filter(|(key, _)| *key != without).collect();
            let got = credentials("db", Some(&secret(&pairs)), peers.clone(), with_ca);
            let want = want.map_err(|key: &str| CredentialsError::MissingKey {
                secret: "db".into(),
                key: key.into(),
            });
            assert_eq!(got.map(|_| ()), want, "without {without}, peers {peers:?}");
        }
    }

    #[test]
    fn the_login_for_one_peer_wins() {
        let mut pairs = FULL.to_vec();
        pairs.push(("north-1.replicationUsername", b"special"));
        pairs.push(("north-1.replicationPassword", b"three"));
        let got = credentials("db", Some(&secret(&pairs)), ["north-1", "south-1"], false).unwrap();
        let users: Vec<_> = got
            .peers
            .iter()
            .map(|(peer, login)| (peer.as_str(), login.username.as_str()))
            .collect();
        assert_eq!(users, [("north-1", "special"), ("south-1", "repl")]);
    }

    #[test]
    fn no_secret_and_no_text_are_reasons_of_their_own_and_a_password_is_never_shown() {
        assert_eq!(
            credentials("db", None, [], false).unwrap_err().reason(),
            "CredentialsNotFound"
        );
        let bad = secret(&[("username", b"agent"), ("password", &[0xff])]);
        assert_eq!(
            credentials("db", Some(&bad), [], false).unwrap_err().reason(),
            "CredentialsNotText"
        );
        let shown = format!("{:?}", credentials("db", Some(&secret(&FULL)), ["a"], false).unwrap());
        assert!(shown.contains("agent") && !shown.contains("secret"), "{shown}");
    }
}
