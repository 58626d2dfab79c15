//! The two threads of a load: one keeps the time, one does the I/O.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use http_body_util::Full;
use hyper::{Method, StatusCode, Uri, body::Bytes};
use mprec_router::sim::TraceQuery;
use tokio::{
    sync::mpsc as channel,
    task::{JoinSet, LocalSet},
};

use super::{
    LoadError, LoadOptions, Progress,
    client::{Connection, Link, body_of, describe, model_path},
    clock::wait_until,
    encode::{Encoded, decode},
    report::LoadReport,
    rows::{RequestRows, Rows},
    tally::{End, Ended, Tally, histogram},
};
use crate::{
    endpoint::{ErrorCode, SLA_HEADER},
    http::HEADER_LENGTH,
    time::nanos,
};

/// Connections that are made before the first query is due.
const WARM_CONNECTIONS: usize = 8;

/// Time between connecting and the start of the trace.
const LEAD: Duration = Duration::from_millis(20);

/// How often progress is told.
const PROGRESS: Duration = Duration::from_millis(200);

/// A query on its way to the I/O thread.
struct Job {
    due: Duration,
    samples: usize,
    budget: Duration,
    labels: Vec<bool>,
    encoded: Encoded,
}

/// Counts that the caller's thread may look at while a load runs.
#[derive(Debug, Default)]
struct Counts {
    offered: AtomicU64,
    ended: AtomicU64,
    in_time: AtomicU64,
}

/// What the tasks of the I/O thread share.
struct Line {
    link: Link,
    path: Uri,
    start: Instant,
    patience: Duration,
    idle: RefCell<Vec<Connection>>,
    tally: RefCell<Tally>,
    lags: RefCell<Histogram<u64>>,
    counts: Arc<Counts>,
}

