//! A database file that is only read: what its repair writes stays in memory.

use std::{collections::BTreeMap, fs::File, io, path::Path};

use parking_lot::Mutex;
use redb::{DatabaseError, StorageBackend, backends::FileBackend};

const BLOCK: u64 = 4096;

/// The file, and over it the blocks that were written.
#[derive(Debug)]
pub(super) struct Overlay {
    file: FileBackend,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    length: u64,
    /// How much of the file still shows.
    shown: u64,
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Overlay {
    pub(super) fn open(path: &Path) -> Result<Self, DatabaseError> {
        let file = FileBackend::new(File::open(path)?)?;
        let length = file.len()?;
        let state = State {
            length,
            shown: length,
            blocks: BTreeMap::new(),
        };
        Ok(Self {
            file,
            state: Mutex::new(state),
        })
    }

    /// As it is in the file, with zeros where it ends.
    fn block(&self, shown: u64, number: u64) -> io::Result<Vec<u8>> {
        let start = number * BLOCK;
        let there = shown.saturating_sub(start).min(BLOCK);
        let there = usize::try_from(there).map_err(io::Error::other)?;
        let mut block = vec![0; there];
        self.file.read(start, &mut block)?;
        block.resize(BLOCK as usize, 0);
        Ok(block)
    }
}

/// The blocks of a range, each with what of it belongs to the range.
fn blocks(offset: u64, length: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let end = offset + length as u64;
    let numbers = offset / BLOCK..end.div_ceil(BLOCK);
    numbers.map(move |number| {
        let start = number * BLOCK;
        let from = offset.saturating_sub(start);
        let to = (end - start).min(BLOCK);
        // Both are within a block.
        (number, from as usize..to as usize)
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state.lock();
        if offset + out.len() as u64 > state.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut out = out;
        for (number, range) in blocks(offset, out.len()) {
            let from_file;
            let block = match state.blocks.get(&number) {
                Some(block) => block,
                None => {
                    from_file = self.block(state.shown, number)?;
                    &from_file
                }
            };
            let part = block.get(range).unwrap_or_default();
            let (now, later) = out.split_at_mut(part.len());
            now.copy_from_slice(part);
            out = later;
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.shown = state.shown.min(length);
        state.length = length;
        let keep = length.div_ceil(BLOCK);
        state.blocks.retain(|number, _| *number < keep);
        if let Some(last) = state.blocks.get_mut(&(length / BLOCK)) {
            let rest = last.iter_mut().skip((length % BLOCK) as usize);
            rest.for_each(|byte| *byte = 0);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        state.length = state.length.max(offset + data.len() as u64);
        let mut data = data;
        for (number, range) in blocks(offset, data.len()) {
            if !state.blocks.contains_key(&number) {
                let block = self.block(state.shown, number)?;
                state.blocks.insert(number, block);
            }
            let (now, later) = data.split_at(range.len());
            if let Some(part) = state.blocks.get_mut(&number).and_then(|b| b.get_mut(range)) {
                part.copy_from_slice(now);
            }
            data = later;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_the_file_is_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let before: Vec<u8> = (0..10_000_u32).map(|n| (n % 251) as u8).collect();
        fs::write(&path, &before).unwrap();
        let overlay = Overlay::open(&path).unwrap();
        overlay.set_len(20_000).unwrap();
        let mut expected = before.clone();
        expected.resize(20_000, 0);
        for (offset, length) in [(0, 10), (4090, 12), (9990, 20), (8192, 4096), (19_990, 10)] {
            overlay.write(offset as u64, &vec![7; length]).unwrap();
            expected[offset..offset + length].fill(7);
        }
        let read = |offset: usize, length: usize| {
            let mut out = vec![1; length];
            overlay.read(offset as u64, &mut out).map(|()| out)
        };
        for (offset, length) in [(0, 20_000), (4095, 2), (5, 0), (8000, 9000)] {
            assert_eq!(
                read(offset, length).unwrap(),
                expected[offset..offset + length]
            );
        }
        assert!(read(19_999, 2).is_err());
        // What was cut off does not come back.
        overlay.set_len(100).unwrap();
        overlay.set_len(9000).unwrap();
        assert_eq!(overlay.len().unwrap(), 9000);
        assert_eq!(read(0, 100).unwrap(), expected[..100]);
        assert_eq!(read(100, 8900).unwrap(), vec![0; 8900]);
        assert_eq!(fs::read(&path).unwrap(), before);
    }
}
