//! The screen: totals, what they were lately, and a line for every path.

use std::{collections::VecDeque, time::Duration};

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::Line,
    widgets::{Block, Paragraph, Row, Sparkline, Table},
};

use super::{Totals, View};

/// How many views the sparklines can show.
const HISTORY: usize = 512;

/// What is on the screen.
#[derive(Debug)]
pub struct Screen {
    url: String,
    /// Time between two looks.
    pub interval: Duration,
    /// Whether new views are left out.
    pub is_paused: bool,
    view: Option<View>,
    /// Why the last look failed.
    problem: Option<String>,
    /// Goodput and p99 in microseconds, oldest first.
    history: VecDeque<(u64, u64)>,
}

impl Screen {
    /// An empty screen.
    pub fn new(url: &str, interval: Duration) -> Self {
        let (view, problem, history) = (None, None, VecDeque::new());
        Self { url: url.to_owned(), interval, is_paused: false, view, problem, history }
    }

    /// Shows a view, unless paused.
    pub fn show(&mut self, view: View) {
        if self.is_paused {
            return;
        }
        self.problem = None;
        let goodput = view.totals.correct_in_time_per_s.round() as u64;
        let p99_us = (1e3 * view.totals.p99_ms.unwrap_or(0.0)).round() as u64;
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back((goodput, p99_us));
        self.view = Some(view);
    }

    /// Says why there is no new view. The last one stays.
    pub fn fail(&mut self, problem: String) {
        self.problem = Some(problem);
    }
}

/// Draws the screen.
pub fn draw(screen: &Screen, frame: &mut Frame<'_>) {
    let rows = screen.view.as_ref().map_or(0, |view| view.paths.len()) as u16;
    let [top, totals, table, lately, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(3),
        Constraint::Max(rows + 3),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(heading(screen), top);
    if let Some(view) = &screen.view {
        frame.render_widget(summary(&view.totals), totals);
        frame.render_widget(paths(view), table);
        sparklines(screen, lately, frame);
    }
    let keys_text = "q quit   p pause   + slower   - faster";
    frame.render_widget(Paragraph::new(keys_text).style(Style::new().fg(Color::DarkGray)), keys);
}

fn heading(screen: &Screen) -> Paragraph<'_> {
    let every = format!("every {:.1} s", screen.interval.as_secs_f64());
    let (text, color) = match (&screen.problem, &screen.view) {
        (Some(problem), _) => {
            (format!("{}  trying again {every}: {problem}", screen.url), Color::Red)
        }
        (None, None) => (format!("{}  looking {every}", screen.url), Color::Yellow),
        (None, Some(view)) => {
            let paused = if screen.is_paused { "  PAUSED" } else { "" };
            let recording = match view.is_recording {
                Some(true) => "  recording",
                Some(false) => "  recording ended",
                None => "",
            };
            let text =
                format!("{}  mprec {}  {every}{recording}{paused}", screen.url, view.version);
            (text, if screen.is_paused { Color::Yellow } else { Color::Green })
        }
    };
    Paragraph::new(text).style(Style::new().fg(color))
}

fn summary(totals: &Totals) -> Paragraph<'static> {
    let first = format!(
        "correct in time {:.0}/s   in time {}   accuracy {}   p99 {} ms",
        totals.correct_in_time_per_s,
        percent(totals.in_time),
        totals.accuracy.map_or("-".into(), |accuracy| format!("{accuracy:.4}")),
        millis(totals.p99_ms)
    );
    let second = format!(
        "queries {:.0}/s   refused {:.1}/s   downgraded {:.1}/s   waiting {:.0}   under way {:.0}",
        totals.queries_per_s,
        totals.refused_per_s,
        totals.downgraded_per_s,
        totals.queued,
        totals.in_flight
    );
    let bold = Style::new().add_modifier(Modifier::BOLD);
    Paragraph::new(vec![Line::from(first).style(bold), Line::from(second)])
}

/// The headings of the table of paths, for the screen and for plain text.
const HEADINGS: [&str; 11] = [
    "path",
    "state",
    "load",
    "queue",
    "queries/s",
    "samples/s",
    "p50 ms",
    "p99 ms",
    "share",
    "accuracy",
    "correction",
];

impl super::PathRow {
    /// One cell per heading.
    pub fn cells(&self) -> [String; 11] {
        [
            self.name.clone(),
            if self.up { "up" } else { "DOWN" }.to_owned(),
            percent(self.load),
            format!("{:.0}", self.queued),
            format!("{:.1}", self.queries_per_s),
            format!("{:.0}", self.samples_per_s),
            millis(self.p50_ms),
            millis(self.p99_ms),
            percent(self.share),
            format!("{:.4}", self.accuracy),
            format!("{:.2}", self.correction),
        ]
    }

