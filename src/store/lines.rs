//! A file of JSON objects, one a line, appended and never changed.
//!
//! It may be moved away at any time: then a new one is begun in its place.

use std::{
    collections::HashSet,
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// How far back the end of the last whole line is looked for at a time, in bytes.
const STEP: u64 = 64 * 1024;

pub(super) struct Lines {
    path: PathBuf,
    /// `None` after an error, until the file could be opened anew.
    file: Option<File>,
}

impl Lines {
    /// Opens or creates the file. A last line that a crash has torn is moved to a file
    /// beside it.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let file = open_whole(&path)?;
        Ok(Self {
            path,
            file: Some(file),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends the lines and brings them to the disk. After an error any number of them may
    /// be in the file: see [`Self::without_present`].
    pub(super) fn append<'a>(&mut self, lines: impl Iterator<Item = &'a [u8]>) -> io::Result<()> {
        let mut file = match self.file.take() {
            Some(file) if is_at(&file, &self.path)? => file,
            Some(_) | None => open_whole(&self.path)?,
        };
        let mut text = Vec::new();
        for line in lines {
            text.extend_from_slice(line);
            text.push(b'\n');
        }
        file.write_all(&text)?;
        file.sync_data()?;
        self.file = Some(file);
        Ok(())
    }

    /// Which of the lines, the latest that were to be appended, the file does not have.
    pub(super) fn without_present<T: AsRef<[u8]>>(&self, lines: Vec<T>) -> io::Result<Vec<T>> {
        let sizes = lines.iter().map(|line| line.as_ref().len() as u64 + 1);
        let reach: u64 = sizes.sum();
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(lines),
            Err(error) => return Err(error),
        };
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(reach)))?;
        let mut tail = Vec::new();
        file.take(reach).read_to_end(&mut tail)?;
        let present: HashSet<&[u8]> = tail.split(|&byte| byte == b'\n').collect();
        Ok(lines
            .into_iter()
            .filter(|line| !present.contains(line.as_ref()))
            .collect())
    }
}

/// Some lines of a file, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Each is a JSON object.
    pub lines: Vec<String>,
    /// Where the next page begins.
    pub next: u64,
}

/// The most that is read for a page, in bytes: also the longest line that is read.
const PAGE: u64 = 1024 * 1024;

/// The first whole lines after a position, no more than the limit. A position within a line
/// counts as its end.
pub(super) fn page(path: &Path, after: u64, limit: usize) -> io::Result<Page> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        // It was moved away.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let lines = Vec::new();
            return Ok(Page { lines, next: 0 });
        }
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    // From one byte before, to see whether a line begins there.
    let start = after.saturating_sub(1).min(length);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(PAGE + 1).read_to_end(&mut bytes)?;
    let mut next = start;
    let mut skip = after > 0;
    let mut lines = Vec::new();
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        let Some(text) = line.strip_suffix(b"\n") else {
            // Torn, or longer than a page: that is no line of ours.
            if bytes.len() as u64 > PAGE && lines.is_empty() {
                next += line.len() as u64;
            }
            break;
        };
        if !skip {
            if lines.len() == limit {
                break;
            }
            lines.push(String::from_utf8_lossy(text).into_owned());
        }
        skip = false;
        next += line.len() as u64;
    }
    Ok(Page { lines, next })
}

