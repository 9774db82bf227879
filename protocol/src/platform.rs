//! Processor architectures and platforms as OCI images name them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A processor architecture with its variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Arch {
    /// `amd64`
    Amd64,
    /// `arm64` (also written `arm64/v8`, `aarch64`)
    Arm64,
    /// `arm/v7`: hard float, Raspberry Pi 2 and later
    ArmV7,
    /// `arm/v6`: Raspberry Pi 1 and Zero
    ArmV6,
    /// `riscv64`
    Riscv64,
    /// `386`
    I386,
}

impl Arch {
    /// Whether every device of this architecture runs images built for `image`. Some 64-bit ARM processors run 32-bit
    /// images and some do not, so a device that does says so itself ([`crate::Facts::also_runs`]).
    #[must_use]
    pub fn runs(self, image: Self) -> bool {
        match self {
            Self::Amd64 => matches!(image, Self::Amd64 | Self::I386),
            Self::ArmV7 => matches!(image, Self::ArmV7 | Self::ArmV6),
            Self::Arm64 | Self::ArmV6 | Self::Riscv64 | Self::I386 => image == self,
        }
    }
}

/// A text that names no platform that we know.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{text}` is no platform that can be used here; known are linux/amd64, linux/arm64, linux/arm/v7, linux/arm/v6, linux/riscv64 and linux/386"
)]
pub struct PlatformError {
    /// The refused text.
    pub text: String,
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
            Self::ArmV7 => "arm/v7",
            Self::ArmV6 => "arm/v6",
            Self::Riscv64 => "riscv64",
            Self::I386 => "386",
        })
    }
}

impl FromStr for Arch {
    type Err = PlatformError;
    /// Takes OCI's names and those of `uname -m`. `arm` alone means v7, as Docker has it.
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        match text {
            "amd64" | "x86_64" | "x86-64" => Ok(Self::Amd64),
            "arm64" | "arm64/v8" | "aarch64" => Ok(Self::Arm64),
            "arm" | "arm/v7" | "arm/7" | "armv7l" | "armhf" => Ok(Self::ArmV7),
            "arm/v6" | "arm/6" | "armv6l" | "armel" => Ok(Self::ArmV6),
            "riscv64" => Ok(Self::Riscv64),
            "386" | "i386" | "i686" => Ok(Self::I386),
            _ => Err(PlatformError { text: text.chars().take(80).collect() }),
        }
    }
}

/// Operating system and architecture of an image, written `linux/arm/v7`. Only Linux is known.
///
/// ```
/// use outrigger_protocol::Platform;
/// let platform: Platform = "linux/arm64/v8".parse().unwrap();
/// assert_eq!(platform.to_string(), "linux/arm64");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// The architecture.
    pub arch: Arch,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "linux/{}", self.arch)
    }
}

impl FromStr for Platform {
    type Err = PlatformError;
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let arch = text.strip_prefix("linux/").unwrap_or(text);
        arch.parse().map(|arch| Self { arch }).map_err(|_| PlatformError { text: text.chars().take(80).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arm_board_runs_what_older_ones_do_and_never_the_reverse() {
        assert!(Arch::ArmV7.runs(Arch::ArmV6));
        assert!(!Arch::ArmV6.runs(Arch::ArmV7));
        assert!(!Arch::Amd64.runs(Arch::Arm64));
    }

    #[test]
    fn other_systems_are_refused_by_name() {
        assert!("windows/amd64".parse::<Platform>().unwrap_err().to_string().contains("windows/amd64"));
    }
}
