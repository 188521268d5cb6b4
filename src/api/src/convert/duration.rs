//! Durations as users write them: `10s`, `1m30s`, `250ms`.

use super::ConvertError;
use jiff::SignedDuration;

/// Reads `^([0-9]+(ms|s|m|h))+$`; `field` is named in the error.
///
/// # Errors
///
/// [`ConvertError`] where the text has another form or does not fit.
pub fn parse_duration(field: &str, text: &str) -> Result<SignedDuration, ConvertError> {
    let bad = || ConvertError::new(field, format!("`{text}` is no duration such as 10s or 1m30s"));
    let mut total = SignedDuration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let count: i64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let part = match &rest[..letters] {
            "ms" => Some(SignedDuration::from_millis(count)),
            "s" => Some(SignedDuration::from_secs(count)),
            "m" => count.checked_mul(60).map(SignedDuration::from_secs),
            "h" => count.checked_mul(3600).map(SignedDuration::from_secs),
            _ => None,
        };
        total = part.and_then(|part| total.checked_add(part)).ok_or_else(bad)?;
        rest = &rest[letters..];
    }
    if text.is_empty() { Err(bad()) } else { Ok(total) }
}

/// Writes a duration as [`parse_duration`] reads it, to the millisecond; a negative one as `0ms`.
pub fn format_duration(duration: SignedDuration) -> String {
    let millis = duration.as_millis().max(0);
    let parts = [
        (millis / 3_600_000, "h"),
        (millis / 60_000 % 60, "m"),
        (millis / 1000 % 60, "s"),
        (millis % 1000, "ms"),
    ];
    let text: String = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    if text.is_empty() { "0ms".to_owned() } else { text }
}
