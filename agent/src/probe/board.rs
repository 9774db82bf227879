//! The board's name, from the device tree or from the firmware of a PC.

use super::Root;

pub(super) fn board(root: &Root) -> Option<String> {
    let tree = ["/proc/device-tree/model", "/sys/firmware/devicetree/base/model"];
    tree.iter().find_map(|path| root.read(path)).filter(|model| !model.is_empty()).or_else(|| pc(root))
}

fn pc(root: &Root) -> Option<String> {
    let field = |name: &str| root.read(&format!("/sys/class/dmi/id/{name}")).filter(|text| !is_placeholder(text));
    match (field("sys_vendor"), field("product_name")) {
        (Some(vendor), Some(product)) => Some(format!("{vendor} {product}")),
        (None, Some(product)) => Some(product),
        // The maker of a bare mainboard says nothing about the system.
        (_, None) => match (field("board_vendor"), field("board_name")) {
            (Some(vendor), Some(name)) => Some(format!("{vendor} {name}")),
            (_, name) => name,
        },
    }
}

fn is_placeholder(text: &str) -> bool {
    const PLACEHOLDERS: [&str; 5] = ["", "to be filled by o.e.m.", "default string", "system product name", "none"];
    PLACEHOLDERS.contains(&text.to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::super::recorded::Recorded;
    use super::*;

    #[test]
    fn a_raspberry_pi_is_known_by_its_device_tree() {
        let device = Recorded::new();
        assert_eq!(board(&device.root()), None);
        device.write("proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0");
        assert_eq!(board(&device.root()).as_deref(), Some("Raspberry Pi 4 Model B Rev 1.4"));
    }

    #[test]
    fn a_pc_is_known_by_its_firmware_unless_that_says_nothing() {
        let device = Recorded::new();
        device.write("sys/class/dmi/id/sys_vendor", "Default string\n");
        device.write("sys/class/dmi/id/product_name", "To Be Filled By O.E.M.\n");
        device.write("sys/class/dmi/id/board_vendor", "ASRock\n");
        device.write("sys/class/dmi/id/board_name", "N100DC-ITX\n");
        assert_eq!(board(&device.root()).as_deref(), Some("ASRock N100DC-ITX"));
        device.write("sys/class/dmi/id/product_name", "NUC7i5BNH\n");
        assert_eq!(board(&device.root()).as_deref(), Some("NUC7i5BNH"));
    }
}
