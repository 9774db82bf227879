//! How loaded each device was: the last hour at ten seconds, the last day at a minute. In memory only.
//!
//! A value takes one byte: half a percent, half a degree, or a twelfth of a power of two is finer than anyone reads off a
//! chart, and a device with a full day costs 11 KB. Memory grows as a device's history does.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use outrigger_api::{Dimension, Range, Series};
use outrigger_protocol::{DeviceName, Load, Moment};

/// What is kept, in the order of the bytes of a [`Row`].
const DIMENSIONS: [Dimension; 6] = [
    Dimension::CpuPermille,
    Dimension::MemoryPermille,
    Dimension::DiskPermille,
    Dimension::TemperatureCelsius,
    Dimension::RxKbps,
    Dimension::TxKbps,
];

/// One step of all dimensions.
type Row = [u8; DIMENSIONS.len()];

/// Byte of a value that is not known.
const UNKNOWN: u8 = u8::MAX;
/// Nothing was heard in that step.
const SILENT: Row = [UNKNOWN; DIMENSIONS.len()];

/// The past of all devices. Cheap to clone; all clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Histories {
    devices: Arc<Mutex<HashMap<DeviceName, Past>>>,
}

/// A stretch of one device's past.
#[derive(Debug, PartialEq)]
pub struct Stretch {
    /// Seconds between two values.
    pub step_s: u32,
    /// The moment at which the first step began.
    pub from: Moment,
    /// One for each dimension of which anything is known.
    pub series: Vec<Series>,
}

impl Histories {
    /// Takes note of a device's load. Called at every report, with the load as told last: the mean of a step is over time.
    pub fn record(&self, device: &DeviceName, load: &Load, now: Moment) {
        let mut devices = self.lock();
        if !devices.contains_key(device) {
            devices.insert(device.clone(), Past::new(now));
        }
        if let Some(past) = devices.get_mut(device) {
            let sample = sample(load);
            past.hour.record(&sample, now);
            past.day.record(&sample, now);
        }
    }

    /// Drops the past of a device that is removed.
    pub fn forget(&self, device: &DeviceName) {
        self.lock().remove(device);
    }

