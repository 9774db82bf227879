//! Whether the engine has a log driver. Asked before a container with an unusual one is made: Docker itself looks for a
//! plugin of that name again and again, for 15 s, before it says that there is none.

use std::path::Path;

use serde::Deserialize;

use super::ask::ask;
use super::{ASK, DockerEngine, EngineError, Flavour};

/// Every Docker Engine has these, and does not have to be asked.
const USUAL: &[&str] = &["json-file", "local", "journald", "syslog", "none", ""];
/// Where plugins of the first kind are found; the engine lists them nowhere.
const PLUGIN_FOLDERS: &[&str] = &["/run/docker/plugins", "/etc/docker/plugins", "/usr/lib/docker/plugins"];

/// The part of `/info` that matters here.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Info {
    plugins: Drivers,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Drivers {
    #[serde(default)]
    log: Vec<String>,
}

/// One of `/plugins`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Plugin {
    name: String,
}

impl DockerEngine {
    /// Refuses a log driver that the engine surely does not have. Where that is not sure, the engine decides.
    pub(super) async fn check_log_driver(&self, driver: &str) -> Result<(), EngineError> {
        if self.config.flavour != Flavour::Docker || USUAL.contains(&driver) || is_in_a_folder(driver) {
            return Ok(());
        }
        let Ok(info) = ask::<Info>(&self.socket, "/info", "describe engine", ASK).await else { return Ok(()) };
        let Ok(plugins) = ask::<Vec<Plugin>>(&self.socket, "/plugins", "list plugins", ASK).await else {
            return Ok(());
        };
        refusal(driver, &info.plugins.log, &plugins).map_or(Ok(()), Err)
    }
}

fn refusal(driver: &str, built_in: &[String], plugins: &[Plugin]) -> Option<EngineError> {
    let is_built_in = built_in.iter().any(|one| one == driver);
    let is_plugin =
        plugins.iter().any(|plugin| plugin.name == driver || plugin.name.strip_suffix(":latest") == Some(driver));
    if is_built_in || is_plugin {
        return None;
    }
    let known = built_in.join(", ");
    let reason = format!("the engine has no log driver `{driver}`, and no plugin of that name; it has {known}");
    Some(EngineError::Refused { reason })
}

fn is_in_a_folder(driver: &str) -> bool {
    PLUGIN_FOLDERS.iter().any(|folder| {
        ["sock", "spec", "json"].iter().any(|kind| {
            let folder = Path::new(folder);
            folder.join(format!("{driver}.{kind}")).exists()
                || folder.join(driver).join(format!("{driver}.{kind}")).exists()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_is_neither_built_in_nor_a_plugin_is_refused_with_those_that_there_are() {
        let built_in = ["json-file".to_owned(), "gelf".to_owned()];
        let plugins = [Plugin { name: "loki:latest".to_owned() }];
        for good in ["gelf", "loki", "loki:latest"] {
            assert_eq!(refusal(good, &built_in, &plugins), None, "{good}");
        }
        let reason = refusal("nope", &built_in, &plugins).unwrap().to_string();
        assert_eq!(reason, "the engine has no log driver `nope`, and no plugin of that name; it has json-file, gelf");
    }
}
