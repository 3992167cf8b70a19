//! What a process uses, from `/proc`: its processor time and resident memory, with
//! all its descendants.

use std::{collections::BTreeMap, fs, io, time::Duration};

use serde::Serialize;

/// The kernel counts processor time in these, whatever its own clock.
const TICKS_PER_SECOND: u64 = 100;

/// What a process and its descendants have used and hold.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Processor time since they started.
    #[serde(skip)]
    pub cpu: Duration,
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
}

struct Process {
    parent: u32,
    usage: Usage,
}

/// Usage of a process and its descendants.
///
/// # Errors
/// If there is no such process, or no `/proc`.
pub fn usage(pid: u32) -> io::Result<Usage> {
    let all = processes()?;
    if !all.contains_key(&pid) {
        let why = format!("there is no process {pid}");
        return Err(io::Error::new(io::ErrorKind::NotFound, why));
    }
    let mut usage = Usage::default();
    for (one, process) in &all {
        if descends(*one, pid, &all) {
            usage.cpu += process.usage.cpu;
            usage.resident_bytes += process.usage.resident_bytes;
        }
    }
    Ok(usage)
}

/// Usage of this process alone.
#[must_use]
pub fn own() -> Usage {
    read("/proc/self").map_or_else(Usage::default, |process| process.usage)
}

fn processes() -> io::Result<BTreeMap<u32, Process>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // One that has ended in the meantime is none.
        if let Some(process) = read(&format!("/proc/{pid}")) {
            found.insert(pid, process);
        }
    }
    Ok(found)
}

fn read(directory: &str) -> Option<Process> {
    let stat = fs::read_to_string(format!("{directory}/stat")).ok()?;
    let status = fs::read_to_string(format!("{directory}/status")).ok()?;
    let (parent, cpu) = parse(&stat)?;
    // A process of the kernel, or one that is ending, has no memory.
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = resident.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    let resident_bytes = kilobytes.unwrap_or(0_u64) * 1024;
    Some(Process {
        parent,
        usage: Usage {
            cpu,
            resident_bytes,
        },
    })
}

/// Processor time of the thread that asks.
pub(crate) fn thread_cpu() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/stat").unwrap_or_default();
    parse(&stat).map_or(Duration::ZERO, |(_, cpu)| cpu)
}

/// Parent and processor time in a line of `/proc/PID/stat`. The name, in parentheses, may
/// contain anything.
fn parse(stat: &str) -> Option<(u32, Duration)> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let ticks = number(11)? + number(12)?;
    let cpu = Duration::from_micros(ticks * 1_000_000 / TICKS_PER_SECOND);
    Some((u32::try_from(number(1)?).ok()?, cpu))
}

fn descends(mut pid: u32, from: u32, all: &BTreeMap<u32, Process>) -> bool {
    // No chain of parents is longer than there are processes.
    for _ in 0..=all.len() {
        if pid == from {
            return true;
        }
        match all.get(&pid) {
            Some(process) => pid = process.parent,
            None => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_uses_what_it_and_its_children_use() {
        let own = own();
        assert!(own.resident_bytes > 1 << 20);
        let tree = usage(std::process::id()).unwrap();
        assert!(tree.resident_bytes >= own.resident_bytes / 2);
        let parent = read("/proc/self").unwrap().parent;
        assert!(usage(parent).unwrap().resident_bytes > tree.resident_bytes / 2);
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        let error = usage(u32::MAX).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_name_with_a_parenthesis_is_no_field() {
        let stat = "7 (a) b) c) S 3 7 7 0 -1 4 9 0 0 0 120 30 0 0 20 0 1 0 55 999 25 18446";
        assert_eq!(parse(stat), Some((3, Duration::from_millis(1500))));
    }
}
