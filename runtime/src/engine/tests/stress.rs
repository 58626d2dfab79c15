use std::{sync::Arc, time::Duration};

use mprec_router::PolicyName;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{fake::*, recording::check_log};
use crate::{
    engine::{Backoff, Engine},
    record::RecordOptions,
    service::{Outcome, Refusal},
};

/// What the submitters saw.
#[derive(Debug, Default)]
struct Seen {
    taken: u64,
    answered: u64,
    left: u64,
}

fn script(seed: u64, breaks: bool) -> Arc<Script> {
    let draw = move |run: usize| StdRng::seed_from_u64(seed ^ ((run as u64) << 20));
    Script::slow(
        move |run| Duration::from_micros(draw(run).random_range(0..400)),
        move |run, _| {
            let mut random = draw(run + 1_000_000);
            match random.random_range(0..300) {
                0 => Act::Refuse,
                1 if breaks => Act::Fail,
                2 if breaks => Act::Panic,
                _ => Act::Echo,
            }
        },
    )
}

/// Submits queries of random size, deadline and patience, and checks every outcome.
fn client(engine: &Engine, seed: u64, queries: usize) -> Seen {
    let mut random = StdRng::seed_from_u64(seed);
    let mut seen = Seen::default();
    let mut open = Vec::new();
    for at in 0..queries {
        let values: Vec<f32> =
            (0..random.random_range(1..200)).map(|sample| (at * 1_000 + sample) as f32).collect();
        let sla = Duration::from_micros(random.random_range(100..30_000));
        let mut query = request(&values, sla);
        query.priority = random.random_range(0..4);
        match submit_request(engine, query) {
            Ok(receiver) => {
                seen.taken += 1;
                if random.random_bool(0.1) {
                    seen.left += 1;
                } else {
                    open.push((values, receiver));
                }
            }
            Err(Refusal::Failed { .. }) => panic!("nothing has run yet"),
            Err(_) => {}
        }
        if random.random_bool(0.3) {
            std::thread::sleep(Duration::from_micros(random.random_range(0..500)));
        }
    }
    for (values, receiver) in open {
        let outcome: Outcome = outcome(receiver);
        if let Ok(answer) = outcome {
            assert_eq!(answer.scores, values, "a query got the scores of another");
            seen.answered += 1;
        }
    }
    seen
}

#[test]
fn every_query_taken_gets_exactly_one_outcome() {
    for seed in 0..12 {
        let breaks = seed % 2 == 0;
        let paths = vec![
            ("hybrid@cpu", 0.9, script(seed, breaks)),
            ("dhe@cpu", 0.85, script(seed + 100, breaks)),
            ("dhe@wgpu", 0.85, script(seed + 200, breaks)),
            ("table@cpu", 0.8, script(seed + 300, false)),
        ];
        let mut setup = Setup::new(1 + (seed % 3) as u32, paths);
        setup.options.policy = [PolicyName::MultiPath, PolicyName::Fastest, PolicyName::MpRec]
            [(seed / 3 % 3) as usize]
            .clone();
        setup.options.linger = Duration::from_micros([0, 300][seed as usize / 2 % 2]);
        setup.options.queue.queries = 50;
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("decisions.log");
        setup.options.record = Some(RecordOptions { file: log.clone(), limit_bytes: 1 << 30 });
        // Paths that break come back, and break again; large queries of `multi-path` are split.
        let (first, most) = (Duration::from_micros(500), Duration::from_millis(5));
        setup.options.recovery = Backoff { first, most };
        setup.per_sample_us = 10.0;
        let engine = setup.start();
        let seen: Vec<Seen> = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..4)
                .map(|at| {
                    scope.spawn({
                        let engine = &engine;
                        move || client(engine, seed * 10 + at, 150)
                    })
                })
                .collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        let drained = engine.shutdown(LONG);
        assert_eq!((drained.refused, drained.stuck), (0, 0));
        let stats = engine.stats();
        let sum = |of: fn(&crate::engine::PathCounts) -> u64| {
            stats.paths.iter().map(|path| of(&path.counts)).sum::<u64>()
        };
        let taken: u64 = seen.iter().map(|seen| seen.taken).sum();
        let ends =
            sum(|c| c.answered) + sum(|c| c.expired) + sum(|c| c.abandoned) + sum(|c| c.failed);
        assert_eq!(taken, ends, "seed {seed}: {stats:?}");
        let answered: u64 = seen.iter().map(|seen| seen.answered).sum();
        let left: u64 = seen.iter().map(|seen| seen.left).sum();
        assert!(sum(|c| c.answered) >= answered && sum(|c| c.answered) <= answered + left);
        assert!(sum(|c| c.abandoned) <= left);
        assert_eq!((stats.queued, stats.queued_samples), (0, 0));
        assert!(answered > 0, "seed {seed} answered nothing: {stats:?}");
        check_log(&log, &stats);
    }
}
