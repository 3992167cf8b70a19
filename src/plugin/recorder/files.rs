//! The files of a recording: the current one, and those before it, numbered from the latest.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use crate::config::RecordingConfig;

/// `calls.jsonl`, then `calls.1.jsonl` and so on. Lines are written whole or not at all.
pub(super) struct Files {
    dir: PathBuf,
    config: RecordingConfig,
    file: File,
    /// Bytes of whole lines in it.
    size: u64,
}

impl Files {
    pub(super) fn open(dir: &Path, config: RecordingConfig) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let (file, size) = open_whole(&name(dir, 0))?;
        Ok(Self {
            dir: dir.to_owned(),
            config,
            file,
            size,
        })
    }

    pub(super) fn path(&self) -> PathBuf {
        name(&self.dir, 0)
    }

    /// Whether nothing is in the current file yet.
    pub(super) fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Whether so many more bytes belong into the next file. One that is empty takes
    /// whatever comes.
    pub(super) fn is_full_for(&self, more: usize) -> bool {
        !self.is_empty() && self.size.saturating_add(more as u64) > self.config.max_file
    }

    /// Begins the next file, and forgets the oldest. After an error it can be tried again: the
    /// files have moved on once.
    pub(super) fn rotate(&mut self) -> io::Result<()> {
        if fs::exists(self.path())? {
            self.shift()?;
        }
        (self.file, self.size) = open_whole(&self.path())?;
        Ok(())
    }

    /// Makes the current file the one before.
    fn shift(&self) -> io::Result<()> {
        for number in (1..self.config.files).rev() {
            match fs::rename(name(&self.dir, number - 1), name(&self.dir, number)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.config.files <= 1 {
            fs::remove_file(self.path())?;
        }
        Ok(())
    }

    /// Appends whole lines: all of them or, after an error, none.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(lines) {
            // A disk without room still gives some back.
            self.file.set_len(self.size)?;
            self.file.seek(SeekFrom::Start(self.size))?;
            return Err(error);
        }
        self.size += lines.len() as u64;
        Ok(())
    }
}

fn name(dir: &Path, number: usize) -> PathBuf {
    match number {
        0 => dir.join("calls.jsonl"),
        number => dir.join(format!("calls.{number}.jsonl")),
    }
}

/// Opens at the end. A last line that a crash has torn is ended, so that it spoils no other.
fn open_whole(path: &Path) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    let mut size = file.seek(SeekFrom::End(0))?;
    if size > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
            size += 1;
        }
    }
    Ok((file, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(dir: &Path, number: usize) -> Option<String> {
        fs::read_to_string(name(dir, number)).ok()
    }

    fn config(files: usize) -> RecordingConfig {
        RecordingConfig {
            max_file: 10,
            files,
        }
    }

    #[test]
    fn old_files_move_on_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Files::open(dir.path(), config(3)).unwrap();
        for line in ["first\n", "second\n", "third\n", "fourth\n"] {
            if files.is_full_for(line.len()) {
                files.rotate().unwrap();
            }
            files.append(line.as_bytes()).unwrap();
        }
        let texts: Vec<_> = (0..4).map(|number| read(dir.path(), number)).collect();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            texts,
            [text("fourth\n"), text("third\n"), text("second\n"), None]
        );
    }

    #[test]
    fn a_single_file_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Files::open(dir.path(), config(1)).unwrap();
        files.append(b"first\n").unwrap();
        files.rotate().unwrap();
        assert!(files.is_empty());
        files.append(b"second\n").unwrap();
        assert_eq!(read(dir.path(), 0).as_deref(), Some("second\n"));
        assert_eq!(read(dir.path(), 1), None);
    }

    #[rstest::rstest]
    fn a_next_file_that_could_not_be_opened_is_begun_later_and_no_recording_is_lost(
        #[values(1, 2, 3)] number: usize,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Files::open(dir.path(), config(number)).unwrap();
        for line in ["first\n", "second\n", "third\n"] {
            files.append(line.as_bytes()).unwrap();
            files.rotate().unwrap();
        }
        let before: Vec<_> = (1..4).map(|number| read(dir.path(), number)).collect();
        // All but the opening has been done.
        fs::remove_file(files.path()).unwrap();
        files.rotate().unwrap();
        assert!(files.is_empty());
        files.append(b"fourth\n").unwrap();
        assert_eq!(read(dir.path(), 0).as_deref(), Some("fourth\n"));
        let after: Vec<_> = (1..4).map(|number| read(dir.path(), number)).collect();
        assert_eq!(after, before);
    }

    #[test]
    fn a_torn_line_spoils_no_other() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(name(dir.path(), 0), "whole\ntor").unwrap();
        let mut files = Files::open(dir.path(), config(2)).unwrap();
        files.append(b"next\n").unwrap();
        assert_eq!(read(dir.path(), 0).as_deref(), Some("whole\ntor\nnext\n"));
    }
}
