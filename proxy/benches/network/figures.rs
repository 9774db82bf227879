//! Medians, and the table of BENCHMARKS.md.

use crate::load::Duel;

/// Of an odd number of values the one in the middle, else the upper of the two.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

pub fn head() {
    println!("| what | ours | HAProxy | ratio | processor time, ours / HAProxy | ratio | budget |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
}

/// Requests per second, and what one costs.
pub fn requests(what: &str, duel: &Duel, budget: &str) {
    let (ours, theirs, ratio) = duel.compare(|sample| sample.requests_per_second);
    let (cpu, their_cpu, cpu_ratio) = duel.compare(|sample| sample.cpu_per_request.as_secs_f64() * 1e6);
    println!(
        "| {what} | {ours:.0}/s | {theirs:.0}/s | × {ratio:.2} | {cpu:.1} / {their_cpu:.1} µs per request | × {cpu_ratio:.2} | {budget} |"
    );
}

/// Bytes per second, and what a GB costs.
pub fn bytes(what: &str, duel: &Duel, budget: &str) {
    let (ours, theirs, ratio) = duel.compare(|sample| sample.bytes_per_second / 1e6);
    let (cpu, their_cpu, cpu_ratio) = duel.compare(|sample| sample.cpu_per_byte * 1e12);
    println!(
        "| {what} | {ours:.0} MB/s | {theirs:.0} MB/s | × {ratio:.2} | {cpu:.0} / {their_cpu:.0} ms per GB | × {cpu_ratio:.2} | {budget} |"
    );
}