    /// How a device's load was, up to the last full step before `now`; none if it was never recorded.
    #[must_use]
    pub fn of(&self, device: &DeviceName, range: Range, now: Moment) -> Option<Stretch> {
        let devices = self.lock();
        let past = devices.get(device)?;
        Some(match range {
            Range::Hour => past.hour.stretch(now),
            Range::Day => past.day.stretch(now),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DeviceName, Past>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Past {
    hour: Ring,
    day: Ring,
}

impl Past {
    fn new(now: Moment) -> Self {
        Self { hour: Ring::new(10, 360, now), day: Ring::new(60, 1440, now) }
    }
}

/// Raw values of one report; none where the device has no such thing.
type Sample = [Option<u32>; DIMENSIONS.len()];

/// Temperatures are kept from -20 °C, so that they are not negative.
const COLDEST_DECI: i16 = -200;

fn sample(load: &Load) -> Sample {
    let temperature = load.temperature.map(|deci| u32::from(deci.saturating_sub(COLDEST_DECI).max(0).unsigned_abs()));
    [
        Some(u32::from(load.cpu.value())),
        Some(u32::from(load.memory.value())),
        Some(u32::from(load.disk.value())),
        temperature,
        Some(load.rx_kbps),
        Some(load.tx_kbps),
    ]
}

/// The rows of the past, the oldest first, and the step that is being gathered.
#[derive(Debug)]
struct Ring {
    step_s: u32,
    capacity: usize,
    rows: VecDeque<Row>,
    /// Number of the step that is being gathered, counted from the clock's origin; `rows` end right before it.
    current: u64,
    sums: [(u64, u32); DIMENSIONS.len()],
}

impl Ring {
    fn new(step_s: u32, capacity: usize, now: Moment) -> Self {
        Self { step_s, capacity, rows: VecDeque::new(), current: step_of(now, step_s), sums: Default::default() }
    }

    fn record(&mut self, sample: &Sample, now: Moment) {
        let step = step_of(now, self.step_s);
        if step > self.current {
            self.push(self.gathered());
            self.sums = Default::default();
            let silent = (step - self.current - 1).min(self.capacity as u64);
            (0..silent).for_each(|_| self.push(SILENT));
            self.current = step;
        }
        for ((sum, count), value) in self.sums.iter_mut().zip(sample) {
            if let Some(value) = value {
                *sum += u64::from(*value);
                *count += 1;
            }
        }
    }

    fn push(&mut self, row: Row) {
        if self.rows.len() == self.capacity {
            self.rows.pop_front();
        } else if self.rows.len() == self.rows.capacity() {
            // In small steps: doubling would cost a third more than ever is used.
            self.rows.reserve_exact((self.capacity / 8).min(self.capacity - self.rows.len()));
        }
        self.rows.push_back(row);
    }

    fn gathered(&self) -> Row {
        let mut row = SILENT;
        for ((byte, dimension), (sum, count)) in row.iter_mut().zip(DIMENSIONS).zip(self.sums) {
            if count > 0 {
                *byte = pack(dimension, sum / u64::from(count));
            }
        }
        row
    }

    fn stretch(&self, now: Moment) -> Stretch {
        let last = step_of(now, self.step_s).max(self.current);
        let mut rows: Vec<Row> = self.rows.iter().copied().collect();
        if last > self.current {
            rows.push(self.gathered());
            let silent = usize::try_from(last - self.current - 1).unwrap_or(usize::MAX).min(self.capacity);
            rows.extend(std::iter::repeat_n(SILENT, silent));
        }
        let rows = &rows[rows.len().saturating_sub(self.capacity)..];
        let from = last.saturating_sub(rows.len() as u64) * u64::from(self.step_s) * 1000;
        Stretch { step_s: self.step_s, from: Moment(from), series: series(rows) }
    }
}

fn series(rows: &[Row]) -> Vec<Series> {
    let column = |index: usize, dimension| Series {
        dimension,
        values: rows.iter().map(|row| unpack(dimension, row[index])).collect(),
    };
    let all = DIMENSIONS.into_iter().enumerate().map(|(index, dimension)| column(index, dimension));
    all.filter(|series| series.values.iter().any(Option::is_some)).collect()
}

fn step_of(now: Moment, step_s: u32) -> u64 {
    now.0 / (u64::from(step_s) * 1000)
}

/// A mean as one byte, 0 to 254.
fn pack(dimension: Dimension, mean: u64) -> u8 {
    let number = match dimension {
        Dimension::CpuPermille | Dimension::MemoryPermille | Dimension::DiskPermille => (mean + 2) / 5,
        Dimension::TemperatureCelsius => (mean + 2) / 5,
        // Logarithmic: 0 is nothing, then eight steps for each doubling; 254 is more than 3 TB/s.
        Dimension::RxKbps | Dimension::TxKbps if mean == 0 => 0,
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a logarithm of at most 64, times 8"
        )]
        Dimension::RxKbps | Dimension::TxKbps => 1 + ((mean as f64).log2() * 8.0).round() as u64,
        Dimension::Other => u64::from(UNKNOWN),
    };
    u8::try_from(number).unwrap_or(UNKNOWN).min(UNKNOWN - 1)
}

fn unpack(dimension: Dimension, byte: u8) -> Option<f64> {
    if byte == UNKNOWN {
        return None;
    }
    let value = f64::from(byte);
    match dimension {
        Dimension::CpuPermille | Dimension::MemoryPermille | Dimension::DiskPermille => Some(value * 5.0),
        Dimension::TemperatureCelsius => Some((value * 5.0 + f64::from(COLDEST_DECI)) / 10.0),
        Dimension::RxKbps | Dimension::TxKbps if byte == 0 => Some(0.0),
        Dimension::RxKbps | Dimension::TxKbps => Some(((value - 1.0) / 8.0).exp2().round()),
        Dimension::Other => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use outrigger_protocol::Permille;

    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment(seconds * 1000)
    }

    fn load(cpu: u16) -> Load {
        Load { cpu: Permille::new(cpu), rx_kbps: 1000, ..Load::default() }
    }

    fn pi() -> DeviceName {
        "pi".parse().unwrap()
    }

    fn values(stretch: &Stretch, dimension: Dimension) -> Vec<Option<f64>> {
        stretch.series.iter().find(|series| series.dimension == dimension).unwrap().values.clone()
    }

    #[test]
    fn a_step_is_the_mean_of_its_reports_and_silence_is_a_gap() {
        let histories = Histories::default();
        for (second, cpu) in [(100, 100), (101, 200), (109, 300), (125, 500)] {
            histories.record(&pi(), &load(cpu), at(second));
        }
        let stretch = histories.of(&pi(), Range::Hour, at(145)).unwrap();
        assert_eq!((stretch.step_s, stretch.from), (10, at(100)));
        assert_eq!(values(&stretch, Dimension::CpuPermille), [Some(200.0), None, Some(500.0), None]);
    }

    #[test]
    fn the_step_under_way_is_not_shown_yet() {
        let histories = Histories::default();
        histories.record(&pi(), &load(100), at(5));
        assert!(histories.of(&pi(), Range::Hour, at(9)).unwrap().series.is_empty());
        assert_eq!(histories.of(&pi(), Range::Hour, at(10)).unwrap().series[0].values.len(), 1);
    }

    #[test]
    fn what_a_device_does_not_have_is_left_out() {
        let histories = Histories::default();
        histories.record(&pi(), &load(100), at(5));
        let stretch = histories.of(&pi(), Range::Hour, at(10)).unwrap();
        assert!(stretch.series.iter().all(|series| series.dimension != Dimension::TemperatureCelsius));
    }

    #[test]
    fn a_history_stays_as_large_as_its_range_whatever_the_gaps() {
        let histories = Histories::default();
        for second in (0..200_000).step_by(7).chain([50_000_000]) {
            histories.record(&pi(), &load(100), at(second));
        }
        let devices = histories.lock();
        let past = &devices[&pi()];
        assert!(past.hour.rows.capacity() <= 360 && past.day.rows.capacity() <= 1440, "{past:?}");
        drop(devices);
        let stretch = histories.of(&pi(), Range::Day, at(50_000_060)).unwrap();
        assert_eq!(stretch.series[0].values.len(), 1440);
        assert_eq!(stretch.from, at(50_000_040) - Duration::from_secs(1440 * 60));
    }

    #[test]
    fn values_survive_packing_within_their_step() {
        for permille in 0..=1000 {
            let back = unpack(Dimension::CpuPermille, pack(Dimension::CpuPermille, permille)).unwrap();
            assert!((back - permille as f64).abs() <= 2.5, "{permille} {back}");
        }
        for deci in -200..=1070_i64 {
            let raw = u64::try_from(deci + 200).unwrap();
            let back = unpack(Dimension::TemperatureCelsius, pack(Dimension::TemperatureCelsius, raw)).unwrap();
            assert!((back * 10.0 - deci as f64).abs() <= 2.6, "{deci} {back}");
        }
        for kbps in [1, 2, 3, 9, 100, 12_345, 10_000_000, 3_000_000_000] {
            let back = unpack(Dimension::RxKbps, pack(Dimension::RxKbps, kbps)).unwrap();
            assert!((back - kbps as f64).abs() <= 0.5 + kbps as f64 * 0.06, "{kbps} {back}");
        }
    }
}
