//! How a verb ends: exit codes, and errors that name the object, what is wrong and what to do.

/// What the process says to scripts. Documented in every help and in docs/kubectl.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Ok,
    /// Something went wrong.
    Error,
    /// The command line is wrong.
    Usage,
    /// Something is not healthy, or a plan has blockers.
    Unhealthy,
    /// The operation ended Refused, Aborted or Failed.
    EndedBadly,
    /// There is no such thing.
    NotFound,
    /// A Verification found rows that differ, and they differ still.
    RowsDiffer,
    /// Ended by a signal of this number.
    Signal(u8),
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Error => 1,
            Self::Usage => 2,
            Self::Unhealthy => 3,
            Self::EndedBadly => 4,
            Self::NotFound => 5,
            Self::RowsDiffer => 6,
            Self::Signal(number) => 128_u8.saturating_add(number),
        }
    }
}

/// Why a verb did not do what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// For people, with the exit code.
    #[error("{message}")]
    Said {
        /// The exit code.
        exit: Exit,
        /// What is wrong and what to do.
        message: String,
    },
    /// The API server says that the user may not.
    #[error("{0}")]
    Forbidden(String),
    /// Who reads our output went away, as `head` does: nothing more to do, and no error.
    #[error("nobody reads the output any more")]
    Closed,
}

/// Of a verb's parts.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// Something went wrong.
    pub fn error(message: impl ToString) -> Self {
        Self::said(Exit::Error, message)
    }

    /// The command line is wrong.
    pub fn usage(message: impl ToString) -> Self {
        Self::said(Exit::Usage, message)
    }

    /// There is no such thing.
    pub fn not_found(message: impl ToString) -> Self {
        Self::said(Exit::NotFound, message)
    }

    fn said(exit: Exit, message: impl ToString) -> Self {
        let message = message.to_string();
        Self::Said { exit, message }
    }

    /// The exit code that belongs to it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Said { exit, .. } => *exit,
            Self::Forbidden(_) => Exit::Error,
            Self::Closed => Exit::Ok,
        }
    }
}
