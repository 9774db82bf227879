//! Temperature, and what a Raspberry Pi's firmware says about power and heat.

use std::path::PathBuf;

use outrigger_protocol::Throttling;

use super::Root;

/// The firmware's register, and where older kernels have it.
const THROTTLED: [&str; 2] =
    ["/sys/devices/platform/soc/soc:firmware/get_throttled", "/sys/devices/platform/firmware/get_throttled"];
/// Sensors beyond this many say nothing that the others do not.
const MAX_SENSORS: usize = 32;

#[derive(Debug)]
pub(super) struct Sensors {
    temperatures: Vec<PathBuf>,
    throttled: Option<PathBuf>,
}

impl Sensors {
    /// Looks for sensors once: they do not come and go.
    pub(super) fn new(root: &Root) -> Self {
        let mut temperatures = thermal_zones(root);
        if temperatures.is_empty() {
            temperatures = hwmon_inputs(root);
        }
        temperatures.truncate(MAX_SENSORS);
        let throttled = THROTTLED.iter().find(|path| root.exists(path)).map(|path| root.path(path));
        Self { temperatures, throttled }
    }

    /// The hottest in tenths of a degree. Sensors that are switched off say impossible things.
    pub(super) fn temperature(&self) -> Option<i16> {
        const POSSIBLE: std::ops::Range<i64> = -50_000..150_000;
        let read = |path: &PathBuf| std::fs::read_to_string(path).ok()?.trim().parse::<i64>().ok();
        let hottest = self.temperatures.iter().filter_map(read).filter(|value| POSSIBLE.contains(value)).max()?;
        i16::try_from(hottest / 100).ok()
    }

    pub(super) fn throttling(&self) -> Option<Throttling> {
        throttling(std::fs::read_to_string(self.throttled.as_ref()?).ok()?.trim())
    }
}

fn thermal_zones(root: &Root) -> Vec<PathBuf> {
    const FOLDER: &str = "/sys/class/thermal";
    let zones = root.names(FOLDER).into_iter().filter(|name| name.starts_with("thermal_zone"));
    zones.map(|name| root.path(&format!("{FOLDER}/{name}/temp"))).collect()
}

fn hwmon_inputs(root: &Root) -> Vec<PathBuf> {
    const FOLDER: &str = "/sys/class/hwmon";
    let mut inputs = Vec::new();
    for chip in root.names(FOLDER) {
        let folder = format!("{FOLDER}/{chip}");
        let names = root.names(&folder).into_iter();
        let temperatures = names.filter(|name| name.starts_with("temp") && name.ends_with("_input"));
        inputs.extend(temperatures.map(|name| root.path(&format!("{folder}/{name}"))));
    }
    inputs
}

/// The register in hexadecimal. Its low four bits are what is wrong now; the high ones say what once was.
fn throttling(text: &str) -> Option<Throttling> {
    let bits = u32::from_str_radix(text.trim_start_matches("0x"), 16).ok()?;
    u8::try_from(bits & 0xf).ok().map(Throttling)
}

#[cfg(test)]
mod tests {
    use super::super::recorded::Recorded;
    use super::*;

    #[test]
    fn only_what_is_wrong_now_counts() {
        assert_eq!(throttling("0x50000"), Some(Throttling(0)));
        assert_eq!(throttling("50005"), Some(Throttling(Throttling::UNDERVOLTAGE | Throttling::THROTTLED)));
        assert_eq!(throttling("what"), None);
    }

    #[test]
    fn the_hottest_sensor_counts_and_broken_ones_do_not() {
        let device = Recorded::new();
        device.write("sys/class/thermal/thermal_zone0/temp", "41000\n");
        device.write("sys/class/thermal/thermal_zone1/temp", "52345\n");
        device.write("sys/class/thermal/thermal_zone2/temp", "-274000\n");
        device.write("sys/class/thermal/cooling_device0/type", "fan");
        device.write("sys/devices/platform/soc/soc:firmware/get_throttled", "1\n");
        let sensors = Sensors::new(&device.root());
        assert_eq!(sensors.temperature(), Some(523));
        assert!(sensors.throttling().is_some_and(Throttling::is_undervoltage));
    }

    #[test]
    fn a_server_has_its_sensors_elsewhere() {
        let device = Recorded::new();
        device.write("sys/class/hwmon/hwmon0/temp1_input", "33000\n");
        device.write("sys/class/hwmon/hwmon0/fan1_input", "90000\n");
        assert_eq!(Sensors::new(&device.root()).temperature(), Some(330));
        assert_eq!(Sensors::new(&Recorded::new().root()).temperature(), None);
    }
}
