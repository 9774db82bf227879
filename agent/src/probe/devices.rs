//! What is attached to the device.

use outrigger_protocol::{AttachedDevice, DeviceKind};

use super::Root;

/// More attached things than this are not told: the hub's message has a limit, and no board has so many.
const MOST: usize = 64;

/// What is attached, by path.
pub(super) fn attached(root: &Root) -> Vec<AttachedDevice> {
    let mut found: Vec<AttachedDevice> = root.names("/dev").iter().filter_map(|name| of_name(name)).collect();
    let render =
        root.names("/dev/dri").into_iter().filter(|name| name.starts_with("card") || name.starts_with("renderD"));
    found.extend(render.map(|name| AttachedDevice { kind: DeviceKind::Render, path: format!("/dev/dri/{name}") }));
    found.truncate(MOST);
    found
}

fn of_name(name: &str) -> Option<AttachedDevice> {
    // A name counts if a number follows: `nvidia0` is a GPU, `nvidia-uvm` is not.
    const KINDS: [(&str, DeviceKind); 8] = [
        ("video", DeviceKind::Video),
        ("ttyUSB", DeviceKind::Serial),
        ("ttyACM", DeviceKind::Serial),
        ("gpiochip", DeviceKind::Gpio),
        ("i2c-", DeviceKind::I2c),
        ("nvidia", DeviceKind::Gpu),
        ("apex_", DeviceKind::Gpu),
        ("hailo", DeviceKind::Gpu),
    ];
    // The interfaces of AMD's and of the Jetsons' compute have no number.
    const WHOLE: [&str; 2] = ["kfd", "nvhost-gpu"];
    let is_number = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
    let numbered = KINDS.into_iter().find(|(beginning, _)| name.strip_prefix(beginning).is_some_and(is_number));
    let kind = numbered.map(|(_, kind)| kind).or_else(|| WHOLE.contains(&name).then_some(DeviceKind::Gpu))?;
    Some(AttachedDevice { kind, path: format!("/dev/{name}") })
}

#[cfg(test)]
mod tests {
    use super::super::recorded::Recorded;
    use super::*;

    #[test]
    fn what_containers_may_ask_for_is_found_and_nothing_else() {
        let device = Recorded::new();
        for name in ["video0", "ttyUSB0", "ttyACM1", "gpiochip0", "i2c-1", "dri/renderD128", "dri/by-path", "nvidia0"] {
            device.write(&format!("dev/{name}"), "");
        }
        for name in ["tty0", "nvidia-uvm", "nvidiactl", "videos", "i2c-", "sda", "null"] {
            device.write(&format!("dev/{name}"), "");
        }
        let found: Vec<String> = attached(&device.root()).into_iter().map(|one| one.path).collect();
        let expected = ["gpiochip0", "i2c-1", "nvidia0", "ttyACM1", "ttyUSB0", "video0", "dri/renderD128"];
        assert_eq!(found, expected.map(|name| format!("/dev/{name}")));
    }
}