/// Whether the file is still the one at this path.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let identity = |metadata: &Metadata| (metadata.dev(), metadata.ino());
    match fs::metadata(path) {
        Ok(there) => Ok(identity(&there) == identity(&file.metadata()?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn open_whole(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    if file.metadata()?.is_file() {
        let length = file.seek(SeekFrom::End(0))?;
        let whole = end_of_last_line(&mut file, length)?;
        if whole < length {
            move_torn(path, &mut file, whole, length)?;
        }
        file.seek(SeekFrom::End(0))?;
        if length == 0 {
            sync_directory_of(path)?;
        }
    }
    Ok(file)
}

/// A new file is durable when its directory is.
pub(super) fn sync_directory_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

fn end_of_last_line(file: &mut File, length: u64) -> io::Result<u64> {
    let mut end = length;
    let mut chunk = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(STEP);
        file.seek(SeekFrom::Start(start))?;
        chunk.clear();
        Read::by_ref(file)
            .take(end - start)
            .read_to_end(&mut chunk)?;
        if let Some(position) = chunk.iter().rposition(|&byte| byte == b'\n') {
            return Ok(start + position as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

fn move_torn(path: &Path, file: &mut File, whole: u64, length: u64) -> io::Result<()> {
    file.seek(SeekFrom::Start(whole))?;
    let mut torn = Vec::new();
    file.read_to_end(&mut torn)?;
    torn.push(b'\n');
    let mut name = path.as_os_str().to_owned();
    name.push(".torn");
    let aside = PathBuf::from(name);
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(&aside)?
        .write_all(&torn)?;
    file.set_len(whole)?;
    file.sync_data()?;
    tracing::warn!(
        file = %path.display(),
        aside = %aside.display(),
        bytes = length - whole,
        "the last line was torn by a crash and is moved aside; it is still in the outbox and \
         is appended again"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines<'a>(of: &'a [&str]) -> impl Iterator<Item = &'a [u8]> {
        of.iter().map(|line| line.as_bytes())
    }

    #[test]
    fn a_torn_last_line_is_moved_aside_and_whole_lines_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("published.jsonl");
        std::fs::write(&path, "{\"a\":1}\n{\"b\":2}\n{\"c\":").unwrap();
        let mut file = Lines::open(path.clone()).unwrap();
        file.append(lines(&["{\"d\":4}"])).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"a\":1}\n{\"b\":2}\n{\"d\":4}\n");
        let torn = std::fs::read_to_string(dir.path().join("published.jsonl.torn")).unwrap();
        assert_eq!(torn, "{\"c\":\n");
    }

    #[test]
    fn a_torn_line_longer_than_a_step_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("published.jsonl");
        let torn = "x".repeat(usize::try_from(STEP).unwrap() * 3);
        std::fs::write(&path, format!("{{}}\n{torn}")).unwrap();
        drop(Lines::open(path.clone()).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}\n");
    }

    #[test]
    fn pages_follow_each_other_and_leave_out_a_line_that_is_being_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("letters.jsonl");
        std::fs::write(&path, "{\"a\":1}\n{\"b\":2}\n{\"c\":3}\n{\"d\"").unwrap();
        let of = |after, limit| {
            let page = page(&path, after, limit).unwrap();
            (page.lines.join(" "), page.next)
        };
        assert_eq!(of(0, 2), ("{\"a\":1} {\"b\":2}".to_owned(), 16));
        assert_eq!(of(16, 2), ("{\"c\":3}".to_owned(), 24));
        assert_eq!(of(24, 2), (String::new(), 24));
        assert_eq!(of(3, 1), ("{\"b\":2}".to_owned(), 16), "within a line");
        assert_eq!(of(0, 0), (String::new(), 0));
        assert_eq!(of(u64::MAX, 2).0, "");
    }

    #[test]
    fn a_line_that_is_longer_than_a_page_holds_up_no_reader() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("letters.jsonl");
        let long = "x".repeat(usize::try_from(PAGE).unwrap() * 3);
        std::fs::write(&path, format!("{long}\n{{}}\n")).unwrap();
        let (mut after, mut lines) = (0, Vec::new());
        for _ in 0..6 {
            let page = page(&path, after, 10).unwrap();
            lines.extend(page.lines);
            after = page.next;
        }
        assert_eq!(lines.last().map(String::as_str), Some("{}"));
    }

    #[test]
    fn lines_that_the_file_has_are_not_appended_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = Lines::open(dir.path().join("published.jsonl")).unwrap();
        file.append(lines(&["{\"a\":1}", "{\"b\":2}"])).unwrap();
        let left = file
            .without_present(vec!["{\"b\":2}", "{\"c\":3}"])
            .unwrap();
        assert_eq!(left, ["{\"c\":3}"]);
    }
}
