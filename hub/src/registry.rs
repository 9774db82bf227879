//! For which platforms an image exists, as its registry says, so that no copy is placed where it cannot run.
//!
//! Only ever a help: what cannot be learnt in time is not known, and never in the way. Registries that want a login are
//! shown the one that was set for them (`outrigger registry login`).

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::manifest::{ImageIndexEntry, OciManifest};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use outrigger_protocol::{Moment, Platform, registry_of};
use serde::Deserialize;
use thiserror::Error;
use tokio::sync::Semaphore;

use crate::clock;
use crate::secrets::Secrets;

/// Longest time that one image is asked about.
pub const WITHIN: Duration = Duration::from_secs(3);
/// How long an answer counts: a tag may get another meaning, and public registries count each question.
const FRESH: Duration = Duration::from_secs(3600);
/// Answers that are kept.
const MAX_KNOWN: usize = 4096;
/// Questions at one time.
const AT_ONCE: usize = 4;
/// Largest configuration of an image that is read: architecture and operating system are in it, with much else.
const MAX_CONFIG: i64 = 4 * 1024 * 1024;

/// Asks registries, and remembers.
#[derive(Debug, Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    plain: Vec<String>,
    known: Mutex<HashMap<String, (Vec<Platform>, Moment)>>,
    slots: Semaphore,
    logins: Option<Secrets>,
}

impl Default for Inner {
    fn default() -> Self {
        Self { plain: Vec::new(), known: Mutex::default(), slots: Semaphore::new(AT_ONCE), logins: None }
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("plain", &self.plain).finish_non_exhaustive()
    }
}

/// Why the platforms of an image are not known.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// No reference to an image.
    #[error("`{0}` names no image")]
    Reference(String),
    /// The registry, or the way to it.
    #[error("its registry says: {0}")]
    Registry(String),
    /// The answer is none that is understood.
    #[error("its registry's answer makes no sense: {0}")]
    Answer(String),
    /// No answer in time.
    #[error("its registry has not answered within {} s", WITHIN.as_secs())]
    Late,
}

/// The part of an image's configuration that matters here.
#[derive(Debug, Deserialize)]
struct ImageConfig {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Registry {
    /// Asks registries over HTTPS, except those named and those on this machine.
    #[must_use]
    pub fn new(plain: Vec<String>) -> Self {
        let inner = Inner { plain, ..Inner::default() };
        Self { inner: Arc::new(inner) }
    }

    /// Shows registries these logins.
    #[must_use]
    pub fn with_logins(self, logins: Secrets) -> Self {
        let inner = Inner { plain: self.inner.plain.clone(), logins: Some(logins), ..Inner::default() };
        Self { inner: Arc::new(inner) }
    }

    fn auth(&self, image: &str) -> RegistryAuth {
        let login = self.inner.logins.as_ref().and_then(|logins| logins.login(registry_of(image)));
        login.map_or(RegistryAuth::Anonymous, |login| RegistryAuth::Basic(login.username, login.password))
    }

    /// Whether the image was asked about not long ago.
    #[must_use]
    pub fn knows(&self, image: &str) -> bool {
        let known = self.inner.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(image).is_some_and(|(_, at)| clock::now().since(*at) < FRESH)
    }

    /// The platforms that each image exists for. An image only for others than we know exists for none.
    pub async fn platforms(&self, images: Vec<String>) -> Vec<(String, Result<Vec<Platform>, RegistryError>)> {
        let clients = Clients::default();
        let asked = images.into_iter().map(|image| async {
            let answer = tokio::time::timeout(WITHIN, self.ask(&clients, &image)).await;
            let platforms = answer.unwrap_or(Err(RegistryError::Late));
            if let Ok(platforms) = &platforms {
                self.remember(&image, platforms);
            }
            (image, platforms)
        });
        futures_util::future::join_all(asked).await
    }

