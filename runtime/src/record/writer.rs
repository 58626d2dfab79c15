//! The end of the ring at which records come out, and the file.

use std::{
    fs::File,
    io::Write,
    path::PathBuf,
    sync::{
        Arc,
        atomic::Ordering::{Acquire, Relaxed, Release},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rtrb::{Consumer, RingBuffer};

use super::{Ending, Header, MAX_BLOCK, RecordError, Recorder, encode::Encoder, recorder::Status};

/// Bytes that may wait for the writer: a second at 80,000 queries per second.
const RING: usize = 4 << 20;
/// How often the writer looks. Nobody wakes it, since that would be a system call under the engine's lock.
const POLL: Duration = Duration::from_millis(10);
/// Bytes of a block's length, the length's checksum and the payload's.
pub(super) const BLOCK_HEAD: usize = 12;
/// Bytes kept free of the limit for the last record.
const LAST_BLOCK: u64 = 32;
/// How long a file that does not take the last bytes may hold up the end of the server.
const END_LIMIT: Duration = Duration::from_secs(5);

/// Where to record to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordOptions {
    /// The file; it must not exist yet.
    pub file: PathBuf,
    /// Its largest size.
    pub limit_bytes: u64,
}

/// How a recording stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordStats {
    /// Whether events are still taken down.
    pub is_recording: bool,
    /// Events that were.
    pub events: u64,
    /// Events that came after recording had stopped early.
    pub lost: u64,
    /// Bytes of the file so far.
    pub bytes: u64,
}

/// The thread that writes a log.
#[derive(Debug)]
pub struct LogWriter {
    thread: Option<JoinHandle<()>>,
    status: Arc<Status>,
}

/// Creates a log, and starts the thread that writes it.
///
/// # Errors
///
/// [`RecordError`] if the file exists or cannot be written, or there is no thread to be had.
pub fn create(
    options: &RecordOptions,
    header: &Header,
) -> Result<(Recorder, LogWriter), RecordError> {
    let file = File::options().write(true).create_new(true).open(&options.file);
    let create = |source| RecordError::Create { file: options.file.clone(), source };
    start(file.map_err(create)?, header, options.limit_bytes, RING)
}

/// Writes a log to `sink`, of which at most `ring` bytes wait.
pub(super) fn start(
    mut sink: impl Write + Send + 'static,
    header: &Header,
    limit: u64,
    ring: usize,
) -> Result<(Recorder, LogWriter), RecordError> {
    let header = header.to_bytes();
    sink.write_all(&header).map_err(RecordError::Begin)?;
    let status = Arc::new(Status::default());
    status.bytes.store(header.len() as u64, Relaxed);
    let (producer, consumer) = RingBuffer::new(ring);
    let block = Vec::with_capacity(BLOCK_HEAD + MAX_BLOCK);
    let mut writing = Writing { sink, consumer, status: Arc::clone(&status), block };
    let thread = thread::Builder::new()
        .name("recorder".into())
        .spawn(move || writing.run())
        .map_err(RecordError::Thread)?;
    let left = limit.saturating_sub(header.len() as u64 + LAST_BLOCK);
    let recorder = Recorder::new(producer, Arc::clone(&status), left);
    Ok((recorder, LogWriter { thread: Some(thread), status }))
}

impl LogWriter {
    /// How the recording stands.
    pub fn stats(&self) -> RecordStats {
        RecordStats {
            is_recording: !self.status.is_over.load(Relaxed),
            events: self.status.events.load(Relaxed),
            lost: self.status.lost.load(Relaxed),
            bytes: self.status.bytes.load(Relaxed),
        }
    }

    /// Waits until everything is in the file; the [`Recorder`] was dropped before.
    ///
    /// Returns whether the writer came to its end; a file that takes nothing for 5 s is left behind.
    pub fn finish(&mut self) -> bool {
        let Some(thread) = self.thread.take() else { return true };
        let until = Instant::now() + END_LIMIT;
        while !thread.is_finished() {
            if Instant::now() > until {
                tracing::error!("the log takes nothing any more; its end is lost");
                return false;
            }
            thread.thread().unpark();
            thread::sleep(Duration::from_millis(1));
        }
        // A panic was logged by the hook.
        thread.join().is_ok()
    }
}

/// What the thread owns.
struct Writing<W> {
    sink: W,
    consumer: Consumer<u8>,
    status: Arc<Status>,
    block: Vec<u8>,
}

impl<W: Write> Writing<W> {
    fn run(&mut self) {
        loop {
            // Looked at before the ring is emptied: what came before the end is in it then.
            let is_over = self.consumer.is_abandoned();
            std::sync::atomic::fence(Acquire);
            if let Err(error) = self.empty() {
                self.status.end(Ending::CutOff);
                let cause = error.to_string();
                tracing::error!(
                    cause,
                    "the log cannot be written; recording stops, serving goes on"
                );
                return;
            }
            if is_over {
                break;
            }
            thread::park_timeout(POLL);
        }
        let ending = self.status.ending().unwrap_or(Ending::Stopped);
        let (events, bytes) = (self.status.events.load(Relaxed), self.status.bytes.load(Relaxed));
        match ending {
            Ending::Stopped => tracing::info!(events, bytes, "the log is complete"),
            Ending::Behind => tracing::error!(
                events,
                bytes,
                "the log's writer fell behind; recording stops, serving goes on"
            ),
            _ => tracing::warn!(
                events,
                bytes,
                "the log has reached its limit; recording stops, serving goes on"
            ),
        }
        let mut encoder = Encoder::default();
        encoder.ended(ending, events);
        self.block.clear();
        self.block.extend([0; BLOCK_HEAD]);
        self.block.extend(encoder.record());
        if let Err(error) = self.write_block().and_then(|()| self.sink.flush()) {
            tracing::error!(cause = error.to_string(), "the end of the log cannot be written");
        }
    }

    /// Writes everything that is in the ring now.
    fn empty(&mut self) -> std::io::Result<()> {
        loop {
            let bytes = self.consumer.slots().min(MAX_BLOCK);
            if bytes == 0 {
                return Ok(());
            }
            let Ok(chunk) = self.consumer.read_chunk(bytes) else { return Ok(()) };
            self.block.clear();
            self.block.extend([0; BLOCK_HEAD]);
            let (first, second) = chunk.as_slices();
            self.block.extend_from_slice(first);
            self.block.extend_from_slice(second);
            chunk.commit_all();
            self.write_block()?;
        }
    }

    /// Fills in the head of the block, and writes it.
    fn write_block(&mut self) -> std::io::Result<()> {
        let (head, payload) = self.block.split_at_mut(BLOCK_HEAD);
        // A payload has at most MAX_BLOCK bytes.
        let length = (payload.len() as u32).to_le_bytes();
        head[..4].copy_from_slice(&length);
        head[4..8].copy_from_slice(&crc32fast::hash(&length).to_le_bytes());
        head[8..].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
        self.sink.write_all(&self.block)?;
        self.status.bytes.fetch_add(self.block.len() as u64, Release);
        Ok(())
    }
}
