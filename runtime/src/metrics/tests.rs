use std::{sync::Arc, time::Duration};

use mprec_backends::CacheStatistics;

use super::*;
use crate::{
    endpoint::{ErrorCode, fake::Fake},
    record::RecordStats,
    service::{Answer, Refusal},
};

fn answer(path: &str) -> Answer {
    Answer {
        scores: vec![0.5; 4],
        path: path.into(),
        variant: "table".into(),
        version: Arc::from("1"),
        quality: 0.75,
        downgraded: true,
        predicted: Duration::from_micros(3_200),
        queue: Duration::from_micros(300),
        compute: Duration::from_millis(3),
        batch_samples: 4,
    }
}

#[test]
fn the_page_has_an_edge_at_the_sla_and_counts_by_path() {
    let sla = Duration::from_millis(17);
    let metrics = Metrics::new("0.1.0", &["table@cpu"], &[sla]);
    metrics.record_answer(&answer("table@cpu"), 4, sla, true);
    metrics.record_answer(&answer("table@cpu"), 4, sla * 2, false);
    metrics.record_answer(&answer("dhe@moon"), 4, sla, true);
    metrics.record_refusal(&Refusal::Unavailable { reason: "stopping" });
    metrics.record_request(RequestEnd::Error(ErrorCode::BadJson), sla);
    assert!(!metrics.page().contains("mprec_path_up{"), "nobody has looked");
    let observation = PathObservation {
        is_up: true,
        accuracy: 0.75,
        workers: 2,
        queued: 3,
        batches: 5,
        batch_samples: 70,
        batch_time: Duration::from_millis(1_500),
        correction: 1.25,
        coverage: 0.95,
        expired: 7,
        failed: 8,
        rerouted: 6,
        ejections: 2,
        probes: 5,
        probes_failed: 3,
        cache: CacheStatistics { hits: 90, misses: 10, bytes: 4_096, slots: 51 },
    };
    metrics.observe_path("table@cpu", &observation);
    assert!(!metrics.page().contains("mprec_record"), "nothing is recorded");
    let record = RecordStats { is_recording: false, events: 8, lost: 2, bytes: 500 };
    metrics.observe_record(Some(record));
    metrics.observe_promises(40, 2);
    let page = metrics.page();
    for line in [
        "mprec_build_info{version=\"0.1.0\"} 1",
        "mprec_query_latency_seconds_bucket{path=\"table@cpu\",le=\"0.017\"} 1",
        "mprec_query_latency_seconds_count{path=\"table@cpu\"} 2",
        "mprec_queries_answered_total{path=\"table@cpu\",timing=\"late\"} 1",
        "mprec_queries_answered_total{path=\"other\",timing=\"in_time\"} 1",
        "mprec_correct_in_time_total{path=\"table@cpu\"} 3",
        "mprec_queries_refused_total{reason=\"unavailable\"} 1",
        "mprec_requests_total{code=\"bad_json\"} 1",
        "mprec_path_up{path=\"table@cpu\"} 1",
        "mprec_batch_samples_total{path=\"table@cpu\"} 70",
        "mprec_batch_seconds_total{path=\"table@cpu\"} 1.5",
        "mprec_path_accuracy_ratio{path=\"table@cpu\"} 0.75",
        "mprec_path_workers{path=\"table@cpu\"} 2",
        "mprec_record_events_total 8",
        "mprec_record_events_lost_total 2",
        "mprec_path_correction_ratio{path=\"table@cpu\"} 1.25",
        "mprec_queries_expired_total{path=\"table@cpu\"} 7",
        "mprec_queries_failed_total{path=\"table@cpu\"} 8",
        "mprec_promises_total{kept=\"no\"} 2",
        "mprec_sla_seconds 0.017",
        "mprec_queries_rerouted_total{path=\"table@cpu\"} 6",
        "mprec_path_ejections_total{path=\"table@cpu\"} 2",
        "mprec_path_probes_total{path=\"table@cpu\"} 5",
        "mprec_path_probes_failed_total{path=\"table@cpu\"} 3",
        "mprec_cache_hits_total{path=\"table@cpu\"} 90",
        "mprec_cache_misses_total{path=\"table@cpu\"} 10",
        "mprec_cache_bytes{path=\"table@cpu\"} 4096",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} in\n{page}");
    }
}