/// Runs a load and reports on it. Blocks until the last query has ended; `progress` is called a few
/// times a second, on this thread.
///
/// # Errors
///
/// [`LoadError`] when the load cannot start: no server, no model, or rows that are not the model's.
pub fn run(
    options: &LoadOptions,
    rows: &dyn Rows,
    mut progress: impl FnMut(Progress),
) -> Result<LoadReport, LoadError> {
    let (link, _) = Link::to(&options.url, &options.access)?;
    let model = describe(&options.url, &options.access, options.model.as_deref())?;
    let details = &model.mprec;
    let widths = (rows.dense_width(), rows.features());
    let expected = (details.schema.dense().len(), details.schema.sparse().len());
    if widths != expected {
        return Err(LoadError::Rows { model: model.name, rows: widths, expected });
    }
    let limit = details.max_samples.max(1);
    let is_large = |query: &&TraceQuery| query.samples as usize > limit;
    let clipped = options.trace.queries().iter().filter(is_large).count() as u64;
    let wrong = |problem| LoadError::Url { url: options.url.clone(), problem };
    let path = format!("{}/infer", model_path(&model.name));
    let path = path.parse().map_err(|_| wrong("has a path that names no model"))?;

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(LoadError::Start)?;
    let counts = Arc::new(Counts::default());
    let (jobs, queue) = channel::unbounded_channel();
    let (starts, started) = mpsc::channel();
    let (done, is_done) = mpsc::channel::<()>();
    let (tally, lags) = thread::scope(|scope| {
        let send = {
            let counts = Arc::clone(&counts);
            move || {
                // Dropped at the end, however it comes, which ends the caller's wait.
                let _done = done;
                let sending = async {
                    let line = Line::connect(options, link, path, counts).await;
                    // The clock thread waits for it, unless it could not be started.
                    let _ = starts.send(line.start);
                    line.send_all(queue, options.connections).await
                };
                LocalSet::new().block_on(&runtime, sending)
            }
        };
        let io = thread::Builder::new().name("load-io".into()).spawn_scoped(scope, send);
        let io = io.map_err(LoadError::Start)?;
        let keep_time = {
            let counts = Arc::clone(&counts);
            // Without a clock thread this is dropped, and with it `jobs`, which ends the I/O thread.
            move || {
                // No start comes if the I/O thread has panicked.
                if let Ok(start) = started.recv() {
                    keep_time(options, rows, limit, start, &jobs, &counts);
                }
            }
        };
        thread::Builder::new()
            .name("load-clock".into())
            .spawn_scoped(scope, keep_time)
            .map_err(LoadError::Start)?;
        let began = Instant::now();
        while is_done.recv_timeout(PROGRESS) == Err(mpsc::RecvTimeoutError::Timeout) {
            progress(Progress {
                seconds: began.elapsed().as_secs_f64(),
                offered: counts.offered.load(Relaxed),
                ended: counts.ended.load(Relaxed),
                in_time: counts.in_time.load(Relaxed),
            });
        }
        match io.join() {
            Ok(result) => Ok::<_, LoadError>(result),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    Ok(tally.finish(options.trace.seconds(), clipped, &lags))
}

/// The clock thread: every query is encoded before it is due, and handed over when it is.
fn keep_time(
    options: &LoadOptions,
    rows: &dyn Rows,
    limit: usize,
    start: Instant,
    jobs: &channel::UnboundedSender<Job>,
    counts: &Counts,
) {
    let widths = (rows.dense_width(), rows.features());
    let mut request = RequestRows::default();
    let mut first = 0;
    for query in options.trace.queries() {
        let samples = (query.samples as usize).min(limit);
        rows.fill(first, samples, &mut request);
        first += samples as u64;
        let due = Duration::from_nanos(query.arrival.as_nanos());
        let job = Job {
            due,
            samples,
            budget: query.sla,
            labels: request.labels.clone(),
            encoded: options.format.encode(query, &request, widths),
        };
        wait_until(start + due);
        counts.offered.fetch_add(1, Relaxed);
        if jobs.send(job).is_err() {
            // The I/O thread panicked, which the caller will see.
            return;
        }
    }
}

impl Line {
    /// Makes the first connections. A failure now would be a failure of the first queries, which
    /// are counted.
    async fn connect(
        options: &LoadOptions,
        link: Link,
        path: Uri,
        counts: Arc<Counts>,
    ) -> Rc<Self> {
        let mut idle = Vec::new();
        for _ in 0..options.connections.min(WARM_CONNECTIONS) {
            idle.extend(link.connect().await.ok());
        }
        Rc::new(Self {
            link,
            path,
            start: Instant::now() + LEAD,
            patience: options.patience,
            idle: RefCell::new(idle),
            tally: RefCell::new(Tally::new()),
            lags: RefCell::new(histogram()),
            counts,
        })
    }

    /// A task per query, at most `limit` at a time, until the clock thread hangs up and all have
    /// ended.
    async fn send_all(
        self: Rc<Self>,
        mut queue: channel::UnboundedReceiver<Job>,
        limit: usize,
    ) -> (Tally, Histogram<u64>) {
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                job = queue.recv() => match job {
                    Some(job) if tasks.len() >= limit => {
                        self.record(job, None, Instant::now(), End::Failed("client_saturated"));
                    }
                    Some(job) => {
                        let line = Rc::clone(&self);
                        tasks.spawn_local(async move { line.send(job).await });
                    }
                    None => break,
                },
                Some(_) = tasks.join_next() => {}
            }
        }
        while tasks.join_next().await.is_some() {}
        (self.tally.replace(Tally::new()), self.lags.replace(histogram()))
    }

    async fn send(&self, job: Job) {
        let exchange = tokio::time::timeout(self.patience, self.exchange(&job)).await;
        let (sent, at, end) = match exchange {
            Ok(Some(reply)) => (Some(reply.sent), reply.at, reply.read(job.samples)),
            Ok(None) => (None, Instant::now(), End::Failed("connection")),
            Err(_) => (None, Instant::now(), End::Failed("no_answer")),
        };
        self.record(job, sent, at, end);
    }

    /// Sends a query and receives the reply. A kept connection may have been closed meanwhile, so
    /// that a failure on one is no failure of the query; on a new one it is.
    async fn exchange(&self, job: &Job) -> Option<Reply> {
        loop {
            let kept = self.idle.borrow_mut().pop();
            let is_kept = kept.is_some();
            let mut connection = match kept {
                Some(connection) => connection,
                None => self.link.connect().await.ok()?,
            };
            match self.exchange_on(&mut connection, job).await {
                Some(reply) => {
                    self.idle.borrow_mut().push(connection);
                    return Some(reply);
                }
                None if is_kept => {}
                None => return None,
            }
        }
    }

    async fn exchange_on(&self, connection: &mut Connection, job: &Job) -> Option<Reply> {
        connection.ready().await.ok()?;
        let sent = Instant::now();
        let lag = sent.saturating_duration_since(self.start + job.due);
        self.lags.borrow_mut().saturating_record(nanos(lag));
        // The header takes nothing below a microsecond, and nothing is left anyway.
        let left = job.budget.saturating_sub(lag).as_secs_f64().max(1e-6) * 1e3;
        let mut request = self
            .link
            .request(Method::POST, self.path.clone())
            .header(SLA_HEADER, format!("{left:.3}"));
        if let Some(length) = job.encoded.json_bytes {
            request = request.header(HEADER_LENGTH, length);
        }
        let request = request.body(Full::new(job.encoded.body.clone())).ok()?;
        let response = connection.send_request(request).await.ok()?;
        let status = response.status();
        let length = response.headers().get(HEADER_LENGTH);
        let json_bytes = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let body = body_of(response).await?;
        Some(Reply { sent, at: Instant::now(), status, json_bytes, body })
    }

    fn record(&self, job: Job, sent: Option<Instant>, at: Instant, end: End) {
        let latency = at.saturating_duration_since(self.start + job.due);
        let mut tally = self.tally.borrow_mut();
        tally.record(Ended {
            due: job.due,
            samples: job.samples,
            budget: job.budget,
            labels: job.labels,
            latency,
            round_trip: sent.map(|sent| at.saturating_duration_since(sent)),
            end,
        });
        self.counts.ended.fetch_add(1, Relaxed);
        self.counts.in_time.store(tally.in_time(), Relaxed);
    }
}

/// A whole response.
struct Reply {
    sent: Instant,
    at: Instant,
    status: StatusCode,
    json_bytes: Option<usize>,
    body: Bytes,
}

impl Reply {
    fn read(&self, samples: usize) -> End {
        #[derive(serde::Deserialize)]
        struct ErrorBody {
            code: String,
        }

        let end = if self.status == StatusCode::OK {
            decode(&self.body, self.json_bytes, samples).map(End::Answered)
        } else {
            let body = serde_json::from_slice::<ErrorBody>(&self.body).ok();
            body.and_then(|body| ErrorCode::from_name(&body.code)).map(End::Error)
        };
        end.unwrap_or(End::Failed("bad_reply"))
    }
}
