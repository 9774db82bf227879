//! Changes to bytes, of the kinds that parsers stumble over.

use fastrand::Rng;

/// Most changes made to one input.
const CHANGES: usize = 6;

/// A new input from one of these, never larger than `largest`.
#[must_use]
pub fn mutate(random: &mut Rng, pool: &[Vec<u8>], words: &[&'static [u8]], largest: usize) -> Vec<u8> {
    let mut bytes = random.choice(pool).cloned().unwrap_or_default();
    for _ in 0..random.usize(1..=CHANGES) {
        change(random, &mut bytes, pool, words);
    }
    bytes.truncate(largest);
    bytes
}

fn change(random: &mut Rng, bytes: &mut Vec<u8>, pool: &[Vec<u8>], words: &[&'static [u8]]) {
    let at = random.usize(0..=bytes.len());
    let until = random.usize(at..=bytes.len()).min(at + 64);
    match random.u8(0..9) {
        0 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.u8(0..8)),
        1 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = random.u8(..)),
        2 => bytes.truncate(at),
        3 => {
            bytes.drain(at..until);
        }
        // A part again and again: nesting, long lists, long names.
        4 => {
            let part = bytes[at..until].to_vec();
            let times = 1 << random.u8(0..8);
            bytes.splice(at..at, part.repeat(times));
        }
        5 => {
            let word = random.choice(words).copied().unwrap_or_default();
            bytes.splice(at..at, word.iter().copied());
        }
        6 => {
            let word = random.choice(words).copied().unwrap_or_default();
            bytes.splice(at..until, word.iter().copied());
        }
        // The end of another input.
        7 => {
            let other = random.choice(pool).map(Vec::as_slice).unwrap_or_default();
            bytes.truncate(at);
            bytes.extend(&other[random.usize(0..=other.len())..]);
        }
        _ => {
            let number = random.choice([0, 1, 0x7f, 0x80, 0xff]).unwrap_or_default();
            bytes.splice(at..until, [number; 4]);
        }
    }
}
