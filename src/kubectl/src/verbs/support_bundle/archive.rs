//! A `.tar.gz` that is there whole or not at all, readable by its owner alone.

use crate::fail::{Failure, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tar::{Builder, Header};

/// A bundle that is being written beside its place.
pub struct Archive {
    builder: Option<Builder<GzEncoder<File>>>,
    partial: PathBuf,
    place: PathBuf,
    root: String,
    time: u64,
}

impl Archive {
    /// Begins one; everything in it is below `root`.
    ///
    /// # Errors
    ///
    /// Where the file cannot be written.
    pub fn create(place: &Path, root: &str, now: Timestamp) -> Result<Self> {
        let mut partial = place.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&partial);
        let file = file.map_err(|error| Failure::error(format!("writing {}: {error}", partial.display())))?;
        Ok(Self {
            builder: Some(Builder::new(GzEncoder::new(file, Compression::default()))),
            partial,
            place: place.to_owned(),
            root: root.to_owned(),
            time: u64::try_from(now.as_second()).unwrap_or(0),
        })
    }

    /// Adds a file.
    ///
    /// # Errors
    ///
    /// Where it cannot be written.
    pub fn add(&mut self, name: &str, text: &str) -> Result<()> {
        let mut header = Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(self.time);
        let path = format!("{}/{name}", self.root);
        let written = match &mut self.builder {
            Some(builder) => builder.append_data(&mut header, path, text.as_bytes()),
            None => Ok(()),
        };
        written.map_err(|error| self.failed(&error))
    }

    /// Ends it and puts it in its place.
    ///
    /// # Errors
    ///
    /// Where it cannot be written.
    pub fn finish(mut self) -> Result<()> {
        let Some(builder) = self.builder.take() else {
            return Ok(());
        };
        let ended = builder
            .into_inner()
            .and_then(GzEncoder::finish)
            .and_then(|file| file.sync_all());
        let ended = ended.and_then(|()| std::fs::rename(&self.partial, &self.place));
        ended.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &std::io::Error) -> Failure {
        Failure::error(format!("writing {}: {error}", self.place.display()))
    }
}

/// What was not finished is of no use.
impl Drop for Archive {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.partial);
    }
}
