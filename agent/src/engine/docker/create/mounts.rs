//! Volumes, binds and tmpfs.

use bollard::models::{
    Mount as DockerMount, MountTmpfsOptions, MountType, MountVolumeOptions, MountVolumeOptionsDriverConfig,
};
use outrigger_protocol::{Mount, MountKind};

use crate::engine::FileBind;

/// Docker has two ways to say them. Only the old one (`binds`) makes a missing path of a bind in every version, and it
/// cannot say a path with a colon; all others go the new way.
pub(super) fn split(mounts: &[Mount]) -> (Vec<String>, Vec<DockerMount>) {
    let mut binds = Vec::new();
    let mut others = Vec::new();
    for mount in mounts {
        match old_bind(mount) {
            Some(bind) => binds.push(bind),
            None => others.push(new_mount(mount)),
        }
    }
    (binds, others)
}

fn old_bind(mount: &Mount) -> Option<String> {
    let MountKind::Bind { source, create: true } = &mount.kind else { return None };
    if source.contains(':') || mount.target.contains(':') {
        return None;
    }
    let mode = if mount.read_only { ":ro" } else { "" };
    Some(format!("{source}:{}{mode}", mount.target))
}

fn new_mount(mount: &Mount) -> DockerMount {
    let base =
        DockerMount { target: Some(mount.target.clone()), read_only: Some(mount.read_only), ..DockerMount::default() };
    match &mount.kind {
        MountKind::Volume { name, driver, options } => DockerMount {
            typ: Some(MountType::VOLUME),
            source: Some(name.clone()),
            volume_options: driver_options(driver.as_deref(), options),
            ..base
        },
        MountKind::Anonymous => DockerMount { typ: Some(MountType::VOLUME), ..base },
        MountKind::Bind { source, .. } => {
            DockerMount { typ: Some(MountType::BIND), source: Some(source.clone()), ..base }
        }
        MountKind::Tmpfs { size, mode } => DockerMount {
            typ: Some(MountType::TMPFS),
            tmpfs_options: Some(MountTmpfsOptions {
                size_bytes: size.map(|size| super::signed(size.0)),
                mode: mode.map(i64::from),
                options: None,
            }),
            ..base
        },
    }
}

/// A secret or config. The new way refuses a path that is not there, so none is ever made as a folder.
pub(super) fn file(bind: &FileBind) -> DockerMount {
    DockerMount {
        typ: Some(MountType::BIND),
        source: Some(bind.source.display().to_string()),
        target: Some(bind.target.clone()),
        read_only: Some(true),
        ..DockerMount::default()
    }
}

fn driver_options(driver: Option<&str>, options: &[(String, String)]) -> Option<MountVolumeOptions> {
    if driver.is_none() && options.is_empty() {
        return None;
    }
    let driver_config = MountVolumeOptionsDriverConfig {
        name: Some(driver.unwrap_or("local").to_owned()),
        options: Some(options.iter().cloned().collect()),
    };
    Some(MountVolumeOptions { driver_config: Some(driver_config), ..MountVolumeOptions::default() })
}
