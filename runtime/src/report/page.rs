//! A self-contained HTML page.

use std::fmt::Write as _;

use super::chart::escape;

/// Styles of every page. Series colours are distinguishable without hue too (they differ in
/// lightness in order), and follow the reader's light or dark theme.
const STYLE: &str = "
:root{--ink:#1b1f24;--paper:#fff;--soft:#5b6570;--grid:#dfe3e8;--strong:#0b6e4f;--plain:#9fb3c8;--mark:#b00020}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ed;--paper:#14181d;--soft:#9aa5b1;--grid:#2b333c;--strong:#4cc9a0;--plain:#4a6078;--mark:#ff6b81}}
*{box-sizing:border-box}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:860px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0 0 .2rem}h2{font-size:1.1rem;margin:2.2rem 0 .4rem}h3{font-size:1rem;margin:1.4rem 0 .3rem}
p{margin:.4rem 0}.soft,figcaption{color:var(--soft);font-size:.9rem}
.warn{border-left:4px solid var(--mark);padding:.4rem .8rem}
figure{margin:.6rem 0}svg{width:100%;height:auto}
svg text{font:13px system-ui,sans-serif;fill:var(--ink)}svg .small{font-size:11px;fill:var(--soft)}
svg .end{text-anchor:end}svg .middle{text-anchor:middle}
.bar.strong{fill:var(--strong)}.bar.plain{fill:var(--plain)}
.grid{stroke:var(--grid)}.mark{stroke:var(--mark);stroke-dasharray:5 4}
.line{fill:none;stroke-width:1.6}.line.heavy{stroke-width:3.4}
.line.c0{stroke:#0b6e4f}.line.c1{stroke:#d1495b}.line.c2{stroke:#3066be}.line.c3{stroke:#edae49}.line.c4{stroke:#8d5a97}.line.c5{stroke:#2e9cca}.line.c6{stroke:#7f7f7f}.line.c7{stroke:#a65e2e}.line.c8{stroke:#4f8a10}
.fill.c0{fill:#0b6e4f}.fill.c1{fill:#d1495b}.fill.c2{fill:#3066be}.fill.c3{fill:#edae49}.fill.c4{fill:#8d5a97}.fill.c5{fill:#2e9cca}.fill.c6{fill:#7f7f7f}.fill.c7{fill:#a65e2e}.fill.c8{fill:#4f8a10}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.88rem;width:100%}
th,td{text-align:right;padding:.25rem .5rem;border-bottom:1px solid var(--grid);white-space:nowrap}
th:first-child,td:first-child{text-align:left}tr.strong td{font-weight:600}
.scroll:focus-visible{outline:2px solid var(--strong)}caption{text-align:left;font-weight:600;padding:.2rem .5rem}
nav ul{margin:.3rem 0;padding-left:1.2rem;columns:2}a{color:var(--strong)}
.heat td,.heat th{text-align:center;padding:.15rem .3rem}.heat td small{display:block;color:var(--soft);font-size:.72rem;line-height:1.1}
.heat .worse{background:rgba(209,73,91,.45)}.heat .near{background:rgba(237,174,73,.38)}.heat .even{background:rgba(127,127,127,.07)}
.heat .better{background:rgba(14,140,100,.18)}.heat .much{background:rgba(14,140,100,.36)}.heat .most{background:rgba(14,140,100,.58)}
.heat td.failing{outline:2px solid var(--mark);outline-offset:-2px}
";

/// A page being written, section by section.
#[derive(Debug)]
pub struct Page {
    body: String,
    title: String,
}

impl Page {
    /// A page with a title and a line under it. Texts are plain; the page escapes them.
    pub fn new(title: &str, subtitle: &str) -> Self {
        let body = format!("<h1>{}</h1><p class=\"soft\">{}</p>", escape(title), escape(subtitle));
        Self { body, title: title.to_owned() }
    }

    /// A heading.
    pub fn heading(&mut self, text: &str) {
        let _ = write!(self.body, "<h2>{}</h2>", escape(text));
    }

    /// A heading that the table of contents can lead to.
    pub fn anchor(&mut self, id: &str, text: &str) {
        let _ = write!(self.body, "<h2 id=\"{}\">{}</h2>", escape(id), escape(text));
    }

    /// A heading of a part of a section.
    pub fn subheading(&mut self, text: &str) {
        let _ = write!(self.body, "<h3>{}</h3>", escape(text));
    }

    /// Links to [`anchor`](Self::anchor)s, by id and text.
    pub fn contents(&mut self, links: &[(String, String)]) {
        self.body.push_str("<nav aria-label=\"Contents\"><ul>");
        for (id, text) in links {
            let _ = write!(self.body, "<li><a href=\"#{}\">{}</a></li>", escape(id), escape(text));
        }
        self.body.push_str("</ul></nav>");
    }

    /// A paragraph.
    pub fn paragraph(&mut self, text: &str) {
        let _ = write!(self.body, "<p>{}</p>", escape(text));
    }

    /// A paragraph that must not be missed.
    pub fn warning(&mut self, text: &str) {
        let _ = write!(self.body, "<p class=\"warn\" role=\"note\">{}</p>", escape(text));
    }

    /// A chart from [`chart`](super::chart) with a caption.
    pub fn chart(&mut self, svg: &str, caption: &str) {
        let _ =
            write!(self.body, "<figure>{svg}<figcaption>{}</figcaption></figure>", escape(caption));
    }

    /// A table; `strong` says which rows stand out.
    pub fn table(&mut self, header: &[&str], rows: &[Vec<String>], strong: impl Fn(usize) -> bool) {
        // What scrolls must be reachable by keyboard.
        self.body.push_str("<div class=\"scroll\" tabindex=\"0\"><table><thead><tr>");
        for cell in header {
            let _ = write!(self.body, "<th scope=\"col\">{}</th>", escape(cell));
        }
        self.body.push_str("</tr></thead><tbody>");
        for (at, row) in rows.iter().enumerate() {
            self.body.push_str(if strong(at) { "<tr class=\"strong\">" } else { "<tr>" });
            for cell in row {
                let _ = write!(self.body, "<td>{}</td>", escape(cell));
            }
            self.body.push_str("</tr>");
        }
        self.body.push_str("</tbody></table></div>");
    }

    /// The whole page.
    pub fn render(&self) -> String {
        format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
             <title>{}</title><style>{STYLE}</style></head><body><main>{}</main></body></html>\n",
            escape(&self.title),
            self.body
        )
    }
}
