//! A heat map that is a table: what the colours say is there as text, for whoever cannot see them.

use std::fmt::Write as _;

use super::chart::escape;

/// How a cell compares; the style sheet has a colour for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shade {
    /// Worse by more than 0.1 %.
    Worse,
    /// Worse by less.
    Near,
    /// Better by up to 0.1 %, or nothing to compare.
    Even,
    /// Better by up to 5 %.
    Better,
    /// Better by up to 50 %.
    Much,
    /// Better by more.
    Most,
}

impl Shade {
    /// The shade of a ratio to what is compared with.
    pub fn of(ratio: f64) -> Self {
        match ratio {
            ratio if ratio < 0.999 => Self::Worse,
            // Sums of the same numbers in another order are the same.
            ratio if ratio < 1.0 - 1e-9 => Self::Near,
            ratio if ratio <= 1.001 => Self::Even,
            ratio if ratio <= 1.05 => Self::Better,
            ratio if ratio <= 1.5 => Self::Much,
            _ => Self::Most,
        }
    }

    fn class(self) -> &'static str {
        match self {
            Self::Worse => "worse",
            Self::Near => "near",
            Self::Even => "even",
            Self::Better => "better",
            Self::Much => "much",
            Self::Most => "most",
        }
    }
}

/// One cell.
#[derive(Debug, Clone, PartialEq)]
pub struct HeatCell {
    /// What it says.
    pub text: String,
    /// What it says in small print.
    pub small: String,
    /// Its colour.
    pub shade: Shade,
    /// Whether it is marked.
    pub failing: bool,
}

/// A table of cells under a caption: `corner` says what rows and columns are.
pub fn heat_map(
    caption: &str,
    corner: &str,
    columns: &[String],
    rows: &[(String, Vec<HeatCell>)],
) -> String {
    let mut html = format!(
        "<div class=\"scroll\" tabindex=\"0\"><table class=\"heat\"><caption>{}</caption><thead><tr><th scope=\"col\">{}</th>",
        escape(caption),
        escape(corner)
    );
    for column in columns {
        let _ = write!(html, "<th scope=\"col\">{}</th>", escape(column));
    }
    html.push_str("</tr></thead><tbody>");
    for (label, cells) in rows {
        let _ = write!(html, "<tr><th scope=\"row\">{}</th>", escape(label));
        for cell in cells {
            let mark = if cell.failing { " failing" } else { "" };
            let _ = write!(
                html,
                "<td class=\"{}{mark}\">{}<small>{}</small></td>",
                cell.shade.class(),
                escape(&cell.text),
                escape(&cell.small)
            );
        }
        html.push_str("</tr>");
    }
    html.push_str("</tbody></table></div>");
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_say_what_their_colours_say_and_cannot_break_out() {
        let cell = HeatCell {
            text: "<0.98×".into(),
            small: "!".into(),
            shade: Shade::Worse,
            failing: true,
        };
        let html = heat_map("c", "a \\ b", &["<i>".into()], &[("r".into(), vec![cell])]);
        assert!(html.contains("<td class=\"worse failing\">&lt;0.98×<small>!</small></td>"));
        assert!(html.contains("<th scope=\"row\">r</th>") && !html.contains("<i>"));
    }

    #[test]
    fn shades_follow_the_ratio() {
        let shades = [0.99, 0.9995, 1.0 - 1e-12, 1.0, 1.01, 1.2, 3.0].map(Shade::of);
        use Shade::{Better, Even, Most, Much, Near, Worse};
        assert_eq!(shades, [Worse, Near, Even, Even, Better, Much, Most]);
    }
}
