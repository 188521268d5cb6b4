//! Where a request's key is: sources compiled once, then tried in order for each request.
//!
//! Every byte here comes from outside. A key that is there but cannot be one (too long, no UTF-8, empty, or given twice)
//! is an error and never counts as missing: it must not fall through to another source or to `onMissing`.

use regex::{Regex, RegexBuilder};

/// The longest key, in bytes of UTF-8, after percent-decoding.
pub const MAX_KEY: usize = 1024;

/// The largest size of a compiled pattern, in bytes: a bound on what one Keyspace can make a router hold.
const MAX_PATTERN_SIZE: usize = 1 << 20;

/// One place where a key may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// The only group of a regular expression, matched against the path without the query, percent-decoded.
    Path {
        /// The regular expression.
        pattern: String,
    },
    /// The whole value of a header.
    Header {
        /// Its name, in any case.
        name: String,
    },
}

/// A list of sources that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// There is none.
    #[error("no key source: give at least one Path or Header")]
    NoSource,
    /// The regular expression does not compile.
    #[error("path pattern `{pattern}` is no regular expression: {problem}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The regular expression has no group, or several.
    #[error(
        "path pattern `{pattern}` has {groups} groups: exactly one must hold the key; write (?:...) for groups that do not"
    )]
    Groups {
        /// The pattern.
        pattern: String,
        /// How many groups it has.
        groups: usize,
    },
    /// A header name that no request can have.
    #[error("`{0}` is no header name: letters, digits and !#$%&'*+-.^_`|~ only, at least one")]
    HeaderName(String),
}

/// A key that is there and cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtractError {
    /// It is longer than [`MAX_KEY`].
    #[error("the key in the {place} is longer than {MAX_KEY} bytes")]
    KeyTooLong {
        /// Where it was.
        place: Place,
    },
    /// It is no UTF-8, as it came or after percent-decoding.
    #[error("the key in the {place} is not valid UTF-8")]
    InvalidUtf8 {
        /// Where it was.
        place: Place,
    },
    /// It has no character.
    #[error("the key in the {place} is empty")]
    EmptyKey {
        /// Where it was.
        place: Place,
    },
    /// It is given twice: the service behind might take the other one.
    #[error("the key's header is given twice, has a comma, or is there in a second spelling: one value only")]
    AmbiguousKey,
}

impl ExtractError {
    /// One word, for answers and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::KeyTooLong { .. } => "KeyTooLong",
            Self::InvalidUtf8 { .. } => "InvalidUtf8",
            Self::EmptyKey { .. } => "EmptyKey",
            Self::AmbiguousKey => "AmbiguousKey",
        }
    }
}

/// What a request says under the name of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given<'r> {
    /// Nothing.
    Absent,
    /// One value.
    Once(&'r [u8]),
    /// Several, or one under a name that services may take for this one.
    Ambiguous,
}

/// Where a key was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// In the path.
    Path,
    /// In a header.
    Header,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Path => "path",
            Self::Header => "header",
        })
    }
}

/// Key sources, compiled.
#[derive(Clone, Debug)]
pub struct KeyExtractor(Vec<Compiled>);

#[derive(Clone, Debug)]
enum Compiled {
    Path(Regex),
    Header(String),
}

impl KeyExtractor {
    /// Compiles the sources; the first one that is present in a request wins.
    ///
    /// # Errors
    ///
    /// [`KeyError`] for the first source that cannot be used.
    pub fn new(sources: &[KeySource]) -> Result<Self, KeyError> {
        if sources.is_empty() {
            return Err(KeyError::NoSource);
        }
        sources.iter().map(compile).collect::<Result<_, _>>().map(Self)
    }

    /// The key of a request, from its path as [`crate::path::decode`] gives it and its headers by lower-case name;
    /// `Ok(None)` where no source is present.
    ///
    /// # Errors
    ///
    /// [`ExtractError`] where the first source that is present holds no usable key.
    pub fn extract<'r>(
        &self,
        path: &'r str,
        header: impl Fn(&str) -> Given<'r>,
    ) -> Result<Option<&'r str>, ExtractError> {
        for source in &self.0 {
            let key = match source {
                Compiled::Path(pattern) => match pattern.captures(path).and_then(|found| found.get(1)) {
                    Some(group) => check(group.as_str(), Place::Path)?,
                    None => continue,
                },
                Compiled::Header(name) => match header(name) {
                    Given::Once(value) => from_header(value)?,
                    Given::Ambiguous => return Err(ExtractError::AmbiguousKey),
                    Given::Absent => continue,
                },
            };
            return Ok(Some(key));
        }
        Ok(None)
    }
}

fn compile(source: &KeySource) -> Result<Compiled, KeyError> {
    match source {
        KeySource::Path { pattern } => {
            let compiled = RegexBuilder::new(pattern).size_limit(MAX_PATTERN_SIZE).build();
            let compiled = compiled.map_err(|problem| KeyError::Pattern {
                pattern: pattern.clone(),
                problem: problem.to_string(),
            })?;
            // The whole match counts as a group of its own.
            let groups = compiled.captures_len() - 1;
            if groups != 1 {
                let pattern = pattern.clone();
                return Err(KeyError::Groups { pattern, groups });
            }
            Ok(Compiled::Path(compiled))
        }
        KeySource::Header { name } => {
            let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            if name.is_empty() || !name.bytes().all(token) {
                return Err(KeyError::HeaderName(name.clone()));
            }
            Ok(Compiled::Header(name.to_ascii_lowercase()))
        }
    }
}

fn from_header(raw: &[u8]) -> Result<&str, ExtractError> {
    let place = Place::Header;
    if raw.len() > MAX_KEY {
        return Err(ExtractError::KeyTooLong { place });
    }
    // Who joins two headers of one name puts a comma between them, and who splits them looks for one.
    if raw.contains(&b',') {
        return Err(ExtractError::AmbiguousKey);
    }
    let text = std::str::from_utf8(raw).map_err(|_| ExtractError::InvalidUtf8 { place })?;
    check(text, place)
}

fn check(key: &str, place: Place) -> Result<&str, ExtractError> {
    match key.len() {
        0 => Err(ExtractError::EmptyKey { place }),
        1..=MAX_KEY => Ok(key),
        _ => Err(ExtractError::KeyTooLong { place }),
    }
}
