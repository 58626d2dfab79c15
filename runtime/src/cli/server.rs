//! A server in a process of its own, as a user would start it.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

/// How long a server may take to drain.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// A running server, killed when dropped.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    url: String,
}

#[derive(Deserialize)]
struct Started {
    url: String,
}

impl Server {
    /// Runs `mprec serve` with these arguments, on a free port of the loopback interface.
    pub(super) fn start(
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let child = Command::new(program)
            .args(["serve", "--json", "--quiet", "--listen", "127.0.0.1:0", "--grpc-listen", "off"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a server")?;
        let mut server = Self { child, url: String::new() };
        let stdout = server.child.stdout.take().context("the server has no output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).context("the server cannot be read")?;
        ensure!(!line.is_empty(), "the server ended before it served; see above");
        let started: Started =
            serde_json::from_str(&line).context("the server's first line is not JSON")?;
        server.url = started.url;
        Ok(server)
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Asks it to drain, and waits until it has ended.
    pub(super) fn stop(mut self) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)
            .context("cannot stop the server")?;
        let limit = Instant::now() + STOP_LIMIT;
        while Instant::now() < limit {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the server ended with {status}");
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        anyhow::bail!("the server did not end within {} s", STOP_LIMIT.as_secs())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has usually ended; if not, nothing shall keep running behind the caller's back.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
