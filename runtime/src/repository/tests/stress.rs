use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    time::Duration,
};

use super::fixture::*;
use crate::service::Service;

const RELOADS: u64 = 1_000;
const CLIENTS: usize = 4;

/// Memory of this process, in bytes. `None` where the system does not say.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

#[test]
fn a_thousand_reloads_under_load_lose_no_query_and_mix_no_versions() {
    let mut setup = Setup::new();
    setup.options.keep_versions = 1;
    write(&setup.folder(), 1);
    let repository = setup.start();
    let over = AtomicBool::new(false);
    let (answered, late) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut memory = Vec::new();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (repository, over, answered, late) = (&repository, &over, &answered, &late);
            scope.spawn(move || {
                let mut latest = 0;
                while !over.load(SeqCst) {
                    let model = repository.model("ctr").expect("it is never away");
                    if client == 0 {
                        // Reads a long body, so that its version is replaced before its query comes.
                        std::thread::sleep(Duration::from_millis(30));
                    }
                    let answer = ask(repository, &model).expect("no query fails");
                    let version = check(&answer);
                    assert_eq!(*answer.version, model.version, "parsed for another version");
                    assert!(version >= latest, "back from {latest} to {version}");
                    latest = version;
                    answered.fetch_add(1, SeqCst);
                    if repository.model("ctr").unwrap().version != model.version {
                        late.fetch_add(1, SeqCst);
                    }
                }
            });
        }
        // Whatever fails here, the clients end.
        let reloads = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for version in 2..=RELOADS + 1 {
                write(&setup.folder(), version);
                let changed = load(&repository).expect("a good bundle is loaded");
                assert_eq!(changed.version, Some(version.to_string()));
                if version % 100 == 0 {
                    memory.extend(resident_bytes());
                }
            }
        }));
        over.store(true, SeqCst);
        if let Err(panic) = reloads {
            std::panic::resume_unwind(panic);
        }
    });
    assert_eq!(served(&repository), RELOADS + 1);
    let (answered, late) = (answered.into_inner(), late.into_inner());
    assert!(answered > RELOADS, "{answered} queries");
    assert!(late > 0, "no query met a swap, so that nothing was tested");
    until("earlier versions are freed", || index(&repository).len() == 2);
    // The first hundreds make threads and allocators as large as they get.
    if let (Some(early), Some(last)) = (memory.get(1), memory.last()) {
        let grown = last.saturating_sub(*early);
        assert!(grown < 64 << 20, "{} KiB more after 800 more reloads", grown >> 10);
    }
}
