//! `mprec top`: a running server, live in the terminal.

use std::{
    io::IsTerminal as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc::{self, Receiver, SyncSender, TrySendError},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::Args;
use mprec_runtime::{
    load::{Access, metrics_text},
    top::{PathRow, Reading, Screen, View, draw},
};
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers},
};

use super::{Failure, InputError as _, Output, Run, access::AccessArguments, output};

/// How long the screen waits for a key before it looks for news.
const KEY_WAIT: Duration = Duration::from_millis(100);

/// Shortest and longest time between two looks.
const INTERVALS: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(60)];

#[derive(Debug, Args)]
#[command(after_help = "\
Keys: q quits, p pauses, + and - make it slower and faster. Quantiles are as fine as the buckets of the server's histograms.")]
pub(super) struct Top {
    /// The server, such as `http://127.0.0.1:8000`; its metrics are at /metrics of the same port.
    #[arg(long, default_value = "http://127.0.0.1:8000")]
    url: String,
    #[command(flatten)]
    access: AccessArguments,
    /// Seconds between two looks.
    #[arg(long, default_value_t = 1.0)]
    interval: f64,
    /// Look twice, print a table and end.
    #[arg(long)]
    once: bool,
}

impl Top {
    pub(super) fn run(&self, output: &Output) -> Run {
        let [least, most] = INTERVALS;
        let interval = Duration::try_from_secs_f64(self.interval).unwrap_or_default();
        if !(least..=most).contains(&interval) {
            return Err(Failure::input(anyhow::anyhow!("--interval must be 0.2 to 60 seconds")));
        }
        let access = self.access.read()?;
        if self.once || output.is_json() {
            let before = look(&self.url, &access).or_bad_input()?;
            let began = Instant::now();
            thread::sleep(interval);
            let after = look(&self.url, &access)?;
            let view = View::between(&before, &after, began.elapsed().as_secs_f64());
            return output.result(&view, || text(&view));
        }
        if !std::io::stdout().is_terminal() {
            let why = "this is no terminal; use --once, or --json for one JSON object";
            return Err(Failure::input(anyhow::anyhow!(why)));
        }
        let mut terminal = ratatui::try_init().context("the terminal cannot be used")?;
        let result = watch(&mut terminal, &self.url, access, interval);
        ratatui::restore();
        result
    }
}

fn look(url: &str, access: &Access) -> anyhow::Result<Reading> {
    Ok(Reading::parse(&metrics_text(url, access)?)?)
}

/// What the screen tells the thread that looks.
#[derive(Debug)]
struct Wish {
    interval_ms: AtomicU64,
    is_over: AtomicBool,
}

/// Draws until a key ends it.
fn watch(terminal: &mut DefaultTerminal, url: &str, access: Access, interval: Duration) -> Run {
    let mut screen = Screen::new(url, interval);
    let wish = Arc::new(Wish {
        interval_ms: AtomicU64::new(interval.as_millis() as u64),
        is_over: AtomicBool::new(false),
    });
    let (sender, news) = mpsc::sync_channel(1);
    let looking = {
        let (url, wish) = (url.to_owned(), Arc::clone(&wish));
        thread::Builder::new()
            .name("top".into())
            .spawn(move || keep_looking(&url, &access, &wish, &sender))
    }?;
    let result = show(terminal, &mut screen, &wish, &news);
    wish.is_over.store(true, Relaxed);
    looking.thread().unpark();
    // It may be in a look that takes seconds; it ends with the process at the latest.
    drop(news);
    result
}

fn show(
    terminal: &mut DefaultTerminal,
    screen: &mut Screen,
    wish: &Wish,
    news: &Receiver<Result<View, String>>,
) -> Run {
    loop {
        while let Ok(found) = news.try_recv() {
            match found {
                Ok(view) => screen.show(view),
                Err(problem) => screen.fail(problem),
            }
        }
        terminal.draw(|frame| draw(screen, frame))?;
        if !event::poll(KEY_WAIT)? {
            continue;
        }
        let Event::Key(key) = event::read()? else { continue };
        if key.kind != KeyEventKind::Press {
            continue;
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(()),
            KeyCode::Char('p') => screen.is_paused = !screen.is_paused,
            KeyCode::Char('+' | '=') => screen.interval *= 2,
            KeyCode::Char('-') => screen.interval /= 2,
            _ => {}
        }
        let [least, most] = INTERVALS;
        screen.interval = screen.interval.clamp(least, most);
        wish.interval_ms.store(screen.interval.as_millis() as u64, Relaxed);
    }
}

/// Looks again and again. A server that is gone may come back.
fn keep_looking(url: &str, access: &Access, wish: &Wish, news: &SyncSender<Result<View, String>>) {
    let mut before: Option<(Instant, Reading)> = None;
    while !wish.is_over.load(Relaxed) {
        let found = match look(url, access) {
            Ok(after) => {
                let now = Instant::now();
                let view = before.as_ref().map(|(then, before)| {
                    View::between(before, &after, now.duration_since(*then).as_secs_f64())
                });
                before = Some((now, after));
                view.map(Ok)
            }
            Err(problem) => Some(Err(format!("{problem:#}"))),
        };
        // A screen that is busy with the last news can do without these.
        if let Some(found) = found
            && let Err(TrySendError::Disconnected(_)) = news.try_send(found)
        {
            return;
        }
        thread::park_timeout(Duration::from_millis(wish.interval_ms.load(Relaxed)));
    }
}

fn text(view: &View) -> String {
    let totals = &view.totals;
    let or_none = |value: Option<f64>, scale: f64| {
        value.map_or("-".to_owned(), |value| format!("{:.2}", scale * value))
    };
    format!(
        "Over {:.1} s: {:.0} correct in time/s, {:.1} queries/s, {} % in time, p99 {} ms, \
         {:.1} refused/s, {:.1} downgraded/s, {:.0} waiting\n{}",
        view.seconds,
        totals.correct_in_time_per_s,
        totals.queries_per_s,
        or_none(totals.in_time, 100.0),
        or_none(totals.p99_ms, 1.0),
        totals.refused_per_s,
        totals.downgraded_per_s,
        totals.queued,
        output::table(PathRow::headings(), view.paths.iter().map(PathRow::cells))
    )
}