    fn remember(&self, image: &str, platforms: &[Platform]) {
        let mut known = self.inner.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(image.to_owned(), (platforms.to_vec(), clock::now()));
    }

    async fn ask(&self, clients: &Clients, image: &str) -> Result<Vec<Platform>, RegistryError> {
        let reference: Reference = image.parse().map_err(|_| RegistryError::Reference(image.to_owned()))?;
        // Never closed.
        let _slot = self.inner.slots.acquire().await;
        let registry = reference.resolve_registry();
        let is_plain = is_loopback(registry) || self.inner.plain.iter().any(|plain| plain == registry);
        let client = if is_plain { clients.http() } else { clients.https() };
        let answer = client.pull_manifest(&reference, &self.auth(image)).await;
        let (manifest, _) = answer.map_err(|error| RegistryError::Registry(error.to_string()))?;
        match manifest {
            OciManifest::ImageIndex(index) => Ok(of_index(&index.manifests)),
            OciManifest::Image(image) => {
                if image.config.size > MAX_CONFIG {
                    return Err(RegistryError::Answer(format!("a configuration of {} bytes", image.config.size)));
                }
                let mut bytes = Vec::new();
                let read = client.pull_blob(&reference, &image.config, &mut bytes).await;
                read.map_err(|error| RegistryError::Registry(error.to_string()))?;
                let config: ImageConfig =
                    serde_json::from_slice(&bytes).map_err(|error| RegistryError::Answer(error.to_string()))?;
                Ok(platform(&config.os, &config.architecture, config.variant.as_deref()).into_iter().collect())
            }
        }
    }
}

/// Made when first needed and gone with the last answer: the certificates of all authorities are ten megabytes, which a
/// hub that is seldom told of new images need not hold.
#[derive(Default)]
struct Clients {
    http: OnceLock<Client>,
    https: OnceLock<Client>,
}

impl Clients {
    fn http(&self) -> &Client {
        self.http.get_or_init(|| client(ClientProtocol::Http))
    }

