//! Pulling images, with progress.

use std::collections::HashMap;
use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptions;
use futures_util::StreamExt;
use outrigger_protocol::{Login, Platform, registry_of};
use tokio::sync::watch;

use super::super::{EngineError, PullProgress};
use super::{DockerEngine, failure};

/// Longest silence of a pull. Unpacking a large layer on an SD card is silent for minutes.
const STALL: Duration = Duration::from_secs(600);
/// Layers whose progress is kept; an image has at most 127.
const LAYERS: usize = 512;

impl DockerEngine {
    pub(super) async fn pull_image(
        &self,
        image: &str,
        platform: Option<Platform>,
        login: Option<&Login>,
        progress: &watch::Sender<PullProgress>,
    ) -> Result<String, EngineError> {
        let options = CreateImageOptions {
            from_image: Some(with_tag(image)),
            platform: platform.map(|platform| platform.to_string()).unwrap_or_default(),
            ..CreateImageOptions::default()
        };
        let mut stream = std::pin::pin!(self.client()?.create_image(
            Some(options),
            None,
            login.map(|login| credentials(login, image))
        ));
        let mut layers = Layers::default();
        loop {
            let next = tokio::time::timeout(STALL, stream.next()).await;
            match next.map_err(|_| EngineError::TimedOut { call: "pull image", after: STALL })? {
                None => break,
                Some(Ok(line)) => {
                    layers.apply(line);
                    let sum = layers.sum();
                    progress.send_if_modified(|held| std::mem::replace(held, sum) != sum);
                }
                Some(Err(error)) => return Err(failure::for_pull(failure::of(&error), image)),
            }
        }
        let digest = self.digest_of(image).await?;
        digest.ok_or_else(|| EngineError::PullFailed {
            image: image.to_owned(),
            reason: "the engine says that it has pulled it, and does not have it".to_owned(),
        })
    }
}

/// They go along with this one request; the engine keeps them no longer than that.
fn credentials(login: &Login, image: &str) -> DockerCredentials {
    let registry = registry_of(image);
    // The name by which Docker itself knows its own registry.
    let address = if registry == "docker.io" { "https://index.docker.io/v1/" } else { registry };
    DockerCredentials {
        username: Some(login.username.clone()),
        password: Some(login.password.clone()),
        serveraddress: Some(address.to_owned()),
        ..DockerCredentials::default()
    }
}

/// The image's name without tag and digest.
pub(super) fn repository(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or(image);
    match name.rsplit_once(':') {
        // A colon before the last slash is a registry's port.
        Some((repository, tag)) if !tag.contains('/') => repository,
        Some(_) | None => name,
    }
}

/// Without a tag Docker would pull all of them.
fn with_tag(image: &str) -> String {
    if repository(image) == image { format!("{image}:latest") } else { image.to_owned() }
}

/// Bytes of each layer: arrived, wanted.
#[derive(Debug, Default)]
struct Layers(HashMap<String, (u64, u64)>);

impl Layers {
    fn apply(&mut self, line: CreateImageInfo) {
        let (Some(id), Some(status)) = (line.id, line.status) else { return };
        if self.0.len() >= LAYERS && !self.0.contains_key(&id) {
            return;
        }
        let bytes = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
        let detail = line.progress_detail.unwrap_or_default();
        match status.as_str() {
            "Downloading" => {
                let layer = self.0.entry(id).or_default();
                let done = bytes(detail.current).unwrap_or(layer.0);
                // A layer of unknown size counts as what has arrived.
                *layer = (done, bytes(detail.total).unwrap_or(layer.1).max(done));
            }
            "Download complete" | "Verifying Checksum" | "Extracting" | "Pull complete" => {
                if let Some(layer) = self.0.get_mut(&id) {
                    layer.0 = layer.1;
                }
            }
            _ => {}
        }
    }

    fn sum(&self) -> PullProgress {
        let add = |sum: PullProgress, (done, total): &(u64, u64)| PullProgress {
            done: sum.done.saturating_add(*done),
            total: sum.total.saturating_add(*total),
        };
        self.0.values().fold(PullProgress::default(), add)
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::ProgressDetail;

    use super::*;

    fn line(id: &str, status: &str, current: Option<i64>, total: Option<i64>) -> CreateImageInfo {
        let progress_detail = Some(ProgressDetail { current, total });
        CreateImageInfo {
            id: Some(id.to_owned()),
            status: Some(status.to_owned()),
            progress_detail,
            ..Default::default()
        }
    }

    #[test]
    fn progress_is_the_sum_of_the_layers_and_ends_at_the_whole() {
        let mut layers = Layers::default();
        layers.apply(line("a", "Downloading", Some(10), Some(100)));
        layers.apply(line("b", "Downloading", Some(30), Some(50)));
        layers.apply(line("c", "Already exists", None, None));
        assert_eq!(layers.sum(), PullProgress { done: 40, total: 150 });
        layers.apply(line("a", "Download complete", None, None));
        // Unpacking counts its own bytes; they are not download progress.
        layers.apply(line("b", "Extracting", Some(1), Some(50)));
        assert_eq!(layers.sum(), PullProgress { done: 150, total: 150 });
    }

    #[test]
    fn a_name_without_a_tag_means_latest_and_a_port_is_no_tag() {
        assert_eq!(with_tag("web"), "web:latest");
        assert_eq!(with_tag("registry:5000/web"), "registry:5000/web:latest");
        assert_eq!(with_tag("registry:5000/web:2"), "registry:5000/web:2");
        assert_eq!(with_tag("web@sha256:00"), "web@sha256:00");
        assert_eq!(repository("registry:5000/web:2@sha256:00"), "registry:5000/web");
    }
}
