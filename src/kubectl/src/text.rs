//! Texts both ways: durations and ages as kubectl prints them, and what flags take.

use jiff::{SignedDuration, Timestamp};
use multiactive_api::convert::parse_duration;
use multiactive_core::slots::SlotSet;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// The time that stands for no limit.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// A duration for people, as `kubectl get` prints AGE: two parts at most, coarser with time.
pub fn age(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let two = |large: i64, one: &str, small: i64, other: &str| match small {
        0 => format!("{large}{one}"),
        _ => format!("{large}{one}{small}{other}"),
    };
    match () {
        () if seconds < 0 => "0s".to_owned(),
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => two(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 24 * 8 => two(hours / 24, "d", hours % 24, "h"),
        () if hours < 24 * 365 * 2 => format!("{}d", hours / 24),
        () if hours < 24 * 365 * 8 => two(hours / 24 / 365, "y", (hours / 24) % 365, "d"),
        () => format!("{}y", hours / 24 / 365),
    }
}

/// How long ago something was.
pub fn ago(now: Timestamp, then: Timestamp) -> String {
    age(now.duration_since(then))
}

/// A short duration to the millisecond, as operations show it; a long one as [`age`].
pub fn span(duration: SignedDuration) -> String {
    match duration.as_millis() {
        millis if millis < 0 => "0ms".to_owned(),
        millis if millis < 1000 => format!("{millis}ms"),
        millis if millis < 60_000 => format!("{}.{}s", millis / 1000, millis % 1000 / 100),
        _ => age(duration),
    }
}

/// One word or several: `1 slot`, `2 slots`.
pub fn count(number: usize, one: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {one}s"),
    }
}

/// The text of an enum of the API, as it stands in the objects.
pub fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(error) => error.to_string(),
    }
}

/// The enum of the API with this text.
pub fn parse_word<T: DeserializeOwned>(word: &str) -> Option<T> {
    serde_json::from_value(serde_json::Value::String(word.to_owned())).ok()
}

/// A duration of a flag: `10s`, a bare number of seconds as kubectl takes it, 0 for no limit.
///
/// # Errors
///
/// Where the text is neither.
pub fn patience(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().map(Duration::from_secs);
    let duration = match seconds {
        Some(duration) => duration,
        None => {
            let parsed = parse_duration("", text).map_err(|error| error.message)?;
            Duration::try_from(parsed).map_err(|error| error.to_string())?
        }
    };
    Ok(if duration.is_zero() { FOREVER } else { duration })
}

/// A budget of a Promotion: checked, and kept as it was written.
///
/// # Errors
///
/// Where it is no duration.
pub fn budget(text: &str) -> Result<String, String> {
    parse_duration("", text).map_err(|error| error.message)?;
    Ok(text.to_owned())
}

/// `KEYSPACE=0-511,600`.
///
/// # Errors
///
/// Where the slots are none.
pub fn slots(text: &str) -> Result<(String, String), String> {
    let (keyspace, slots) = text
        .split_once('=')
        .ok_or("write KEYSPACE=SLOTS, such as users=0-511,600")?;
    let parsed: SlotSet = slots.parse().map_err(|error| format!("{error}"))?;
    if keyspace.is_empty() || parsed.is_empty() {
        return Err("write KEYSPACE=SLOTS, such as users=0-511,600".to_owned());
    }
    Ok((keyspace.to_owned(), slots.to_owned()))
}

/// How rows are compared, in any case; what the API knows.
///
/// # Errors
///
/// Where the API knows no such mode.
pub fn verify_mode(text: &str) -> Result<multiactive_api::VerifyMode, String> {
    let mut capital = text.to_ascii_lowercase();
    if let Some(first) = capital.get_mut(0..1) {
        first.make_ascii_uppercase();
    }
    parse_word(&capital).ok_or_else(|| format!("`{text}` is no way to compare: None, Changed or Full"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_printed_as_kubectl_prints_them() {
        for (seconds, want) in [
            (-5, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (601, "10m"),
            (179 * 60, "179m"),
            (3 * 3600, "3h"),
            (3 * 3600 + 120, "3h2m"),
            (8 * 3600 + 120, "8h"),
            (47 * 3600, "47h"),
            (48 * 3600, "2d"),
            (50 * 3600, "2d2h"),
            (10 * 86_400, "10d"),
            (800 * 86_400, "2y70d"),
            (9 * 365 * 86_400, "9y"),
        ] {
            assert_eq!(age(SignedDuration::from_secs(seconds)), want, "{seconds} s");
        }
    }

    #[test]
    fn a_timeout_is_read_as_kubectl_reads_it() {
        for (text, want) in [
            ("10s", Ok(Duration::from_secs(10))),
            ("1m30s", Ok(Duration::from_secs(90))),
            ("5", Ok(Duration::from_secs(5))),
            ("0", Ok(FOREVER)),
            ("soon", Err(())),
        ] {
            assert_eq!(patience(text).map_err(drop), want, "{text}");
        }
    }

    #[test]
    fn slots_need_their_keyspace() {
        let of = |keyspace: &str, slots: &str| Ok((keyspace.to_owned(), slots.to_owned()));
        for (text, want) in [
            ("users=0-511,600", of("users", "0-511,600")),
            ("0-511", Err(())),
            ("users=", Err(())),
            ("users=9-3", Err(())),
            ("=1", Err(())),
        ] {
            assert_eq!(slots(text).map_err(drop), want, "{text}");
        }
    }
}
