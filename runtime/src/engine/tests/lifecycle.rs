use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::fake::*;
use crate::{
    engine::Drained,
    service::{Refusal, Service},
};

#[test]
fn a_shutdown_finishes_what_was_taken() {
    let engine = single(&Script::slow(|_| Duration::from_millis(5), |_, _| Act::Echo)).start();
    let taken: Vec<_> = (0..50).map(|_| submit(&engine, &[0.5; 300]).unwrap()).collect();
    assert!(engine.is_ready());
    assert_eq!(engine.shutdown(LONG), Drained { refused: 0, stuck: 0 });
    for mut receiver in taken {
        assert!(receiver.try_recv().unwrap().is_ok(), "answered before the shutdown returned");
    }
    assert!(!engine.is_ready());
    assert!(matches!(submit(&engine, &[0.5]), Err(Refusal::Unavailable { .. })));
    assert_eq!(engine.shutdown(LONG), Drained { refused: 0, stuck: 0 });
}

#[test]
fn a_shutdown_refuses_what_does_not_finish_in_time_and_leaves_a_stuck_device_behind() {
    let gate = Arc::new(Gate::default());
    let engine = single(&Script::gated(&gate)).start();
    let mut taken = vec![submit(&engine, &[0.5]).unwrap()];
    gate.await_runs(1);
    taken.extend((0..3).map(|_| submit(&engine, &[0.5]).unwrap()));
    assert_eq!(engine.shutdown(Duration::from_millis(20)), Drained { refused: 4, stuck: 1 });
    for receiver in taken {
        assert!(matches!(outcome(receiver), Err(Refusal::Unavailable { .. })));
    }
    gate.open();
}

#[test]
fn an_engine_that_is_dropped_ends_its_threads_and_answers_its_queries() {
    let gate = Arc::new(Gate::default());
    let engine = single(&Script::gated(&gate)).start();
    let taken = submit(&engine, &[0.5]).unwrap();
    gate.await_runs(1);
    gate.open();
    drop(engine);
    // Whether it was the answer or the stop that came first, it is one of them.
    match outcome(taken) {
        Ok(answer) => assert_eq!(answer.scores, [0.5]),
        Err(refused) => assert!(matches!(refused, Refusal::Unavailable { .. }), "{refused}"),
    }
}

#[test]
fn an_idle_engine_stops_at_once() {
    let engine = Setup::new(4, vec![("table@cpu", 0.8, Script::echo())]).start();
    let started = Instant::now();
    assert_eq!(engine.shutdown(LONG), Drained { refused: 0, stuck: 0 });
    assert!(started.elapsed() < LONG / 2, "it waited for the limit");
}

#[cfg(target_os = "linux")]
#[test]
fn workers_have_the_nice_value_that_was_asked_for() {
    let mut setup = Setup::new(2, vec![("table@cpu", 0.8, Script::echo())]);
    // No other test has it.
    setup.options.worker_nice = 13;
    let nice_workers = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let stats =
            tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
        let is_one = |stat: &String| {
            let (_, after_name) = stat.rsplit_once(')').unwrap();
            stat.contains("(cpu-") && after_name.split_whitespace().nth(16) == Some("13")
        };
        stats.filter(is_one).count()
    };
    let engine = setup.start();
    let begun = Instant::now();
    while nice_workers() < 2 {
        assert!(begun.elapsed() < LONG, "{} workers have it", nice_workers());
        std::thread::yield_now();
    }
    assert!(outcome(submit(&engine, &[0.5]).unwrap()).is_ok());
}

#[test]
fn pinned_workers_answer_too() {
    let mut setup = Setup::new(2, vec![("table@cpu", 0.8, Script::echo())]);
    setup.options.pin_workers = true;
    let engine = setup.start();
    assert!(outcome(submit(&engine, &[0.5]).unwrap()).is_ok());
}
