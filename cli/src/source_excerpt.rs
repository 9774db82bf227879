//! Findings in Compose files as compilers show theirs: what, where, the line with a caret below, and what to do.

use std::collections::BTreeMap;

use outrigger_api::{Diagnostic, DiagnosticSeverity};

use crate::inert::inert;
use crate::style::{Paint, Tone};

/// Longest piece of a source line that is shown; of longer ones the part around the caret.
const MAX_EXCERPT: usize = 100;

/// All findings, the worst first, as lines.
pub(crate) fn render(
    findings: &[Diagnostic],
    files: &BTreeMap<String, Option<String>>,
    folder: &str,
    paint: Paint,
) -> Vec<String> {
    let mut sorted: Vec<&Diagnostic> = findings.iter().collect();
    sorted.sort_by_key(|finding| finding.severity);
    sorted.into_iter().flat_map(|finding| finding_lines(finding, files, folder, paint)).collect()
}

fn finding_lines(
    finding: &Diagnostic,
    files: &BTreeMap<String, Option<String>>,
    folder: &str,
    paint: Paint,
) -> Vec<String> {
    let (tone, word) = match finding.severity {
        DiagnosticSeverity::Error => (Tone::Bad, "error"),
        DiagnosticSeverity::Warning => (Tone::Warning, "warning"),
        DiagnosticSeverity::Note => (Tone::Busy, "note"),
    };
    let mut lines = vec![format!("{}: {}", paint.text(tone, word), paint.text(Tone::Strong, &finding.message))];
    let gutter = " ".repeat(finding.line.to_string().len());
    lines.push(format!(
        "{gutter}{} {}{}",
        paint.text(Tone::Dim, "-->"),
        place(finding, folder),
        path_note(finding, paint)
    ));
    let bar = paint.text(Tone::Dim, "|");
    if let Some(excerpt) = source_line(finding, files) {
        lines.push(format!("{} {bar} {}", paint.text(Tone::Dim, &finding.line.to_string()), excerpt.text));
        if let Some(caret_at) = excerpt.caret_at {
            lines.push(format!("{gutter} {bar} {}{}", " ".repeat(caret_at), paint.text(tone, "^")));
        }
    }
    if let Some(help) = &finding.help {
        lines.push(format!("{gutter} {} {}", paint.text(Tone::Dim, "= help:"), inert(help)));
    }
    lines
}

/// `compose.yaml:7:11`, which editors and terminals open at that place.
fn place(finding: &Diagnostic, folder: &str) -> String {
    let mut place = inert(&shown_path(folder, &finding.file)).into_owned();
    if finding.line > 0 {
        place.push_str(&format!(":{}", finding.line));
        if finding.column > 0 {
            place.push_str(&format!(":{}", finding.column));
        }
    }
    place
}

/// A file of the project as seen from where the user is; `shop/../prod.yaml` is `prod.yaml`.
pub(crate) fn shown_path(folder: &str, file: &str) -> String {
    if file.starts_with('/') {
        return file.to_owned();
    }
    let (mut folder, mut file) = (folder.trim_end_matches('/'), file);
    while let Some(rest) = file.strip_prefix("../") {
        let (before, last) = folder.rsplit_once('/').unwrap_or(("", folder));
        if matches!(last, "" | "." | "..") {
            break;
        }
        (folder, file) = (before, rest);
    }
    if folder.is_empty() { file.to_owned() } else { format!("{folder}/{file}") }
}

fn path_note(finding: &Diagnostic, paint: Paint) -> String {
    if finding.path.is_empty() { String::new() } else { paint.text(Tone::Dim, &format!("  ({})", finding.path)) }
}

struct Excerpt {
    text: String,
    /// Columns before the caret, as seen.
    caret_at: Option<usize>,
}

fn source_line(finding: &Diagnostic, files: &BTreeMap<String, Option<String>>) -> Option<Excerpt> {
    let text = files.get(&finding.file)?.as_deref()?;
    let index = usize::try_from(finding.line).ok()?.checked_sub(1)?;
    let line = text.split('\n').nth(index)?.trim_end();
    if line.is_empty() {
        return None;
    }
    let caret = usize::try_from(finding.column).ok()?.checked_sub(1);
    // Of a long line, the part that ends well behind the caret.
    let skip = caret.map_or(0, |caret| (caret + MAX_EXCERPT / 2).saturating_sub(MAX_EXCERPT));
    let shown = |from: usize, count: usize| -> String {
        line.chars().skip(from).take(count).collect::<String>().replace('\t', " ")
    };
    let text = inert(&shown(skip, MAX_EXCERPT)).into_owned();
    let caret_at = caret.map(|caret| console::measure_text_width(&inert(&shown(skip, caret - skip.min(caret)))));
    Some(Excerpt { text, caret_at })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "services:\n  web:\n    imge: nginx\n    größe: 1\n\tx: y\n";

    fn shown(line: u32, column: u32, help: Option<&str>) -> String {
        let finding = Diagnostic {
            severity: DiagnosticSeverity::Error,
            file: "compose.yaml".into(),
            line,
            column,
            path: "services.web.imge".into(),
            message: "unknown key `imge`".into(),
            help: help.map(Into::into),
        };
        let files = BTreeMap::from([("compose.yaml".to_owned(), Some(FILE.to_owned()))]);
        render(&[finding], &files, "shop/", Paint::Plain).join("\n")
    }

    #[test]
    fn a_finding_shows_its_line_with_a_caret() {
        let expected = "\
error: unknown key `imge`
 --> shop/compose.yaml:3:5  (services.web.imge)
3 |     imge: nginx
  |     ^
  = help: did you mean `image`?";
        assert_eq!(shown(3, 5, Some("did you mean `image`?")), expected);
    }

    #[test]
    fn a_place_that_is_not_in_the_file_is_named_without_an_excerpt() {
        let expected = "error: unknown key `imge`\n  --> shop/compose.yaml:99:1  (services.web.imge)";
        assert_eq!(shown(99, 1, None), expected);
        assert_eq!(shown(0, 0, None), "error: unknown key `imge`\n --> shop/compose.yaml  (services.web.imge)");
    }

    #[test]
    fn a_file_beside_the_folder_is_named_as_the_user_sees_it() {
        for (folder, file, shown) in [
            ("", "a.yaml", "a.yaml"),
            ("shop/", "a.yaml", "shop/a.yaml"),
            ("shop/", "../b.yaml", "b.yaml"),
            ("x/shop/", "../b/c.yaml", "x/b/c.yaml"),
            ("../shop/", "../../b.yaml", "../../b.yaml"),
            ("shop/", "/b.yaml", "/b.yaml"),
        ] {
            assert_eq!(shown_path(folder, file), shown, "{folder} {file}");
        }
    }

    #[test]
    fn the_caret_stands_below_what_is_meant_in_long_and_odd_lines() {
        let lines = shown(4, 10, None);
        assert!(lines.ends_with("4 |     größe: 1\n  |          ^"), "{lines}");
        let long = format!("a: {}X", "b".repeat(300));
        let finding = Diagnostic {
            severity: DiagnosticSeverity::Warning,
            file: "f".into(),
            line: 1,
            column: 304,
            path: String::new(),
            message: "m".into(),
            help: None,
        };
        let files = BTreeMap::from([("f".to_owned(), Some(long))]);
        let lines = render(&[finding], &files, "", Paint::Plain);
        let at = lines[3].find('^').unwrap();
        assert_eq!(lines[2].as_bytes()[at], b'X', "{lines:#?}");
    }
}