    /// What [`cells`](Self::cells) are.
    pub fn headings() -> [&'static str; 11] {
        HEADINGS
    }
}

fn paths(view: &View) -> Table<'static> {
    let name = view.paths.iter().map(|path| path.name.chars().count()).max().unwrap_or(4) as u16;
    let widths = [name.clamp(4, 40), 5, 7, 6, 9, 9, 8, 8, 7, 8, 10].map(Constraint::Length);
    let rows = view.paths.iter().map(|path| {
        let style = if path.up { Style::new() } else { Style::new().fg(Color::Red) };
        Row::new(path.cells()).style(style)
    });
    let header = Row::new(HEADINGS).style(Style::new().add_modifier(Modifier::BOLD));
    Table::new(rows, widths).header(header).block(Block::bordered().title("paths"))
}

fn sparklines(screen: &Screen, area: Rect, frame: &mut Frame<'_>) {
    let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(area);
    let width = usize::from(left.width.saturating_sub(2));
    let skip = screen.history.len().saturating_sub(width);
    let (goodput, p99): (Vec<u64>, Vec<u64>) = screen.history.iter().skip(skip).copied().unzip();
    let most = |values: &[u64]| values.iter().copied().max().unwrap_or(0);
    let title = format!("correct in time/s, at most {}", most(&goodput));
    let goodput = Sparkline::default().data(goodput).style(Style::new().fg(Color::Green));
    frame.render_widget(goodput.block(Block::bordered().title(title)), left);
    let title = format!("p99, at most {:.2} ms", most(&p99) as f64 / 1e3);
    let p99 = Sparkline::default().data(p99).style(Style::new().fg(Color::Cyan));
    frame.render_widget(p99.block(Block::bordered().title(title)), right);
}

fn percent(share: Option<f64>) -> String {
    share.map_or("-".to_owned(), |share| format!("{:.1} %", 100.0 * share))
}

fn millis(ms: Option<f64>) -> String {
    ms.map_or("-".to_owned(), |ms| format!("{ms:.2}"))
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;
    use crate::top::PathRow;

    fn view(goodput: f64) -> View {
        let path = |name: &str, up, share| PathRow {
            name: name.into(),
            up,
            load: Some(0.425),
            queued: 2.0,
            queries_per_s: 120.0,
            samples_per_s: 14_400.0,
            p50_ms: Some(3.25),
            p99_ms: Some(9.5),
            share,
            accuracy: 0.7736,
            correction: 1.04,
        };
        let idle = PathRow { p50_ms: None, p99_ms: None, ..path("hybrid@cpu", false, Some(0.0)) };
        View {
            seconds: 1.0,
            version: "0.1.0".into(),
            is_recording: Some(true),
            totals: Totals {
                correct_in_time_per_s: goodput,
                queries_per_s: 120.0,
                refused_per_s: 0.5,
                downgraded_per_s: 12.0,
                in_time: Some(0.998),
                accuracy: Some(0.7736),
                p99_ms: Some(9.5),
                queued: 4.0,
                in_flight: 7.0,
            },
            paths: vec![path("table@cpu", true, Some(1.0)), idle],
        }
    }

    fn rendered(screen: &Screen) -> String {
        let mut terminal = Terminal::new(TestBackend::new(112, 16)).unwrap();
        terminal.draw(|frame| draw(screen, frame)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn the_screen_is_as_it_was() {
        let mut screen = Screen::new("http://127.0.0.1:8000", Duration::from_secs(1));
        for goodput in [2_000.0, 4_000.0, 8_000.0, 11_139.0] {
            screen.show(view(goodput));
        }
        insta::assert_snapshot!("screen", rendered(&screen));
    }

    #[test]
    fn a_server_that_is_gone_is_said_so_and_the_last_view_stays() {
        let mut screen = Screen::new("http://127.0.0.1:8000", Duration::from_secs(1));
        screen.fail("there is no server".into());
        assert!(rendered(&screen).contains("trying again every 1.0 s: there is no server"));
        screen.show(view(5.0));
        screen.fail("there is no server".into());
        let text = rendered(&screen);
        assert!(text.contains("trying again") && text.contains("table@cpu"), "{text}");
        screen.show(view(6.0));
        assert!(!rendered(&screen).contains("trying again"));
        screen.is_paused = true;
        screen.show(view(7.0));
        assert!(rendered(&screen).contains("correct in time 6/s"), "paused");
    }

    #[test]
    fn a_small_terminal_is_no_reason_to_panic() {
        let mut screen = Screen::new("http://127.0.0.1:8000", Duration::from_secs(1));
        screen.show(view(5.0));
        for (width, height) in [(1, 1), (10, 3), (40, 8)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            terminal.draw(|frame| draw(&screen, frame)).unwrap();
        }
    }
}
