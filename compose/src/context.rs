//! What all readers share: where problems are collected, the files, the variables and the budget.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::{Diagnostic, Severity};
use crate::sources::{Missing, Sources};
use crate::yaml::Mark;
use crate::{MAX_DIAGNOSTICS, MAX_WORK};

/// Compose's variable for the name of a stack: set by the user, it names the stack; set by us, it tells the name.
pub(crate) const PROJECT: &str = "COMPOSE_PROJECT_NAME";

/// One run of [`crate::load`].
pub(crate) struct Context<'s> {
    pub(crate) sources: &'s Sources,
    /// Variables of the `.env` beside the Compose file.
    pub(crate) dotenv: BTreeMap<String, String>,
    /// The name of the stack, as far as it is known: Compose gives it to files as a variable.
    pub(crate) project: Option<String>,
    files: RefCell<Vec<String>>,
    problems: RefCell<Vec<Diagnostic>>,
    missing: RefCell<Missing>,
    /// Values whose variables could not be replaced: what the readers say about the rest of them is noise.
    broken: RefCell<BTreeSet<Mark>>,
    spent: Cell<u64>,
}

impl<'s> Context<'s> {
    pub(crate) fn new(sources: &'s Sources) -> Self {
        Self {
            sources,
            dotenv: BTreeMap::new(),
            project: None,
            files: RefCell::default(),
            problems: RefCell::default(),
            missing: RefCell::default(),
            broken: RefCell::default(),
            spent: Cell::new(0),
        }
    }

    /// The number by which marks name this file.
    pub(crate) fn file_number(&self, path: &str) -> u16 {
        let mut files = self.files.borrow_mut();
        let index = files.iter().position(|known| known == path).unwrap_or_else(|| {
            files.push(path.to_owned());
            files.len() - 1
        });
        u16::try_from(index).unwrap_or(u16::MAX)
    }

    pub(crate) fn file_path(&self, number: u16) -> String {
        self.files.borrow().get(usize::from(number)).cloned().unwrap_or_default()
    }

    /// The value of a variable: the caller's environment wins over `.env`.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        let project = self.project.as_ref().filter(|_| name == PROJECT);
        project.or_else(|| self.sources.variables.get(name)).or_else(|| self.dotenv.get(name)).map(String::as_str)
    }

    /// The name that the user gave the stack by [`PROJECT`].
    pub(crate) fn named_by_user(&self) -> Option<&str> {
        let name = self.sources.variables.get(PROJECT).or_else(|| self.dotenv.get(PROJECT));
        name.map(String::as_str).filter(|name| !name.is_empty())
    }

    pub(crate) fn report(&self, severity: Severity, mark: Mark, path: String, message: String, help: Option<String>) {
        if self.broken.borrow().contains(&mark) {
            return;
        }
        let mut problems = self.problems.borrow_mut();
        let (file, line, column) = (self.file_path(mark.file), mark.line, mark.column);
        let diagnostic = Diagnostic { severity, file, line, column, path, message, help };
        // A template that several services share is wrong once. Warnings do not use up the room of errors.
        let is_same = |other: &Diagnostic| {
            (other.severity, other.line, other.column) == (severity, line, column)
                && (&other.file, &other.message) == (&diagnostic.file, &diagnostic.message)
        };
        if !self.is_full(&problems, severity) && !problems.iter().any(is_same) {
            problems.push(diagnostic);
        }
    }

    /// No more is reported about the value at `mark`.
    pub(crate) fn give_up(&self, mark: Mark) {
        self.broken.borrow_mut().insert(mark);
    }

    /// Whether further problems would not be told, so that looking for their remedies is idle.
    pub(crate) fn has_enough(&self) -> bool {
        self.is_full(&self.problems.borrow(), Severity::Error)
    }

    fn is_full(&self, problems: &[Diagnostic], severity: Severity) -> bool {
        problems.iter().filter(|problem| problem.severity == severity).count() >= MAX_DIAGNOSTICS
    }

    pub(crate) fn miss_file(&self, path: String) {
        self.missing.borrow_mut().files.insert(path);
    }

    pub(crate) fn miss_variable(&self, name: &str) {
        self.missing.borrow_mut().variables.insert(name.to_owned());
    }

    /// Takes `cost` bytes or nodes from the budget; says once that it is used up.
    pub(crate) fn spend(&self, cost: usize, mark: Mark) -> bool {
        let before = self.spent.get();
        let after = before.saturating_add(cost as u64);
        self.spent.set(after);
        if before <= MAX_WORK && after > MAX_WORK {
            let message =
                format!("the stack becomes larger than {MAX_WORK} bytes here, which is the most that is read");
            self.report(Severity::Error, mark, String::new(), message, None);
        }
        after <= MAX_WORK
    }

    /// All problems, in the order of files and lines, and what was missing.
    pub(crate) fn finish(self) -> (Vec<Diagnostic>, Missing) {
        let files = self.files.into_inner();
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| {
            (files.iter().position(|file| *file == problem.file), problem.line, problem.column, problem.severity)
        });
        (problems, self.missing.into_inner())
    }
}

/// A text of the file as part of a message: one line, at most 80 characters.
pub(crate) fn clip(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut short: String = text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    short
}
