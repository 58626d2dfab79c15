use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use super::fake::*;
use crate::{
    engine::Backoff,
    service::{Refusal, Service},
};

const SOON: Backoff = Backoff { first: Duration::from_millis(1), most: Duration::from_millis(4) };

/// A script whose first `times` runs fail.
fn failing(times: usize, how: Act) -> Arc<Script> {
    let left = AtomicUsize::new(times);
    Script::acting(move |_, _| {
        let failed = left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        if failed.is_ok() { how } else { Act::Echo }
    })
}

fn two(better: &Arc<Script>) -> Setup {
    let paths = vec![("hybrid@cpu", 0.9, Arc::clone(better)), ("table@cpu", 0.8, Script::echo())];
    let mut setup = Setup::new(2, paths);
    setup.options.recovery = SOON;
    setup
}

#[test]
fn a_path_that_fails_is_probed_until_it_works_and_takes_queries_again() {
    for how in [Act::Fail, Act::Panic] {
        // The first run is the query's, three are probes.
        let script = failing(4, how);
        let engine = two(&script).start();
        let first = outcome(submit(&engine, &[0.5]).unwrap()).unwrap();
        assert_eq!(&*first.path, "table@cpu");
        eventually("the path's recovery", || engine.stats().paths[0].is_up);
        let counts = engine.stats().paths[0].counts;
        assert_eq!((counts.ejections, counts.probes, counts.probes_failed), (1, 4, 3));
        assert_eq!((counts.rerouted, script.revived()), (1, 4));
        // Both workers have their new executable.
        for at in 0..20 {
            let answer = outcome(submit(&engine, &[at as f32]).unwrap()).unwrap();
            assert_eq!((&*answer.path, answer.scores[0]), ("hybrid@cpu", at as f32));
        }
        assert_eq!(engine.stats().paths[0].counts.answered, 20);
    }
}

#[test]
fn an_engine_whose_only_path_comes_back_is_ready_again() {
    let mut setup = single(&failing(1, Act::Fail));
    setup.options.recovery = SOON;
    let engine = setup.start();
    let refused = outcome(submit(&engine, &[0.5]).unwrap());
    assert!(matches!(refused, Err(Refusal::Failed { .. })), "there is no other path");
    eventually("the path's recovery", || engine.is_ready());
    assert!(outcome(submit(&engine, &[0.5]).unwrap()).is_ok());
}

#[test]
fn a_probe_with_a_score_that_is_no_number_does_not_bring_a_path_back() {
    let script = Script::acting(|run, _| match run {
        0 => Act::Fail,
        1 => Act::Nonsense,
        _ => Act::Echo,
    });
    let engine = two(&script).start();
    assert_eq!(&*outcome(submit(&engine, &[0.5]).unwrap()).unwrap().path, "table@cpu");
    eventually("the path's recovery", || engine.stats().paths[0].is_up);
    let counts = engine.stats().paths[0].counts;
    assert_eq!((counts.probes, counts.probes_failed), (2, 1));
}

#[test]
fn what_waits_for_a_path_that_goes_down_keeps_its_deadline() {
    // The failing run and the worker are held; what waits is due before they are let go.
    let gate = Arc::new(Gate::default());
    let script = {
        let gate = Arc::clone(&gate);
        Script::acting(move |run, _| {
            if run == 0 {
                gate.hold();
            }
            Act::Fail
        })
    };
    let mut setup = two(&script);
    setup.lanes = 1;
    setup.options.recovery = Backoff { first: LONG, most: LONG };
    let engine = setup.start();
    let first = submit(&engine, &[0.5]).unwrap();
    gate.await_runs(1);
    let patient = submit(&engine, &[1.5]).unwrap();
    let hurried = submit_request(&engine, request(&[2.5], Duration::from_millis(100))).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    gate.open();
    assert!(matches!(outcome(hurried), Err(Refusal::DeadlinePassed { .. })));
    for taken in [first, patient] {
        assert_eq!(&*outcome(taken).unwrap().path, "table@cpu");
    }
    let counts = engine.stats().paths[0].counts;
    assert_eq!((counts.rerouted, counts.expired, counts.ejections), (2, 1, 1));
}

#[test]
fn an_engine_stops_while_a_path_is_down() {
    let mut setup = single(&Script::always(Act::Fail));
    setup.options.recovery = SOON;
    let engine = setup.start();
    assert!(outcome(submit(&engine, &[0.5]).unwrap()).is_err());
    eventually("a few probes", || engine.stats().paths[0].counts.probes_failed > 3);
    assert_eq!(engine.shutdown(LONG).stuck, 0);
    assert!(!engine.stats().paths[0].is_up);
}
