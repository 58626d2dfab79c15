//! Every event that an engine may report, in any order: each query ends exactly once, whole or in parts.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop here")]

use std::{collections::HashMap, time::Duration};

use mprec_router::{
    Batch, Decision, DeviceId, Health, Next, PathId, PathProfile, PolicyName, Profiles,
    QualitySource, Query, QueryId, Queued, Router, RouterConfig, ServiceCurve, Time,
};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Submit { samples: usize, sla_us: u64 },
    Take { device: u16 },
    Complete { which: usize },
    Fail { which: usize },
    Cancel { which: usize },
    Expire { device: u16 },
    Down { path: u16 },
    Up { path: u16 },
    Pass { us: u64 },
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1usize..900, 500u64..20_000).prop_map(|(samples, sla_us)| Step::Submit { samples, sla_us }),
        6 => (0u16..2).prop_map(|device| Step::Take { device }),
        4 => (0usize..8).prop_map(|which| Step::Complete { which }),
        1 => (0usize..8).prop_map(|which| Step::Fail { which }),
        1 => (0usize..40).prop_map(|which| Step::Cancel { which }),
        1 => (0u16..2).prop_map(|device| Step::Expire { device }),
        1 => (0u16..3).prop_map(|path| Step::Down { path }),
        1 => (0u16..3).prop_map(|path| Step::Up { path }),
        5 => (1u64..3_000).prop_map(|us| Step::Pass { us }),
    ]
}

fn profiles(lanes: u32) -> Profiles {
    let path = |name: &str, device: &str, accuracy, scale: f64| {
        let medians = [(1, 40.0 * scale), (8, 120.0 * scale), (512, 5_200.0 * scale)];
        PathProfile {
            name: format!("{name}@{device}"),
            variant: name.into(),
            device: device.into(),
            lanes,
            accuracy,
            quality_source: QualitySource::Declared("test".into()),
            bytes: 0,
            max_batch: None,
            service: ServiceCurve::from_medians(&medians, 1.1, 1.25).unwrap(),
        }
    };
    let paths = vec![
        path("table", "cpu", 0.78, 1.0),
        path("dhe", "cpu", 0.79, 2.0),
        path("dhe", "gpu", 0.79, 1.5),
    ];
    Profiles::new(paths).unwrap()
}

/// A router and what its engine knows of every query that was admitted and has not ended.
struct Engine {
    router: Router,
    now: Time,
    open: HashMap<QueryId, (PathId, Query)>,
    running: Vec<Batch>,
    /// Queries that were admitted in parts.
    split: usize,
}

impl Engine {
    fn submit(&mut self, query: Query) {
        if let Decision::Admit(admission) = self.router.submit(&query, self.now) {
            self.split += usize::from(admission.parts > 1);
            let before = self.open.insert(query.id(), (admission.path, query));
            assert!(before.is_none(), "a query was admitted twice");
        }
    }

    /// Ends queries; each must be open, and is named with all its samples.
    fn end(&mut self, ended: &[Queued], again: bool) {
        for ended in ended {
            let (_, query) = self.open.remove(&ended.id).expect("a query ended twice");
            assert_eq!((ended.offset, ended.samples), (0, query.samples()));
            // As an engine does: under the same name, while old parts may still run.
            if again && query.deadline() > self.now {
                self.submit(query);
            }
        }
    }

    fn take(&mut self, device: u16) {
        let mut batch = Batch::default();
        let next = self.router.next_batch(DeviceId(device), self.now, &mut batch);
        self.end(&std::mem::take(&mut batch.expired), false);
        if next == Next::Run {
            assert!(batch.queries.iter().all(|entry| self.open.contains_key(&entry.id)));
            self.running.push(batch);
        }
    }

    fn finish(&mut self, which: usize, is_failed: bool) {
        if self.running.is_empty() {
            return;
        }
        let mut batch = self.running.swap_remove(which % self.running.len());
        if is_failed {
            self.router.state_mut().failed(&mut batch, self.now);
        } else {
            self.router.completed(&mut batch, Duration::from_micros(700), self.now);
        }
        self.end(&batch.ended, is_failed);
        self.router.completed(&mut batch, Duration::ZERO, self.now);
        assert!(batch.ended.is_empty(), "a batch was reported twice");
    }

    fn expire(&mut self, device: u16) {
        let mut expired = Vec::new();
        self.router.state_mut().take_expired(DeviceId(device), self.now, &mut expired);
        self.end(&expired, false);
    }

    fn health(&mut self, path: u16, health: Health) {
        let mut orphans = Vec::new();
        self.router.state_mut().set_health(PathId(path), health, self.now, &mut orphans);
        self.end(&orphans, true);
    }

    fn step(&mut self, at: usize, step: &Step) {
        match *step {
            Step::Submit { samples, sla_us } => {
                let sla = Duration::from_micros(sla_us);
                self.submit(Query::new(QueryId(at as u64), samples, self.now, sla).unwrap());
            }
            Step::Take { device } => self.take(device),
            Step::Complete { which } => self.finish(which, false),
            Step::Fail { which } => self.finish(which, true),
            Step::Cancel { which } => {
                let id = QueryId(which as u64);
                if let Some(&(path, _)) = self.open.get(&id)
                    && self.router.state_mut().cancel(path, id, self.now)
                {
                    self.open.remove(&id);
                }
            }
            Step::Expire { device } => self.expire(device),
            Step::Down { path } => self.health(path, Health::Down),
            Step::Up { path } => self.health(path, Health::Up),
            Step::Pass { us } => self.now = self.now + Duration::from_micros(us),
        }
        let state = self.router.state();
        let waiting = state.profiles().ids().map(|path| state.path(path).queue.len());
        assert_eq!(waiting.sum::<usize>(), state.queued());
    }
}

proptest! {
    #[test]
    fn every_query_ends_exactly_once(
        steps in prop::collection::vec(any_step(), 1..300),
        lanes in 1u32..5,
        max_queued in prop::sample::select(vec![6usize, 4_096]),
    ) {
        let config = RouterConfig { max_queued, ..RouterConfig::default() };
        let router = Router::new(profiles(lanes), &PolicyName::MultiPath, config).unwrap();
        let (open, running) = (HashMap::new(), Vec::new());
        let mut engine = Engine { router, now: Time::from_millis(1), open, running, split: 0 };
        for (at, step) in steps.iter().enumerate() {
            engine.step(at, step);
        }
        // What is left runs or expires.
        while !engine.running.is_empty() {
            engine.finish(0, false);
        }
        engine.now = engine.now + Duration::from_secs(60);
        for device in 0..2 {
            engine.expire(device);
        }
        prop_assert!(engine.open.is_empty(), "never ended: {:?}", engine.open);
        prop_assert_eq!(engine.router.state().queued(), 0);
        for device in 0..2 {
            let idle = engine.router.state().lanes(DeviceId(device)).idle();
            prop_assert_eq!(idle as u32, lanes);
        }
        prop_assert!(lanes > 1 || engine.split == 0);
    }
}
