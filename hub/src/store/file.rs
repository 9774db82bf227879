//! How the file is opened.

use std::path::Path;

use redb::{Builder, Database, DatabaseError};

/// Opens the database at `path`, or makes one of an empty file.
pub(super) fn create(path: &Path, cache: usize) -> Result<Database, DatabaseError> {
    Builder::new().set_cache_size(cache).create(path)
}
