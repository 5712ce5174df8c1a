//! The answer as it emerges: masks, tokens appearing in parallel, their confidence by shade, block borders.

use diffa::decode::StepReport;
use diffa::text::Tokenizer;

/// Widest line drawn; narrower terminals cut it.
const WIDTH: usize = 96;
const MASK: &str = "░";
const BORDER: &str = "│";
/// Stands for a token that ends the answer or fills it up.
const END: &str = "·";

/// One answer, row by row.
#[derive(Debug)]
pub(super) struct Canvas {
    cells: Vec<Cell>,
    block_length: usize,
}

#[derive(Debug, Clone, Default)]
struct Cell {
    /// Text of the committed token.
    token: Option<String>,
    confidence: f32,
    /// Committed by the latest step.
    fresh: bool,
}

impl Canvas {
    /// An empty canvas of `gen_length` masks.
    pub(super) fn new(gen_length: usize, block_length: usize) -> Canvas {
        Canvas { cells: vec![Cell::default(); gen_length], block_length }
    }

    /// Takes in what a step committed. `end_ids` are drawn as dots.
    pub(super) fn take(&mut self, report: &StepReport, tokenizer: &Tokenizer, end_ids: &[u32]) {
        self.cells.iter_mut().for_each(|cell| cell.fresh = false);
        for commit in &report.commits {
            if let Some(cell) = self.cells.get_mut(commit.position) {
                let text = match end_ids.contains(&commit.id) {
                    true => END.into(),
                    false => tokenizer.token_text(commit.id).unwrap_or_default(),
                };
                let text = text.replace(char::is_control, "⏎");
                *cell = Cell { token: Some(text), confidence: commit.confidence, fresh: true };
            }
        }
        if report.stopped {
            let rest = self.cells.iter_mut().filter(|cell| cell.token.is_none());
            rest.for_each(|cell| *cell = Cell { token: Some(END.into()), confidence: 1.0, fresh: false });
        }
    }

    /// The canvas as lines of text, with ANSI colours.
    pub(super) fn render(&self) -> String {
        let mut out = String::new();
        let mut column = 0;
        for (row, cell) in self.cells.iter().enumerate() {
            if row > 0 && row % self.block_length == 0 {
                out += &paint("2", BORDER);
                column += 1;
            }
            let text = cell.token.as_deref().unwrap_or(MASK);
            let width = text.chars().count();
            if column > 0 && column + width > WIDTH {
                out.push('\n');
                column = 0;
            }
            column += width;
            out += &match &cell.token {
                None => paint("2", text),
                Some(_) => paint(shade(cell), text),
            };
        }
        out
    }
}

/// Sure tokens stand out, doubtful ones recede; what is new is bold.
fn shade(cell: &Cell) -> &'static str {
    match (cell.confidence, cell.fresh) {
        (c, true) if c >= 0.9 => "1;97",
        (c, true) if c >= 0.5 => "1;37",
        (_, true) => "1;90",
        (c, false) if c >= 0.9 => "97",
        (c, false) if c >= 0.5 => "37",
        _ => "90",
    }
}

fn paint(code: &str, text: &str) -> String {
    if !console::colors_enabled_stderr() {
        return text.into();
    }
    format!("\x1b[{code}m{text}\x1b[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_and_borders_are_drawn() {
        let canvas = Canvas::new(4, 2);
        let plain = canvas.render().replace("\x1b[2m", "").replace("\x1b[0m", "");
        assert_eq!(plain, "░░│░░");
    }

    #[test]
    fn long_answers_wrap() {
        assert_eq!(Canvas::new(200, 200).render().lines().count(), 3);
    }
}
