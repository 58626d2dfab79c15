//! Times of kernels by the device's own clock, which it writes before and after each pass.
//!
//! A pass has the calls of one shader that follow each other. Both readings wait for the calls before them, so that passes do
//! not overlap.

use std::time::Duration;

use wgpu::{
    Buffer, BufferUsages, CommandEncoder, ComputePassTimestampWrites, QUERY_SET_MAX_QUERIES,
    QUERY_SIZE, QuerySet, QuerySetDescriptor, QueryType, SubmissionIndex,
};

use super::{gpu::Gpu, types::Kernel};
use crate::{backend::KernelTime, error::BackendError};

/// Passes of which one set of readings has the start and the end.
const PASSES: usize = QUERY_SET_MAX_QUERIES as usize / 2;
const SET_BYTES: u64 = (QUERY_SET_MAX_QUERIES * QUERY_SIZE) as u64;

/// Collects readings, submission by submission.
#[derive(Debug)]
pub(super) struct Clock {
    sets: Vec<QuerySet>,
    /// Of the submission at hand, each pass's kernel and calls.
    passes: Vec<(Kernel, usize)>,
    /// Where the sets are written to, and where they are read from.
    buffers: Option<(Buffer, Buffer)>,
    times: Vec<KernelTime>,
}

impl Clock {
    pub(super) fn new(gpu: &Gpu) -> Result<Self, BackendError> {
        if !gpu.has_clock {
            let reason = "the adapter has no timestamp queries";
            return Err(BackendError::NoKernelTimes { reason });
        }
        Ok(Self { sets: Vec::new(), passes: Vec::new(), buffers: None, times: Vec::new() })
    }

    /// Where a pass of so many calls has its readings written.
    pub(super) fn pass(
        &mut self,
        gpu: &Gpu,
        kernel: Kernel,
        calls: usize,
    ) -> ComputePassTimestampWrites<'_> {
        let (set, at) = (self.passes.len() / PASSES, self.passes.len() % PASSES);
        self.passes.push((kernel, calls));
        if set == self.sets.len() {
            let descriptor = QuerySetDescriptor {
                label: None,
                ty: QueryType::Timestamp,
                count: QUERY_SET_MAX_QUERIES,
            };
            self.sets.push(gpu.device.create_query_set(&descriptor));
            self.buffers = None;
        }
        ComputePassTimestampWrites {
            query_set: &self.sets[set],
            beginning_of_pass_write_index: Some(2 * at as u32),
            end_of_pass_write_index: Some(2 * at as u32 + 1),
        }
    }

    /// Has the readings brought where [`Clock::collect`] finds them.
    pub(super) fn resolve(
        &mut self,
        gpu: &Gpu,
        encoder: &mut CommandEncoder,
    ) -> Result<(), BackendError> {
        let bytes = self.sets.len() as u64 * SET_BYTES;
        let (written, read) = match &mut self.buffers {
            Some(buffers) => buffers,
            missing => missing.insert((
                gpu.buffer(bytes, BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC)?,
                gpu.buffer(bytes, BufferUsages::MAP_READ | BufferUsages::COPY_DST)?,
            )),
        };
        for (at, passes) in self.passes.chunks(PASSES).enumerate() {
            let readings = 0..2 * passes.len() as u32;
            encoder.resolve_query_set(&self.sets[at], readings, written, at as u64 * SET_BYTES);
        }
        encoder.copy_buffer_to_buffer(written, 0, read, 0, bytes);
        Ok(())
    }

    /// Waits for the submission and adds what it took.
    pub(super) fn collect(
        &mut self,
        gpu: &Gpu,
        submission: SubmissionIndex,
    ) -> Result<(), BackendError> {
        let Some((_, buffer)) = &self.buffers else { return Ok(()) };
        let nanos = f64::from(gpu.queue.get_timestamp_period());
        let (passes, times) = (&self.passes, &mut self.times);
        gpu.read(buffer, buffer.size(), submission, |bytes| {
            let readings: &[u64] = bytemuck::cast_slice(bytes);
            // Sets are full but for the last, so that readings of all passes follow each other.
            for (&(kernel, calls), ends) in passes.iter().zip(readings.chunks_exact(2)) {
                // The clock may be set back; a pass takes no negative time.
                let ticks = ends[1].saturating_sub(ends[0]);
                add(times, kernel, calls, Duration::from_nanos((ticks as f64 * nanos) as u64));
            }
        })?;
        self.passes.clear();
        Ok(())
    }

    /// What was collected, by kernel, the longest first.
    pub(super) fn times(mut self) -> Vec<KernelTime> {
        self.times.sort_by_key(|time| std::cmp::Reverse(time.time));
        self.times
    }
}

fn add(times: &mut Vec<KernelTime>, kernel: Kernel, calls: usize, time: Duration) {
    let kernel = kernel.name();
    match times.iter_mut().find(|known| known.kernel == kernel) {
        Some(known) => {
            known.calls += calls;
            known.time += time;
        }
        None => times.push(KernelTime { kernel, calls, time }),
    }
}
