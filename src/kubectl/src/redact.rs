//! What must not leave the cluster in a bundle: values of Secrets that workloads carry, passwords in URLs, in variables and
//! under telling names, private keys, tokens. Objects keep their shape, so that what is left can be read.

use serde_json::Value;

/// In place of what was taken out.
pub const REDACTED: &str = "REDACTED";

/// Parts of a name whose value is nobody's business.
const TELLING: [&str; 9] = [
    "password",
    "passwd",
    "passphrase",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "privatekey",
    "secretkey",
];

/// An object without what must not leave, and how many values were taken out. Managed fields and the copy that `kubectl
/// apply` keeps go too: the one is noise, the other the whole object once more.
pub fn object(mut value: Value) -> (Value, usize) {
    let mut count = 0;
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
    }
    walk(&mut value, &mut count);
    (value, count)
}

fn walk(value: &mut Value, count: &mut usize) {
    match value {
        Value::Object(map) => {
            if map.get("kind").and_then(Value::as_str) == Some("Secret") {
                for part in ["data", "stringData"] {
                    if let Some(part) = map.get_mut(part) {
                        all(part, count);
                    }
                }
            }
            // A variable of a container: its name tells what its value is.
            let variable = map.get("name").and_then(Value::as_str).is_some_and(is_telling);
            for (key, value) in map.iter_mut() {
                if let Value::String(text) = value
                    && (is_telling(key) || (variable && key == "value"))
                {
                    take(text, count);
                } else {
                    walk(value, count);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| walk(value, count)),
        Value::String(text) => {
            let (clean, found) = line(text);
            *text = clean;
            *count += found;
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn all(value: &mut Value, count: &mut usize) {
    match value {
        Value::Object(map) => map.values_mut().for_each(|value| all(value, count)),
        Value::Array(list) => list.iter_mut().for_each(|value| all(value, count)),
        Value::Null => {}
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            *value = Value::from(REDACTED);
            *count += 1;
        }
    }
}

fn take(text: &mut String, count: &mut usize) {
    REDACTED.clone_into(text);
    *count += 1;
}

fn is_telling(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    TELLING.iter().any(|part| name.contains(part))
}

/// A text, such as a line of a log: passwords in URLs, private keys, bearer tokens and `password=...` are taken out.
pub fn line(text: &str) -> (String, usize) {
    if text.contains("PRIVATE KEY-----") {
        return (REDACTED.to_owned(), 1);
    }
    let (mut clean, mut count) = (String::with_capacity(text.len()), 0);
    let mut after_bearer = false;
    // Word by word, with what separates them kept.
    for part in text.split_inclusive([' ', '\n', '\t', '"', ',', ';']) {
        let end = part.trim_end_matches([' ', '\n', '\t', '"', ',', ';']);
        let rest = &part[end.len()..];
        let redacted = if after_bearer && !end.is_empty() {
            Some(REDACTED.to_owned())
        } else {
            url(end).or_else(|| assignment(end))
        };
        after_bearer = end.eq_ignore_ascii_case("bearer") || (after_bearer && end.is_empty());
        count += usize::from(redacted.is_some());
        clean.push_str(&redacted.unwrap_or_else(|| end.to_owned()));
        clean.push_str(rest);
    }
    (clean, count)
}

/// `scheme://user:password@host`.
fn url(word: &str) -> Option<String> {
    let (scheme, rest) = word.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (user, _) = authority.rsplit_once('@')?;
    let (name, _) = user.split_once(':')?;
    let host = &rest[user.len()..];
    Some(format!("{scheme}://{name}:{REDACTED}{host}"))
}

/// `password=...`.
fn assignment(word: &str) -> Option<String> {
    let (name, value) = word.split_once('=')?;
    (is_telling(name) && !value.is_empty()).then(|| format!("{name}={REDACTED}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_secret_is_taken_out_and_the_shape_stays() {
        for (value, want, taken) in [
            (
                json!({"kind": "Secret", "data": {"a": "eA=="}, "stringData": {"b": "x"}, "type": "Opaque"}),
                json!({"kind": "Secret", "data": {"a": REDACTED}, "stringData": {"b": REDACTED}, "type": "Opaque"}),
                2,
            ),
            (
                json!({"env": [{"name": "DB_PASSWORD", "value": "x"}, {"name": "PORT", "value": "80"}]}),
                json!({"env": [{"name": "DB_PASSWORD", "value": REDACTED}, {"name": "PORT", "value": "80"}]}),
                1,
            ),
            (
                json!({"env": [{"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}]}),
                json!({"env": [{"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}]}),
                0,
            ),
            (
                json!({"args": ["--db=postgres://shop:hunter2@db:5432/shop?sslmode=on"]}),
                json!({"args": ["--db=postgres://shop:REDACTED@db:5432/shop?sslmode=on"]}),
                1,
            ),
            (json!({"credentials": "shop-db"}), json!({"credentials": "shop-db"}), 0),
            (
                json!({"metadata": {"managedFields": [1], "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "a": "b"}}}),
                json!({"metadata": {"annotations": {"a": "b"}}}),
                0,
            ),
        ] {
            assert_eq!(object(value.clone()), (want, taken), "{value}");
        }
    }

    #[test]
    fn lines_of_logs_keep_their_words_and_lose_their_secrets() {
        for (text, want) in [
            (
                "connecting to postgres://a:b@c/d failed",
                "connecting to postgres://a:REDACTED@c/d failed",
            ),
            (
                "{\"h\":\"Authorization: Bearer abc.def\"}",
                "{\"h\":\"Authorization: Bearer REDACTED\"}",
            ),
            ("password=x user=y", "password=REDACTED user=y"),
            ("-----BEGIN PRIVATE KEY-----", REDACTED),
            (
                "https://router.east.example:8443 at 1.41",
                "https://router.east.example:8443 at 1.41",
            ),
            ("two  blanks,\tand a tab", "two  blanks,\tand a tab"),
        ] {
            assert_eq!(line(text).0, want);
        }
    }
}