    fn https(&self) -> &Client {
        self.https.get_or_init(|| client(ClientProtocol::Https))
    }
}

fn client(protocol: ClientProtocol) -> Client {
    crate::run::install_crypto();
    Client::new(ClientConfig {
        protocol,
        connect_timeout: Some(WITHIN),
        read_timeout: Some(WITHIN),
        user_agent: concat!("outrigger-hub/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    })
}

fn is_loopback(registry: &str) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => registry.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn of_index(entries: &[ImageIndexEntry]) -> Vec<Platform> {
    // Attestations are entries for the platform unknown/unknown, which is none of ours.
    let platforms = entries.iter().filter_map(|entry| entry.platform.as_ref());
    let ours = platforms
        .filter_map(|found| platform(&found.os.to_string(), &found.architecture.to_string(), found.variant.as_deref()));
    ours.collect::<BTreeSet<_>>().into_iter().collect()
}

fn platform(os: &str, architecture: &str, variant: Option<&str>) -> Option<Platform> {
    if os != "linux" {
        return None;
    }
    let variant = variant.filter(|text| !text.is_empty());
    let exact = variant.and_then(|variant| format!("{architecture}/{variant}").parse().ok());
    match architecture {
        // Of these the variant decides what runs it; an unknown one is not guessed.
        "arm" if variant.is_some() => exact,
        _ => exact.or_else(|| architecture.parse().ok()),
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::{StatusCode, Uri, header};
    use serde_json::json;

    use super::*;

    const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    /// What `sha256sum` says of [`CONFIG`].
    const CONFIG_DIGEST: &str = "sha256:78668956a325ee4a2acaadd3a44229dc60269633b310c187e76186f72199f796";
    const CONFIG: &str = r#"{"os":"linux","architecture":"arm","variant":"v6","rootfs":{}}"#;

    /// A registry with an index, a single image, and one that never answers. Its address.
    async fn registry() -> String {
        let entry = |os: &str, architecture: &str, variant: &str| {
            json!({"mediaType": MANIFEST, "digest": DIGEST, "size": 1,
                   "platform": {"os": os, "architecture": architecture, "variant": variant}})
        };
        let entries = [
            entry("linux", "amd64", ""),
            entry("linux", "arm64", "v8"),
            entry("linux", "arm", "v7"),
            entry("linux", "s390x", ""),
            entry("windows", "amd64", ""),
            entry("unknown", "unknown", ""),
        ];
        let config = json!({"mediaType": "application/vnd.oci.image.config.v1+json", "digest": CONFIG_DIGEST,
                            "size": CONFIG.len()});
        let single = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []}).to_string();
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string();
        let answer = move |uri: Uri| async move {
            match uri.path() {
                "/v2/many/manifests/1" => (StatusCode::OK, [(header::CONTENT_TYPE, INDEX)], index.clone()),
                "/v2/one/manifests/1" => (StatusCode::OK, [(header::CONTENT_TYPE, MANIFEST)], single.clone()),
                path if path == format!("/v2/one/blobs/{CONFIG_DIGEST}") => {
                    (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], CONFIG.to_owned())
                }
                "/v2/slow/manifests/1" => std::future::pending().await,
                _ => (StatusCode::NOT_FOUND, [(header::CONTENT_TYPE, "application/json")], "{}".to_owned()),
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        address.to_string()
    }

    async fn ask(registry: &Registry, image: &str) -> Result<Vec<Platform>, RegistryError> {
        registry.platforms(vec![image.to_owned()]).await.remove(0).1
    }

    #[tokio::test]
    async fn an_index_names_the_platforms_that_we_know() {
        let image = format!("{}/many:1", registry().await);
        let asker = Registry::new(vec![]);
        assert!(!asker.knows(&image));
        let found = ask(&asker, &image).await.unwrap();
        let platforms: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(platforms, ["linux/amd64", "linux/arm64", "linux/arm/v7"]);
        assert!(asker.knows(&image));
    }

    #[tokio::test]
    async fn an_image_for_one_platform_says_so_in_its_configuration() {
        let platforms = ask(&Registry::new(vec![]), &format!("{}/one:1", registry().await)).await.unwrap();
        assert_eq!(platforms, ["linux/arm/v6".parse().unwrap()]);
    }

    #[tokio::test]
    async fn what_cannot_be_learnt_is_an_error_in_time() {
        let address = registry().await;
        let asker = Registry::new(vec![]);
        let gone = ask(&asker, &format!("{address}/none:1")).await;
        assert!(matches!(gone, Err(RegistryError::Registry(_))), "{gone:?}");
        assert!(ask(&asker, &format!("{address}/slow:1")).await.is_err());
        assert!(matches!(ask(&asker, "Not/An Image").await, Err(RegistryError::Reference(_))));
    }

    #[test]
    fn a_variant_of_arm_is_never_guessed() {
        let named = |os, arch, variant| platform(os, arch, variant).map(|platform| platform.to_string());
        assert_eq!(named("linux", "arm", Some("v6")).as_deref(), Some("linux/arm/v6"));
        assert_eq!(named("linux", "arm", None).as_deref(), Some("linux/arm/v7"));
        assert_eq!(named("linux", "arm", Some("v5")), None);
        assert_eq!(named("linux", "amd64", Some("v2")).as_deref(), Some("linux/amd64"));
        assert_eq!(named("windows", "amd64", None), None);
    }

    #[test]
    fn only_this_machine_is_asked_in_plain() {
        for plain in ["localhost:5000", "127.0.0.1:5000", "[::1]:5000", "localhost"] {
            assert!(is_loopback(plain), "{plain}");
        }
        for other in ["localhost.example:5000", "10.0.0.1", "index.docker.io", "127.0.0.1.example"] {
            assert!(!is_loopback(other), "{other}");
        }
    }
}
