//! How much passes at full load: wrk against each subject in turn.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::figures::median;
use crate::place::Place;
use crate::program::Program;

/// Seconds of one measurement.
const SPAN: u64 = 2;

/// Somebody who leads to the copy.
pub struct Subject<'a> {
    /// Where clients connect.
    pub address: &'a str,
    /// Whose processor time counts.
    pub programs: Vec<&'a Program>,
}

/// What clients ask for.
#[derive(Clone, Copy)]
pub struct Load {
    pub path: &'static str,
    pub connections: usize,
    pub is_kept_alive: bool,
}

/// One measurement.
#[derive(Clone, Copy)]
pub struct Sample {
    pub requests_per_second: f64,
    pub bytes_per_second: f64,
    /// Of all proxies on the way.
    pub cpu_per_request: Duration,
    pub cpu_per_byte: f64,
}

impl Load {
    /// Each subject once.
    pub fn measure(self, place: &Place, cpu: usize, subject: &Subject<'_>) -> Result<Sample> {
        let (connections, span) = (self.connections.to_string(), format!("{SPAN}s"));
        let url = format!("http://{}{}", subject.address, self.path);
        let mut arguments = vec!["-t1", "-c", &connections, "-d", &span, "--timeout", "10s"];
        if !self.is_kept_alive {
            arguments.extend(["-H", "Connection: close"]);
        }
        arguments.push(&url);
        let before = subject.cpu()?;
        let output = place.run(cpu, "wrk", &arguments)?;
        let cpu = subject.cpu()?.saturating_sub(before);
        let sample = read(&output, cpu);
        sample.with_context(|| format!("wrk {} says:\n{output}", arguments.join(" ")))
    }
}

impl Subject<'_> {
    fn cpu(&self) -> Result<Duration> {
        self.programs.iter().map(|program| program.cpu()).sum()
    }
}

/// `  20410 requests in 1.00s, 3.93MB read`, and nothing that went wrong.
fn read(output: &str, cpu: Duration) -> Option<Sample> {
    if output.contains("Socket errors") || output.contains("Non-2xx") {
        return None;
    }
    let line = output.lines().find(|line| line.contains(" requests in "))?;
    let mut words = line.split_whitespace();
    let requests: f64 = words.next()?.parse().ok()?;
    let seconds: f64 = words.nth(2)?.trim_end_matches([',', 's']).parse().ok()?;
    let bytes = bytes(words.next()?)?;
    let cpu_per_request = cpu.div_f64(requests.max(1.0));
    let cpu_per_byte = cpu.as_secs_f64() / bytes;
    Some(Sample {
        requests_per_second: requests / seconds,
        bytes_per_second: bytes / seconds,
        cpu_per_request,
        cpu_per_byte,
    })
}

/// `3.93MB`, as wrk writes it: in powers of 1024.
fn bytes(text: &str) -> Option<f64> {
    let units = [("GB", 1024_f64.powi(3)), ("MB", 1024_f64.powi(2)), ("KB", 1024.0), ("B", 1.0)];
    units.iter().find_map(|(unit, size)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * size))
}

/// The same load on both, in turns.
pub struct Duel {
    pub ours: Vec<Sample>,
    pub theirs: Vec<Sample>,
}

impl Duel {
    pub fn run(
        rounds: usize,
        load: Load,
        place: &Place,
        cpu: usize,
        ours: &Subject<'_>,
        theirs: &Subject<'_>,
    ) -> Result<Self> {
        let mut duel = Self { ours: vec![], theirs: vec![] };
        for round in 0..rounds {
            let one = |subject, samples: &mut Vec<Sample>| -> Result<()> {
                samples.push(load.measure(place, cpu, subject)?);
                Ok(())
            };
            // Who is first has whatever the other has left behind.
            if round % 2 == 0 {
                one(ours, &mut duel.ours)?;
                one(theirs, &mut duel.theirs)?;
            } else {
                one(theirs, &mut duel.theirs)?;
                one(ours, &mut duel.ours)?;
            }
        }
        Ok(duel)
    }

    /// The median of both, and of what ours is to theirs, round by round.
    pub fn compare(&self, value: impl Fn(&Sample) -> f64) -> (f64, f64, f64) {
        let ours: Vec<_> = self.ours.iter().map(&value).collect();
        let theirs: Vec<_> = self.theirs.iter().map(&value).collect();
        let ratios = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
        (median(ours), median(theirs), median(ratios))
    }
}
