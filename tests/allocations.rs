//! A run allocates nothing, whatever the batch.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use mprec_backends::{Backend, CpuBackend, Level};
use mprec_representations::LayerFormat;
use mprec_tests::suite::{Tape, cache_budgets, grouped};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing, since
// the cell is constant at start and has no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn a_run_allocates_nothing() {
    let mut consulted = false;
    for seed in 0..40_u32 {
        let choices: Vec<u32> = (0..80).map(|at| (at * 31 + 7) ^ (seed * 13 + at / 3)).collect();
        let mut tape = Tape::new(&choices);
        let schema = tape.schema();
        let layers = if seed % 2 == 0 { LayerFormat::F32 } else { LayerFormat::Int8 };
        let program = tape.variant(&schema, layers);
        let batches = [1, 7, 200].map(|samples| tape.batch(&schema, samples));
        let groups = [1, 7, 200].map(|samples| grouped(&mut tape, &schema, samples));
        for level in Level::available() {
            if level == Level::Portable {
                // The `gemm` crate takes memory for itself.
                continue;
            }
            for cache in [[0, 0], cache_budgets(&program)].concat() {
                let backend = CpuBackend::with_level(level).unwrap().with_cache(cache);
                let mut executable = backend.prepare(&program).unwrap();
                for batch in &groups {
                    let mut scores = vec![0.0; batch.samples()];
                    let before = ALLOCATIONS.get();
                    executable.run_grouped(batch, &mut scores).unwrap();
                    assert_eq!(ALLOCATIONS.get(), before, "{level}, groups, cache {cache}");
                }
                for batch in &batches {
                    let mut scores = vec![0.0; batch.samples()];
                    let before = ALLOCATIONS.get();
                    executable.run(batch, &mut scores).unwrap();
                    let counted = executable.cache();
                    let samples = batch.samples();
                    assert_eq!(ALLOCATIONS.get(), before, "{level}, {samples}, cache {cache}");
                    consulted |= counted.is_some_and(|cache| cache.hits > 0);
                }
            }
        }
    }
    assert!(ALLOCATIONS.get() > 0, "nothing was counted");
    assert!(consulted, "no cache was of use");
}
