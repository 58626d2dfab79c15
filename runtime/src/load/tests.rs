//! Loads on a real server, in front of a service that does as it is told.

use std::{net::SocketAddr, sync::Arc, thread, time::Instant};

use mprec_representations::OutOfVocabulary;
use mprec_router::{
    PathSet, Priority, Time,
    sim::{Arrivals, Sizes, TraceQuery, Until},
};
use tokio::net::TcpListener;

use super::*;
use crate::{
    endpoint::{
        Endpoint, Limits,
        fake::{Behaviour, Fake},
    },
    http::{HttpConfig, serve},
    metrics::Metrics,
    service::{Refusal, Service as _},
};

const SLA: Duration = Duration::from_millis(100);

/// A server on its own threads, for as long as it lives.
struct Server {
    address: SocketAddr,
    service: Arc<Fake>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Server {
    fn start() -> Self {
        Self::with(HttpConfig::default())
    }

    fn with(config: HttpConfig) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let service = Arc::new(Fake::new(OutOfVocabulary::Zero));
        let metrics = Arc::new(Metrics::new("test", &[], &[]));
        let endpoint = Arc::new(Endpoint::new(Arc::clone(&service), metrics, Limits::default()));
        let serving = serve(vec![listener.into()], endpoint, config, std::future::pending());
        runtime.spawn(serving);
        Self { address, service, runtime: Some(runtime) }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn run(&self, options: &LoadOptions) -> LoadReport {
        run(options, &rows(), |_| {}).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn rows() -> StoredRows {
    let schema = &Fake::new(OutOfVocabulary::Zero).models()[0].schema;
    StoredRows::random(schema, 64, 1).unwrap()
}

fn trace(rate: f64, seconds: f64, samples: u32) -> Trace {
    let (arrivals, sizes) = (Arrivals::Fixed { rate }, Sizes::Fixed(samples));
    Trace::generate(&arrivals, &sizes, Until::Seconds(seconds), SLA, 1).unwrap()
}

fn assert_adds_up(report: &LoadReport) {
    assert_eq!(report.offered, report.answered + report.refused + report.failed, "{report:?}");
    assert_eq!(report.answered, report.in_time + report.late);
    assert_eq!(report.refused, report.refusals.values().sum::<u64>());
    assert_eq!(report.failed, report.failures.values().sum::<u64>());
    let paths = |count: fn(&PathLoad) -> u64| report.paths.values().map(count).sum::<u64>();
    assert_eq!(paths(|path| path.answered), report.answered);
    assert_eq!(paths(|path| path.in_time), report.in_time);
    assert_eq!(paths(|path| path.samples_in_time), report.samples_in_time);
    let windows = |count: fn(&Window) -> u64| report.windows.iter().map(count).sum::<u64>();
    assert_eq!(windows(|window| window.in_time), report.in_time);
    assert_eq!(windows(|window| window.late), report.late);
    assert_eq!(windows(|window| window.refused), report.refused);
    assert_eq!(windows(|window| window.failed), report.failed);
    assert_eq!(windows(|window| window.paths.values().sum()), report.answered);
    assert!(report.latency_cdf.len() <= 200);
    assert!(report.latency_cdf.is_sorted_by(|a, b| a.ms <= b.ms && a.fraction < b.fraction));
}

#[test]
fn every_query_of_the_trace_is_sent_and_counted() {
    let server = Server::start();
    for format in [WireFormat::Binary, WireFormat::Json] {
        let options =
            LoadOptions { format, ..LoadOptions::new(&server.url(), trace(200.0, 1.0, 3)) };
        let mut last = Progress::default();
        let before = server.service.count();
        let report = run(&options, &rows(), |progress| last = progress).unwrap();
        assert_adds_up(&report);
        assert_eq!((report.offered, report.samples_offered, report.failed), (200, 600, 0));
        assert_eq!(server.service.count() - before, 200);
        assert_eq!(report.paths["table@cpu"].quality, 0.75);
        assert_eq!((report.accuracy, report.seconds), (0.75, 1.0));
        assert_eq!(report.correct_in_time_per_s, report.samples_in_time as f64 * 0.75);
        assert_eq!((report.downgraded, report.observed_accuracy), (200, None));
        assert_eq!(report.windows.len(), 5);
        assert_eq!(report.latency_cdf.last().unwrap().fraction, 1.0);
        assert!(last.offered > 0 && last.ended <= last.offered);
    }
}

#[test]
fn json_and_binary_carry_the_same_rows() {
    let server = Server::start();
    let mut batches = Vec::new();
    for format in [WireFormat::Binary, WireFormat::Json] {
        let options =
            LoadOptions { format, ..LoadOptions::new(&server.url(), trace(50.0, 0.1, 7)) };
        assert_eq!(server.run(&options).answered, 5);
        batches.push(server.service.last().batch);
    }
    assert_eq!(batches[0], batches[1]);
    // The fifth request has samples 28 to 34.
    let mut expected = RequestRows::default();
    rows().fill(28, 7, &mut expected);
    assert_eq!(batches[0].dense(), expected.dense);
}

#[test]
fn a_stall_is_seen_by_every_query_that_was_due_in_it() {
    let server = Server::start();
    server.service.behave(Behaviour::Hold);
    let service = Arc::clone(&server.service);
    let stall = thread::spawn(move || {
        while service.count() == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(400));
        service.behave(Behaviour::Score);
        // Whatever was taken while the behaviour changed is held too.
        thread::sleep(Duration::from_millis(5));
        service.release();
    });
    let report = server.run(&LoadOptions::new(&server.url(), trace(100.0, 1.0, 1)));
    stall.join().unwrap();
    assert_adds_up(&report);
    assert_eq!((report.offered, report.answered), (100, 100));
    // 400 ms of the stall, of which those due in the first 300 ms waited longer than the 100 ms.
    assert!(report.late >= 25, "{}", report.late);
    assert!(report.p99_ms >= 350.0, "{}", report.p99_ms);
    assert!(report.windows[0].late >= 20);
}

#[test]
fn a_server_that_never_answers_does_not_hold_the_schedule_up() {
    let server = Server::start();
    server.service.behave(Behaviour::Hold);
    let options = LoadOptions {
        connections: 4,
        patience: Duration::from_millis(3000),
        ..LoadOptions::new(&server.url(), trace(100.0, 0.5, 1))
    };
    let started = Instant::now();
    let report = server.run(&options);
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_adds_up(&report);
    assert_eq!(report.failures["client_saturated"], 46);
    assert_eq!(report.failures["no_answer"], 4);
    assert_eq!((report.p99_ms, report.latency_cdf.len()), (0.0, 0));
}

#[test]
fn refusals_and_failures_are_told_apart() {
    let server = Server::start();
    let wait = Duration::from_millis(5);
    for (behaviour, name, refused) in [
        (
            Behaviour::Refuse(Refusal::Overloaded { reason: "x", retry_after: wait }),
            "overloaded",
            true,
        ),
        (
            Behaviour::Refuse(Refusal::Quality { min_quality: 0.9, best: 0.8 }),
            "quality_unreachable",
            true,
        ),
        (Behaviour::Refuse(Refusal::Unavailable { reason: "x" }), "unavailable", true),
        (Behaviour::RefuseLater(Refusal::DeadlinePassed { late: wait }), "deadline_passed", false),
        (Behaviour::Lose, "internal", false),
    ] {
        server.service.behave(behaviour);
        let report = server.run(&LoadOptions::new(&server.url(), trace(100.0, 0.1, 1)));
        assert_adds_up(&report);
        let counts = if refused { &report.refusals } else { &report.failures };
        assert_eq!(counts[name], 10, "{report:?}");
        let times = (report.refusal_p50_ms, report.refusal_p99_ms);
        assert_eq!(times.0 > 0.0 && times.1 >= times.0, refused, "{times:?}");
        assert_eq!(report.expired, if name == "deadline_passed" { 10 } else { 0 });
        assert_eq!((report.accuracy, report.correct_in_time_per_s), (0.0, 0.0));
    }
}

#[test]
fn budget_floor_and_priority_of_a_query_reach_the_server() {
    let server = Server::start();
    let query = |priority, min_quality| TraceQuery {
        arrival: Time::from_millis(1),
        samples: 2,
        sla: Duration::from_millis(5000),
        min_quality,
        priority,
        paths: PathSet::ALL,
    };
    for (sent, priority, floor) in [
        (query(Priority::Normal, 0.0), 0, None),
        (query(Priority::High, 0.5), 1, Some(0.5)),
        (query(Priority::Low, 0.7), 2, Some(0.7)),
    ] {
        let options = LoadOptions::new(&server.url(), Trace::new(vec![sent]).unwrap());
        assert_eq!(server.run(&options).in_time, 1);
        let seen = server.service.last();
        assert_eq!((seen.priority, seen.min_quality), (priority, floor));
        // What was left of the budget when it was sent, never more than all of it.
        let budget = seen.deadline - seen.arrival;
        assert!(budget <= sent.sla && budget > sent.sla / 2, "{budget:?}");
    }
}

#[test]
fn labels_give_an_observed_accuracy() {
    let server = Server::start();
    server.service.behave(Behaviour::Say(vec![0.4, 0.6, 0.9, 0.1]));
    let rows = RequestRows {
        dense: vec![0.0; 8],
        ids: vec![0; 12],
        labels: vec![false, true, false, false],
    };
    let rows = StoredRows::new(rows, 2, 3).unwrap();
    let options = LoadOptions::new(&server.url(), trace(50.0, 0.1, 4));
    let report = run(&options, &rows, |_| {}).unwrap();
    assert_eq!((report.in_time, report.observed_accuracy), (5, Some(0.75)));
}

#[test]
fn queries_above_the_limit_of_the_server_are_cut_and_counted() {
    let server = Server::start();
    let report = server.run(&LoadOptions::new(&server.url(), trace(50.0, 0.1, 1001)));
    assert_eq!((report.clipped, report.answered, report.samples_offered), (5, 5, 5000));
}

#[test]
fn connections_that_the_server_closed_meanwhile_are_no_failures() {
    let config = HttpConfig {
        idle_timeout: Duration::from_millis(50),
        head_timeout: Duration::from_millis(50),
        ..HttpConfig::default()
    };
    let server = Server::with(config);
    let report = server.run(&LoadOptions::new(&server.url(), trace(8.0, 1.0, 1)));
    assert_eq!((report.answered, report.failed), (8, 0), "{report:?}");
}

#[test]
fn a_load_that_cannot_start_says_why() {
    let server = Server::start();
    let options = |url: &str| LoadOptions::new(url, trace(10.0, 0.1, 1));
    let start = |options: &LoadOptions| run(options, &rows(), |_| {}).unwrap_err();
    assert!(matches!(start(&options("http://")), LoadError::Url { .. }));
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(matches!(start(&options(&nobody.to_string())), LoadError::Connect { .. }));
    let unknown = LoadOptions { model: Some("x".into()), ..options(&server.url()) };
    assert!(start(&unknown).to_string().contains("404"));
    let other =
        StoredRows::new(RequestRows { dense: vec![0.0], ids: vec![0], labels: vec![] }, 1, 1)
            .unwrap();
    let error = run(&options(&server.url()), &other, |_| {}).unwrap_err();
    assert!(matches!(error, LoadError::Rows { rows: (1, 1), expected: (2, 3), .. }));
    let named = format!("{}/v2/models/ctr/infer", server.url());
    assert_eq!(server.run(&options(&named)).answered, 1);
}

#[test]
fn rows_are_used_in_order_and_again() {
    let rows = StoredRows::new(
        RequestRows {
            dense: vec![0.0, 1.0, 2.0],
            ids: vec![0, 10, 1, 11, 2, 12],
            labels: vec![true, false, false],
        },
        1,
        2,
    )
    .unwrap();
    let mut filled = RequestRows::default();
    rows.fill(5, 5, &mut filled);
    assert_eq!(filled.dense, [2.0, 0.0, 1.0, 2.0, 0.0]);
    assert_eq!(filled.ids, [2, 12, 0, 10, 1, 11, 2, 12, 0, 10]);
    assert_eq!(filled.labels, [false, true, false, false, true]);
    let bad =
        |dense, ids, labels| StoredRows::new(RequestRows { dense, ids, labels }, 1, 2).is_err();
    assert!(bad(vec![], vec![], vec![]));
    assert!(bad(vec![0.0], vec![1, 2, 3], vec![]));
    assert!(bad(vec![0.0, 1.0], vec![1, 2], vec![]));
    assert!(bad(vec![0.0], vec![1, 2], vec![true, false]));
}

#[test]
fn random_rows_lie_within_the_schema_and_favour_small_ids() {
    let schema = mprec_representations::Schema::criteo(&[1000; 26]).unwrap();
    let rows = StoredRows::random(&schema, 500, 3).unwrap();
    let mut filled = RequestRows::default();
    rows.fill(0, 500, &mut filled);
    assert!(filled.ids.iter().all(|id| (0..1000).contains(id)));
    let small = filled.ids.iter().filter(|&&id| id < 31).count() as f64;
    // log(32) / log(1000) = 0.50.
    assert!((small / filled.ids.len() as f64 - 0.5).abs() < 0.02);
    assert_eq!(StoredRows::random(&schema, 500, 3).unwrap().fill_of(500), filled);
}

impl StoredRows {
    fn fill_of(&self, samples: usize) -> RequestRows {
        let mut rows = RequestRows::default();
        self.fill(0, samples, &mut rows);
        rows
    }
}

#[test]
fn the_names_of_the_report_are_the_promised_ones() {
    let server = Server::start();
    let report = server.run(&LoadOptions::new(&server.url(), trace(20.0, 0.1, 1)));
    let json = serde_json::to_value(&report).unwrap();
    for name in [
        "offered",
        "answered",
        "in_time",
        "late",
        "refused",
        "failed",
        "samples_in_time",
        "correct_in_time_per_s",
        "p50_ms",
        "p95_ms",
        "p99_ms",
        "p999_ms",
        "seconds",
        "accuracy",
    ] {
        assert!(json[name].is_number(), "{name}");
    }
    for name in ["answered", "in_time", "samples_in_time", "quality", "p50_ms", "p99_ms"] {
        assert!(json["paths"]["table@cpu"][name].is_number(), "{name}");
    }
    assert_eq!(serde_json::from_value::<LoadReport>(json).unwrap(), report);
}
