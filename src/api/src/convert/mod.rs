//! Between the stored shapes and the core's types. Reading is strict: what does not fit is an error that names the
//! field, never a default.

mod declared;
mod duration;
mod failover;
mod failover_object;
mod hook;
mod keyspace;
mod lease;
mod operation;
mod promotion;
mod table;
mod writer;

pub use declared::{failover_range, writer_range};
pub use duration::{format_duration, parse_duration};
pub use failover_object::failover_request;
pub use hook::hook_name;
pub use keyspace::{extractor, key_sources};
pub use lease::lease_terms;
pub use operation::write_units;
pub use promotion::{budgets, request, selection};

/// A stored object does not say what the core needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct ConvertError {
    /// The path of the field, such as `spec.keyspaces[2].spans`.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

impl ConvertError {
    /// An error of `field`.
    pub fn new(field: impl Into<String>, message: impl ToString) -> Self {
        Self {
            field: field.into(),
            message: message.to_string(),
        }
    }
}

/// A number in the width that the other side uses, or an error that names the field.
pub(crate) fn number<T, U>(field: &str, value: T) -> Result<U, ConvertError>
where
    T: Copy + std::fmt::Display,
    U: TryFrom<T>,
{
    U::try_from(value).map_err(|_| ConvertError::new(field, format!("{value} is out of range")))
}
