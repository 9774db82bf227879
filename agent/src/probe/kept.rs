//! A file of `/proc` that is read again and again: opened once, into a buffer that is kept.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Larger files than this are cut: all that we read is at their beginning (`/proc/stat` of a machine with hundreds of
/// cores and interrupts is larger).
const MOST: usize = 8 * 1024;

#[derive(Debug)]
pub(super) struct KeptFile {
    path: PathBuf,
    file: Option<File>,
    buffer: Vec<u8>,
    size: usize,
}

impl KeptFile {
    /// A file of which the first `size` bytes matter.
    pub(super) fn new(path: PathBuf, size: usize) -> Self {
        Self { path, file: None, buffer: Vec::new(), size: size.min(MOST) }
    }

    /// Its beginning as it is now; none where it cannot be read.
    pub(super) fn read(&mut self) -> Option<&str> {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        let file = self.file.as_ref()?;
        self.buffer.resize(self.size, 0);
        let mut filled = 0;
        while filled < self.size {
            match file.read_at(&mut self.buffer[filled..], filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(_) => {
                    self.file = None;
                    return None;
                }
            }
        }
        std::str::from_utf8(&self.buffer[..filled]).ok()
    }
}
