//! A Keyspace in the core's terms: its function with overrides, and the sources of a request's key.

use super::ConvertError;
use crate::keyspace::{FunctionType, KeySource, KeySourceType, KeyspaceSpec};
use multiactive_core::hash::Function;
use multiactive_core::key::{self, KeyExtractor};
use multiactive_core::keyspace::Keyspace;

impl From<FunctionType> for Function {
    fn from(kind: FunctionType) -> Self {
        match kind {
            FunctionType::Crc32 => Self::Crc32,
            FunctionType::Md5 => Self::Md5,
        }
    }
}

/// From key to slot, as routers and stores compute it.
impl TryFrom<&KeyspaceSpec> for Keyspace {
    type Error = ConvertError;

    fn try_from(spec: &KeyspaceSpec) -> Result<Self, ConvertError> {
        let overrides = spec
            .overrides
            .iter()
            .flat_map(|entry| entry.keys.iter().map(|key| (key.clone(), i64::from(entry.slot))));
        Self::new(spec.slots.into(), spec.function.kind.into(), overrides)
            .map_err(|error| ConvertError::new("spec", error))
    }
}

/// The sources of a request's key, in order.
///
/// # Errors
///
/// [`ConvertError`] where a source lacks the member that its type names.
pub fn key_sources(spec: &KeyspaceSpec) -> Result<Vec<key::KeySource>, ConvertError> {
    let sources = spec.key.sources.iter().enumerate();
    sources.map(|(index, source)| key_source(index, source)).collect()
}

fn key_source(index: usize, source: &KeySource) -> Result<key::KeySource, ConvertError> {
    let missing = |member: &str| ConvertError::new(format!("spec.key.sources[{index}].{member}"), "missing");
    Ok(match source.kind {
        KeySourceType::Path => key::KeySource::Path {
            pattern: source.path.as_ref().ok_or_else(|| missing("path"))?.pattern.clone(),
        },
        KeySourceType::Header => key::KeySource::Header {
            name: source.header.as_ref().ok_or_else(|| missing("header"))?.name.clone(),
        },
    })
}

/// The sources of a request's key, compiled.
///
/// # Errors
///
/// [`ConvertError`] that names the first source which is incomplete, or whose pattern cannot be used.
pub fn extractor(spec: &KeyspaceSpec) -> Result<KeyExtractor, ConvertError> {
    let sources = key_sources(spec)?;
    KeyExtractor::new(&sources).map_err(|error| {
        let alone = |source: &&key::KeySource| KeyExtractor::new(std::slice::from_ref(*source)).is_err();
        let first = sources.iter().enumerate().find(|(_, source)| alone(source));
        let field = first.map_or_else(String::new, |(index, source)| match source {
            key::KeySource::Path { .. } => format!("[{index}].path.pattern"),
            key::KeySource::Header { .. } => format!("[{index}].header.name"),
        });
        ConvertError::new(format!("spec.key.sources{field}"), error)
    })
}
