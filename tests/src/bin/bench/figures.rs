//! What was measured: medians with their range, and how they compare with the floor.

use std::time::Duration;

/// Rows of the table, in the order in which they were measured.
#[derive(Debug, Default)]
pub struct Figures {
    rows: Vec<[String; 5]>,
}

/// Several runs of one thing.
#[derive(Debug, Default)]
pub struct Series(Vec<Duration>);

impl Series {
    /// One more run.
    pub fn add(&mut self, took: Duration) {
        self.0.push(took);
        self.0.sort();
    }

    /// The middle run; of an even number the slower of the two in the middle.
    #[must_use]
    pub fn median(&self) -> Duration {
        self.0.get(self.0.len() / 2).copied().unwrap_or_default()
    }

    fn shown(&self) -> String {
        let seconds = |time: Option<&Duration>| time.map_or(0.0, Duration::as_secs_f64);
        let median = self.median().as_secs_f64();
        format!("{median:.2} s ({:.2}–{:.2}, n={})", seconds(self.0.first()), seconds(self.0.last()), self.0.len())
    }
}

impl Figures {
    /// Something that takes time, beside what the Docker Engine alone takes for it.
    pub fn time(&mut self, what: &str, budget: &str, ours: &Series, floor: Option<&Series>) {
        let versus = floor.map_or_else(String::new, |floor| {
            let (ours, floor) = (ours.median().as_secs_f64(), floor.median().as_secs_f64());
            format!("{:+.2} s, × {:.2}", ours - floor, ours / floor)
        });
        let floor = floor.map_or_else(String::new, Series::shown);
        self.row([what.to_owned(), ours.shown(), floor, versus, budget.to_owned()]);
    }

    /// Something else.
    pub fn other(&mut self, what: &str, budget: &str, ours: String) {
        self.row([what.to_owned(), ours, String::new(), String::new(), budget.to_owned()]);
    }

    fn row(&mut self, row: [String; 5]) {
        eprintln!("{}: {}  {}  {}", row[0], row[1], row[2], row[3]);
        self.rows.push(row);
    }

    /// The table.
    pub fn print(&self) {
        println!("| what | ours, median (range) | Docker Engine alone | difference | budget |");
        println!("| --- | --- | --- | --- | --- |");
        for [what, ours, floor, versus, budget] in &self.rows {
            println!("| {what} | {ours} | {floor} | {versus} | {budget} |");
        }
    }
}
