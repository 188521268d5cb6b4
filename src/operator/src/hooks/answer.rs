//! What an answer of a hook says. Pure.

use http::StatusCode;
use serde::Deserialize;

/// How much of a hook's words is kept.
const WORDS: usize = 512;

/// An answer that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Whether the unit is fenced.
    pub(super) fenced: bool,
    /// In the hook's words.
    pub(super) message: String,
}

/// What the protocol asks for. All but the message has to be there: what is left out is no yes.
#[derive(Deserialize)]
struct Told {
    operation: String,
    fenced: bool,
    #[serde(default)]
    message: String,
}

/// The answer about `operation`; else why it is none. Nothing of a body that is none is repeated: nobody knows what is in it.
pub(super) fn read(status: StatusCode, body: &[u8], operation: &str) -> Result<Answer, String> {
    if status.is_redirection() {
        return Err(format!("it answered {status}, and redirects are not followed"));
    }
    if status != StatusCode::OK {
        return Err(format!("it answered {status}"));
    }
    // Serde would take a list of the three as well.
    let is_object = body.trim_ascii_start().starts_with(b"{");
    let told: Option<Told> = serde_json::from_slice(body).ok().filter(|_| is_object);
    let told = told.ok_or("its answer is no JSON object with operation, fenced and message")?;
    if told.operation != operation {
        return Err("its answer is about another operation: it has to repeat the one that was asked about".to_owned());
    }
    Ok(Answer {
        fenced: told.fenced,
        message: words(&told.message),
    })
}

/// One line, not too long, and never nothing.
fn words(said: &str) -> String {
    let line: String = said
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(WORDS)
        .collect();
    match line.trim() {
        "" => "it says no more".to_owned(),
        words => words.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_explicit_answer_about_this_operation_counts() {
        let ok = StatusCode::OK;
        for (status, body, want) in [
            (
                ok,
                r#"{"operation": "a.1", "fenced": true, "message": "off"}"#,
                Ok(true),
            ),
            (ok, r#"{"operation": "a.1", "fenced": false}"#, Ok(false)),
            (ok, r#"{"operation": "a.1", "fenced": true, "more": [1]}"#, Ok(true)),
            (ok, r#"{"operation": "a.2", "fenced": true}"#, Err("another operation")),
            (ok, r#"{"operation": "", "fenced": true}"#, Err("another operation")),
            (ok, r#"{"fenced": true}"#, Err("no JSON object")),
            (ok, r#"{"operation": "a.1"}"#, Err("no JSON object")),
            (ok, r#"{"operation": "a.1", "fenced": "true"}"#, Err("no JSON object")),
            (ok, r#"{"operation": "a.1", "fenced": 1}"#, Err("no JSON object")),
            (ok, r#"{"operation": "a.1", "fenced": null}"#, Err("no JSON object")),
            (
                ok,
                r#"{"operation": "a.1", "fenced": true, "fenced": false}"#,
                Err("no JSON object"),
            ),
            (ok, r#"{"operation": "a.1", "fenced": true} {}"#, Err("no JSON object")),
            (ok, r#"[{"operation": "a.1", "fenced": true}]"#, Err("no JSON object")),
            (ok, r#"["a.1", true, "off"]"#, Err("no JSON object")),
            (ok, "", Err("no JSON object")),
            (ok, "fenced", Err("no JSON object")),
            (
                StatusCode::ACCEPTED,
                r#"{"operation": "a.1", "fenced": true}"#,
                Err("202"),
            ),
            (StatusCode::TEMPORARY_REDIRECT, "", Err("redirects are not followed")),
            (
                StatusCode::SERVICE_UNAVAILABLE,
                r#"{"operation": "a.1", "fenced": true}"#,
                Err("503"),
            ),
        ] {
            let got = read(status, body.as_bytes(), "a.1");
            match (&got, want) {
                (Ok(answer), Ok(want)) => assert_eq!(answer.fenced, want, "{status} {body}"),
                (Err(why), Err(want)) => assert!(why.contains(want), "{status} {body}: {why}"),
                (_, _) => panic!("{status} {body}: {got:?}"),
            }
        }
    }

    #[test]
    fn what_a_hook_says_is_one_line_and_not_too_long() {
        for (said, want) in [
            ("off", "off".to_owned()),
            ("", "it says no more".to_owned()),
            ("\n\t", "it says no more".to_owned()),
            ("one\ntwo\u{1b}[31m", "one two [31m".to_owned()),
            (&"ß".repeat(600), "ß".repeat(512)),
        ] {
            assert_eq!(words(said), want);
        }
    }
}
