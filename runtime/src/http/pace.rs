//! Time limits of a connection: for a request's head, between requests, and for a client that
//! does not read its response.
//!
//! They act where hyper reads and writes. A limit that is exceeded becomes an I/O error, which ends
//! the connection. While a request is being answered nothing limits reading, so that hyper can watch
//! for the client leaving; the body has its own limit in the handler.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

use super::config::HttpConfig;

/// How many requests of one connection have begun and how many have ended.
#[derive(Debug, Default)]
pub(super) struct Progress {
    begun: AtomicUsize,
    ended: AtomicUsize,
}

impl Progress {
    /// Notes that a request's head is complete. It ends when the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> InProgress {
        self.begun.fetch_add(1, Relaxed);
        InProgress(Arc::clone(self))
    }
}

/// A request being handled.
#[derive(Debug)]
pub(super) struct InProgress(Arc<Progress>);

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Relaxed);
    }
}

/// A connection with time limits.
#[derive(Debug)]
pub(super) struct Paced<T> {
    io: T,
    progress: Arc<Progress>,
    head_timeout: Duration,
    idle_timeout: Duration,
    write_timeout: Duration,
    /// Requests that had begun when the connection was last seen, to notice a new one.
    seen: usize,
    /// When the wait for the next request began.
    waiting_since: Instant,
    /// When the first byte of the next head came.
    head_since: Option<Instant>,
    read_timer: Pin<Box<Sleep>>,
    /// Since when the client has taken no byte that was ready for it.
    stalled_since: Option<Instant>,
    /// Whether the last write found no room.
    is_full: bool,
    /// Whether bytes that were written still wait below: TLS takes many before it has sent one.
    is_flushing: bool,
    write_timer: Pin<Box<Sleep>>,
}

impl<T> Paced<T> {
    pub(super) fn new(io: T, progress: Arc<Progress>, config: &HttpConfig) -> Self {
        let now = Instant::now();
        Self {
            io,
            progress,
            head_timeout: config.head_timeout,
            idle_timeout: config.idle_timeout,
            write_timeout: config.write_timeout,
            seen: 0,
            waiting_since: now,
            // A new connection is expected to speak, as one that has begun to.
            head_since: Some(now),
            read_timer: Box::pin(tokio::time::sleep(config.head_timeout)),
            stalled_since: None,
            is_full: false,
            is_flushing: false,
            write_timer: Box::pin(tokio::time::sleep(config.write_timeout)),
        }
    }

    /// When a read that finds nothing now must have found something, if ever.
    fn read_limit(&mut self) -> Option<Instant> {
        let begun = self.progress.begun.load(Relaxed);
        if self.progress.ended.load(Relaxed) < begun {
            return None;
        }
        if begun != self.seen {
            self.seen = begun;
            self.waiting_since = Instant::now();
            self.head_since = None;
        }
        Some(match self.head_since {
            Some(since) => since + self.head_timeout,
            None => self.waiting_since + self.idle_timeout,
        })
    }
}

/// Polls `timer` for `limit`. It is moved only when it would fire too late or has fired too early:
/// moving it for every request would cost more than firing once for nothing.
fn is_over(timer: &mut Pin<Box<Sleep>>, limit: Instant, context: &mut Context<'_>) -> bool {
    if timer.deadline() > limit {
        timer.as_mut().reset(limit);
    }
    while timer.as_mut().poll(context).is_ready() {
        if limit <= Instant::now() {
            return true;
        }
        timer.as_mut().reset(limit);
    }
    false
}

impl<T: AsyncRead + Unpin> AsyncRead for Paced<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.io).poll_read(context, buffer);
        match (read, this.read_limit()) {
            (Poll::Ready(result), Some(_)) => {
                if buffer.filled().len() > before {
                    this.head_since.get_or_insert_with(Instant::now);
                }
                Poll::Ready(result)
            }
            (Poll::Pending, Some(limit)) if is_over(&mut this.read_timer, limit, context) => {
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            (read, _) => read,
        }
    }
}

impl<T: AsyncWrite + Unpin> Paced<T> {
    fn write_within_limit(
        &mut self,
        written: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        // While bytes wait below, a write that finds room says nothing of the client, unless there was none before.
        if written.is_ready() && (self.is_full || !self.is_flushing) {
            self.stalled_since = None;
        }
        self.is_full = written.is_pending();
        self.within_limit(written, context)
    }

    /// The same for a flush, and for a shutdown, which begins with one.
    fn flush_within_limit(
        &mut self,
        flushed: Poll<io::Result<()>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.is_flushing = flushed.is_pending();
        if !self.is_flushing {
            self.stalled_since = None;
        }
        self.within_limit(flushed, context)
    }

    /// What was polled, or an error if it has waited for the client for too long.
    fn within_limit<R>(
        &mut self,
        polled: Poll<io::Result<R>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<R>> {
        if polled.is_ready() {
            return polled;
        }
        let limit = *self.stalled_since.get_or_insert_with(Instant::now) + self.write_timeout;
        if is_over(&mut self.write_timer, limit, context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Paced<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(context, bytes);
        this.write_within_limit(written, context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(context, parts);
        this.write_within_limit(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.io).poll_flush(context);
        this.flush_within_limit(flushed, context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.io).poll_shutdown(context);
        this.flush_within_limit(flushed, context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(400);

    /// Takes bytes as TLS does, and sends none.
    struct Unread;

    impl AsyncWrite for Unread {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    fn paced<T>(io: T) -> Paced<T> {
        let config = HttpConfig { write_timeout: MOMENT, ..HttpConfig::default() };
        Paced::new(io, Arc::default(), &config)
    }

    async fn soon<T>(work: impl Future<Output = T>) -> T {
        tokio::time::timeout(MOMENT * 100, work).await.expect("it ends")
    }

    #[tokio::test]
    async fn bytes_that_are_taken_and_never_sent_end_the_connection() {
        let mut flushed = paced(Unread);
        flushed.write_all(b"a").await.unwrap();
        assert_eq!(soon(flushed.flush()).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let mut closed = paced(Unread);
        assert_eq!(soon(closed.shutdown()).await.unwrap_err().kind(), io::ErrorKind::TimedOut);

        // More bytes that are taken do not begin the wait again.
        let mut fed = paced(Unread);
        let started = Instant::now();
        let fed = soon(async {
            loop {
                fed.write_all(b"a").await?;
                if let Ok(flushed) = tokio::time::timeout(MOMENT / 4, fed.flush()).await {
                    return flushed;
                }
            }
        });
        assert_eq!(fed.await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(started.elapsed() >= MOMENT);
    }

    #[tokio::test]
    async fn a_client_that_reads_slowly_is_waited_for() {
        // 16 bytes fit: each write waits until some were read, and all take longer than the limit.
        let (mut client, server) = tokio::io::duplex(16);
        let mut server = paced(server);
        let reads = async {
            let mut bytes = [0; 16];
            for _ in 0..8 {
                tokio::time::sleep(MOMENT / 4).await;
                tokio::io::AsyncReadExt::read_exact(&mut client, &mut bytes).await.unwrap();
            }
        };
        let writes = async {
            server.write_all(&[7; 128]).await?;
            server.flush().await?;
            server.shutdown().await
        };
        let (written, ()) = tokio::join!(writes, reads);
        written.unwrap();
    }
}
