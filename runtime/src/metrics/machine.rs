//! What the operating system says of the machine and of this process; nothing where it has no `/proc`.

use std::{
    fs,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Reading again within this time gives the same: on machines with very many cores `/proc/stat` is slow.
const FRESH: Duration = Duration::from_millis(500);

/// Clock ticks per second in `/proc/self/stat`, the same on every architecture of today.
const TICKS_PER_SECOND: f64 = 100.0;

/// A reading; `None` where the system does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Reading {
    /// Share of all cores' time that was not idle, between this reading and the one before.
    pub(super) cpu_utilization: Option<f64>,
    /// Memory of the machine, in bytes.
    pub(super) memory_total: Option<u64>,
    /// Of that, what programs cannot have.
    pub(super) memory_used: Option<u64>,
    /// Processor time of this process, in seconds.
    pub(super) process_cpu: Option<f64>,
    /// Resident memory of this process, in bytes.
    pub(super) process_memory: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Machine(Mutex<Last>);

#[derive(Debug, Default)]
struct Last {
    at: Option<Instant>,
    busy_and_total: Option<(u64, u64)>,
    reading: Reading,
}

impl Machine {
    /// Only who renders a page reads, and so waits here.
    pub(super) fn read(&self) -> Reading {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.at.is_some_and(|at| at.elapsed() < FRESH) {
            return last.reading;
        }
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let now = busy_and_total(&read("/proc/stat"));
        let memory = read("/proc/meminfo");
        let memory_total = kilobytes(&memory, "MemTotal:");
        last.reading = Reading {
            cpu_utilization: last.busy_and_total.zip(now).and_then(|(before, now)| {
                let total = now.1.checked_sub(before.1).filter(|&ticks| ticks > 0)?;
                Some(now.0.saturating_sub(before.0) as f64 / total as f64)
            }),
            memory_total,
            memory_used: memory_total
                .zip(kilobytes(&memory, "MemAvailable:"))
                .map(|(total, available)| total.saturating_sub(available)),
            process_cpu: process_cpu(&read("/proc/self/stat")),
            process_memory: kilobytes(&read("/proc/self/status"), "VmRSS:"),
        };
        last.at = Some(Instant::now());
        last.busy_and_total = now;
        last.reading
    }
}

/// Ticks of all cores that were not idle, and all ticks, from `/proc/stat`.
fn busy_and_total(stat: &str) -> Option<(u64, u64)> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
    // user nice system idle iowait irq softirq steal; what follows is contained in these.
    let ticks: Vec<u64> = fields.take(8).map_while(|field| field.parse().ok()).collect();
    let total = ticks.iter().sum::<u64>();
    Some((total - ticks.get(3)? - ticks.get(4)?, total))
}

/// The bytes of a line such as `MemTotal:  16 kB`.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Seconds in user and system mode, from `/proc/self/stat`.
fn process_cpu(stat: &str) -> Option<f64> {
    // The name, in brackets, may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut seconds = || Some(fields.next()?.parse::<u64>().ok()? as f64 / TICKS_PER_SECOND);
    Some(seconds()? + seconds()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_proc_are_read_as_they_are() {
        let stat = "cpu  100 10 40 800 50 1 2 3 7 7\ncpu0 1 1 1 1\n";
        assert_eq!(busy_and_total(stat), Some((156, 1006)));
        let memory = "MemTotal:       24689136 kB\nMemAvailable:   20000000 kB\n";
        assert_eq!(kilobytes(memory, "MemTotal:"), Some(24_689_136 * 1024));
        let own = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20";
        assert_eq!(process_cpu(own), Some(3.0));
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        for text in ["", "cpu", "cpu  1 2", "cpu  a b c d", "MemTotal: many", ")", "1 (x) S 1"] {
            assert_eq!(busy_and_total(text), None, "{text}");
            assert_eq!(kilobytes(text, "MemTotal:"), None, "{text}");
            assert_eq!(process_cpu(text), None, "{text}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_has_memory() {
        let reading = Machine::default().read();
        assert!(reading.memory_total > reading.memory_used, "{reading:?}");
        assert!(reading.process_memory.is_some_and(|bytes| bytes > 1 << 20), "{reading:?}");
        assert!(reading.process_cpu.is_some(), "{reading:?}");
        assert_eq!(reading.cpu_utilization, None, "there is nothing before the first");
    }
}
