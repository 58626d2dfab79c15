//! Where connections come from: TCP addresses and Unix sockets.

use std::{
    fmt, fs, io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    task::{Context, Poll},
};

use rustix::{fs::Mode, process::umask};
use tokio::net::{TcpListener, UnixListener};

use super::accepted::Accepted;

/// Permission bits that a new Unix socket does not get: clients are its owner and group.
const SOCKET_UMASK: u32 = 0o117;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenOn {
    /// An address and port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// Why nothing listens there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The system says so.
    #[error("cannot listen on `{on}`")]
    Bind {
        /// Where.
        on: ListenOn,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of that name is no socket.
    #[error("cannot listen on `{}`: the file is not a socket; move it, or name another", path.display())]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// Another process listens there.
    #[error("cannot listen on `{}`: another process does; stop it, or name another", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
}

/// One place that is listened on.
#[derive(Debug)]
pub enum Listener {
    /// An address and port.
    Tcp(TcpListener),
    /// A Unix socket, whose file goes with it.
    Unix(UnixListener, SocketFile),
}

/// The file of a Unix socket, removed when dropped if it is still that socket's.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and number of the file.
    identity: (u64, u64),
}

impl Listener {
    /// Begins to listen.
    ///
    /// The file of a Unix socket is made with mode 0660. One that a process left behind is replaced; a file
    /// that is no socket, and a socket that somebody listens on, stay as they are.
    ///
    /// # Errors
    ///
    /// [`ListenError`], which names the place.
    pub async fn bind(on: &ListenOn) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Bind { on: on.clone(), source };
        match on {
            ListenOn::Tcp(address) => {
                TcpListener::bind(address).await.map(Self::Tcp).map_err(failed)
            }
            ListenOn::Unix(path) => {
                remove_stale(path)?;
                // The socket must never be open to all, not even for the moment before a `chmod`.
                let before = umask(Mode::from_raw_mode(SOCKET_UMASK));
                let listener = UnixListener::bind(path);
                umask(before);
                let listener = listener.map_err(failed)?;
                let file = SocketFile::of(path).map_err(failed)?;
                Ok(Self::Unix(listener, file))
            }
        }
    }

    /// Where clients find it, as a URL: `http://127.0.0.1:8000`, `unix:/run/mprec.sock`.
    ///
    /// # Errors
    ///
    /// The system does not tell the address.
    pub fn url(&self) -> io::Result<String> {
        Ok(match self {
            Self::Tcp(listener) => format!("http://{}", listener.local_addr()?),
            Self::Unix(_, file) => format!("unix:{}", file.path.display()),
        })
    }

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        match self {
            Self::Tcp(listener) => listener
                .poll_accept(context)
                .map(|accepted| accepted.map(|(stream, _)| Accepted::Tcp(stream))),
            Self::Unix(listener, _) => listener
                .poll_accept(context)
                .map(|accepted| accepted.map(|(stream, _)| Accepted::Unix(stream))),
        }
    }
}

/// The next connection to any of them. The one at `first` is asked first, and so moves on by one, lest a busy
/// one keep the others waiting.
pub(super) async fn accept(listeners: &[Listener], first: &mut usize) -> io::Result<Accepted> {
    *first = first.wrapping_add(1);
    let (ahead, behind) = listeners.split_at(*first % listeners.len().max(1));
    std::future::poll_fn(|context| {
        let mut ready = behind.iter().chain(ahead).map(|listener| listener.poll_accept(context));
        ready.find(Poll::is_ready).unwrap_or(Poll::Pending)
    })
    .await
}

/// Removes a socket that nobody listens on.
fn remove_stale(path: &Path) -> Result<(), ListenError> {
    let failed = |source| ListenError::Bind { on: ListenOn::Unix(path.to_owned()), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(file) if !file.file_type().is_socket() => {
            return Err(ListenError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::info!(path = %path.display(), "a socket that a process left behind is removed");
            fs::remove_file(path).map_err(failed)
        }
        Ok(_) => Err(ListenError::InUse { path: path.to_owned() }),
        Err(error) => Err(failed(error)),
    }
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }
}

/// Device and number of a file.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = identity(&self.path).is_ok_and(|identity| identity == self.identity);
        // If it cannot be removed, the next process finds it stale.
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, path = %self.path.display(), "a socket could not be removed");
        }
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl fmt::Display for ListenOn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

impl ListenOn {
    /// From `address:port`, or `unix:` and the name of a file; `None` if it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("unix:") {
            // A NUL ends names of files, and one at the start would be another kind of socket.
            Some(path) if path.is_empty() || path.contains('\0') => None,
            Some(path) => Some(Self::Unix(path.into())),
            None => text.parse().ok().map(Self::Tcp),
        }
    }
}
