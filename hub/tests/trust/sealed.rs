//! Secrets on their way to devices: to whoever runs what needs them, and to nobody else.

use outrigger_hub::run::Running;
use outrigger_hub::secrets::{Content, New, Shelf};
use outrigger_planner::Wish;
use outrigger_protocol::{
    Channel, DownMessage, FileKind, FileRef, Item, SealedContent, Unseal, UpMessage, decode_down, encode_up,
    sealed_context,
};
use outrigger_trust::{DeviceKey, ReaderKey};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;

use super::support::{Client, now_ms, topic};
use super::whole::{hub, joined_with, online};

const CANARY: &[u8] = b"hunter2-canary";

async fn kept(hub: &Running) -> FileRef {
    let content = Content(CANARY.to_vec().into());
    let new = New {
        shelf: Shelf::Files(FileKind::Secret),
        name: "db",
        content: &content,
        stack: None,
        about: "",
        by: "test",
        now_unix_ms: now_ms(),
    };
    let version = hub.handle().secrets().set(new).await.unwrap();
    FileRef { kind: FileKind::Secret, name: "db".parse().unwrap(), version }
}

/// A stack whose one copy runs on `pi-1` with this secret.
async fn apply(hub: &Running, file: &FileRef) {
    let text = "name: shop\nservices:\n  web:\n    image: nginx:1\n    secrets: [db]\n    deploy:\n      placement: { \
                constraints: [node.hostname == pi-1] }\nsecrets: { db: { external: true } }\n";
    let sources = outrigger_compose::Sources::of("c.yaml", text);
    let mut stack = outrigger_compose::load(None, &sources).stack.unwrap();
    stack.services[0].container.files[0].file = file.clone();
    hub.handle().wish(Wish::Apply { stack, applied_unix_ms: None }).await.unwrap();
}

async fn heard(client: &mut Client, channel: Channel) -> (DownMessage, Vec<u8>) {
    loop {
        if let Packet::Publish(publish) = client.next().await.unwrap()
            && std::str::from_utf8(&publish.topic).unwrap().ends_with(match channel {
                Channel::Want => "/want",
                _ => "/sealed",
            })
        {
            return (decode_down(channel, &publish.payload).unwrap(), publish.payload.to_vec());
        }
    }
}

/// Asks as `device`, signed with this key, and returns what comes, opened.
async fn ask(client: &mut Client, device: &str, signer: Option<&DeviceKey>, item: Item) -> Result<Vec<u8>, String> {
    let (reader, request) = (ReaderKey::fresh().unwrap(), 7);
    let context = sealed_context(&device.parse().unwrap(), request, &item);
    let signed = [context.as_slice(), &reader.public()].concat();
    let question = Unseal {
        request,
        item,
        to: reader.public(),
        signer: signer.map(DeviceKey::point).unwrap_or_default(),
        signature: signer.map(|key| key.sign(&signed).unwrap()).unwrap_or_default(),
    };
    let bytes = encode_up(&UpMessage::Unseal(Box::new(question))).unwrap();
    client.client.publish(topic(device, Channel::Unseal), QoS::AtLeastOnce, false, bytes).await.unwrap();
    let (message, raw) = heard(client, Channel::Sealed).await;
    assert!(!raw.windows(CANARY.len()).any(|window| window == CANARY), "it goes over the wire encrypted");
    let DownMessage::Sealed(sealed) = message else { panic!("{message:?}") };
    match sealed.content {
        SealedContent::Here { from, bytes } => Ok(reader.open(&context, &from, &bytes).unwrap().to_vec()),
        SealedContent::Withheld(why) => Err(why),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_goes_to_the_device_that_runs_what_needs_it_and_to_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let hub = hub(&folder).await;
    let file = kept(&hub).await;
    let (options, key) = joined_with(&hub, "pi-1").await;
    let mut one = online(&hub, "pi-1", options).await;
    let (options, other_key) = joined_with(&hub, "pi-2").await;
    let mut two = online(&hub, "pi-2", options).await;
    apply(&hub, &file).await;
    loop {
        let (DownMessage::Want(want), raw) = heard(&mut one, Channel::Want).await else { panic!() };
        assert!(!raw.windows(CANARY.len()).any(|window| window == CANARY), "an assignment says which, not what");
        if !want.replicas.is_empty() {
            break;
        }
    }
    one.subscribed(&topic("pi-1", Channel::Sealed)).await;
    two.subscribed(&topic("pi-2", Channel::Sealed)).await;
    let secret = || Item::File(file.clone());
    assert_eq!(ask(&mut one, "pi-1", Some(&key), secret()).await.as_deref(), Ok(CANARY));
    let refused = |answer: Result<Vec<u8>, String>, words: &str| {
        let why = answer.expect_err("it was given");
        assert!(why.contains(words), "{why}");
    };
    // Another device, also with its own good key; whoever carries messages and puts in a key of his own; nobody at all.
    refused(ask(&mut two, "pi-2", Some(&other_key), secret()).await, "nothing that this device is to run");
    refused(ask(&mut one, "pi-1", Some(&other_key), secret()).await, "not signed");
    refused(ask(&mut one, "pi-1", Some(&DeviceKey::fresh().unwrap()), secret()).await, "not signed");
    refused(ask(&mut one, "pi-1", None, secret()).await, "not signed");
    // Other versions, other kinds, and logins of registries that nothing here comes from.
    let older = FileRef { version: file.version - 1, ..file.clone() };
    refused(ask(&mut one, "pi-1", Some(&key), Item::File(older)).await, "nothing that this device is to run");
    let config = FileRef { kind: FileKind::Config, ..file.clone() };
    refused(ask(&mut one, "pi-1", Some(&key), Item::File(config)).await, "nothing that this device is to run");
    refused(
        ask(&mut one, "pi-1", Some(&key), Item::Login("hub.lan".into())).await,
        "nothing that this device is to run",
    );
    refused(ask(&mut one, "pi-1", Some(&key), Item::Login("docker.io".into())).await, "there is no login");
    hub.stop().await;
}