#[test]
fn every_metric_is_announced_once_and_is_named_by_the_rules() {
    let metrics = Metrics::new("0", &["a@b"], &[]);
    metrics.model("ctr", "7").observe(&ModelObservation::default());
    let page = metrics.page();
    let mut names = std::collections::BTreeSet::new();
    for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        assert!(names.insert(name), "{name}");
        // Triton's names are Triton's.
        if !name.starts_with("nv_") {
            assert!(name.starts_with("mprec_") || name.starts_with("process_"), "{name}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        }
    }
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let base = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|part| name.strip_suffix(part))
            .unwrap_or(name);
        assert!(names.contains(base) || names.contains(name), "{name} has no type");
        let value = line.rsplit_once(' ').unwrap().1;
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
}

#[test]
fn tritons_names_have_what_was_counted_by_model_and_version() {
    let metrics = Metrics::new("0", &["table@cpu"], &[]);
    let model = metrics.model("ctr", "7");
    let before = std::time::Instant::now() - Duration::from_millis(20);
    Arc::clone(&model).query(before).answer(&answer("table@cpu"));
    Arc::clone(&model).query(before).fail(ErrorCode::DeadlinePassed);
    drop(Arc::clone(&model).query(before));
    assert!(!metrics.page().contains("nv_inference_count{"), "nobody has looked");
    model.observe(&ModelObservation { queued: 3, batches: 5, batch_samples: 70 });
    let page = metrics.page();
    for line in [
        "nv_inference_request_success{model=\"ctr\",version=\"7\"} 1",
        "nv_inference_request_failure{model=\"ctr\",version=\"7\",reason=\"REJECTED\"} 1",
        "nv_inference_request_failure{model=\"ctr\",version=\"7\",reason=\"CANCELED\"} 1",
        "nv_inference_request_failure{model=\"ctr\",version=\"7\",reason=\"BACKEND\"} 0",
        "nv_inference_request_failure{model=\"ctr\",version=\"7\",reason=\"OTHER\"} 0",
        "nv_inference_compute_infer_duration_us{model=\"ctr\",version=\"7\"} 3000",
        "nv_inference_count{model=\"ctr\",version=\"7\"} 70",
        "nv_inference_exec_count{model=\"ctr\",version=\"7\"} 5",
        "nv_inference_pending_request_count{model=\"ctr\",version=\"7\"} 3",
        "mprec_model_info{model=\"ctr\",version=\"7\"} 1",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} in\n{page}");
    }
}

#[test]
fn a_snapshot_has_what_the_page_has() {
    let sla = Duration::from_millis(17);
    let metrics = Metrics::new("0.1.0", &["table@cpu"], &[sla]);
    metrics.record_answer(&answer("table@cpu"), 4, sla, true);
    metrics.record_refusal(&Refusal::Unavailable { reason: "stopping" });
    metrics.record_request(RequestEnd::Error(ErrorCode::BadJson), sla);
    let snapshot = metrics.snapshot(&Fake::new(Default::default()));
    let [path] = snapshot.paths.as_slice() else {
        panic!("`other` answered nothing: {snapshot:?}")
    };
    assert_eq!((path.in_time, path.correct_in_time, path.up), (1, 3.0, None));
    let edge = snapshot.edges_ms.iter().position(|&edge| edge == 17.0).expect("an edge at the SLA");
    assert_eq!((path.latency[edge - 1], path.latency[edge]), (0, 1));
    assert_eq!(path.latency.len(), snapshot.edges_ms.len() + 1);
    assert_eq!((snapshot.refused["unavailable"], snapshot.refused["overloaded"]), (1, 0));
    assert_eq!(snapshot.errors["bad_json"], 1);
    assert_eq!(snapshot.recent[0].message, "not available: stopping");
}
