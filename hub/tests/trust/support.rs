//! An embedded broker that asks everybody who he is, and devices that have joined.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use outrigger_api::Invite;
use outrigger_hub::broker::{Answers, Door, Embedded, Happening, Inbox, Outgoing, start_embedded};
use outrigger_hub::pki::{JoinError, Joined, Newcomer, Pki, Wanted};
use outrigger_hub::store::{Store, Writer, Written};
use outrigger_protocol::{Bye, ByeReason, Channel, DeviceName, Report, SessionNumber, Topic, UpMessage, encode_up};
use outrigger_trust::{CertificateDer, DeviceKey, Identity, Token, client_config};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, Filter, LastWill, Packet, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, MqttOptions};
use rumqttc::{TlsConfiguration, Transport};
use rustls::ClientConfig;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longest that anything here may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(15);
pub const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub struct World {
    pub folder: TempDir,
    pub pki: Pki,
    pub broker: Embedded,
    pub happenings: mpsc::Receiver<Happening>,
    pub outgoing: mpsc::Sender<Outgoing>,
    pub inbox: Inbox,
    writer: Option<Writer>,
    _written: mpsc::Receiver<Written>,
}

/// Opens the store and what proves who is who.
pub async fn open(folder: &Path) -> (Pki, Writer, mpsc::Receiver<Written>) {
    let mut store = Store::open(folder).unwrap();
    let loaded = store.load().unwrap();
    let (writer, written) = Writer::start(store).unwrap();
    let pki = Pki::open(folder, &["hub.test".to_owned()], &loaded.side, writer.side()).await.unwrap();
    (pki, writer, written)
}

impl World {
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0").await
    }

    pub async fn start_at(listen: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let (pki, writer, written) = open(folder.path()).await;
        let (inbox, mut happenings) = Inbox::new(Answers::default());
        let (outgoing, to_broker) = mpsc::channel(64);
        let (requests, requested) = mpsc::channel(64);
        let inbox = inbox.guarded(pki.allow().clone(), requests);
        tokio::spawn(pki.clone().answer(requested, outgoing.clone()));
        let door = Door::Tls(pki.clone());
        let broker = start_embedded(listen.parse().unwrap(), door, inbox.clone(), to_broker).await.unwrap();
        assert!(matches!(happenings.recv().await, Some(Happening::Up)));
        Self { folder, pki, broker, happenings, outgoing, inbox, writer: Some(writer), _written: written }
    }

    pub async fn invite(&self, uses: u32, name: Option<&str>) -> (Token, Invite) {
        let name = name.map(|name| name.parse().unwrap());
        let wanted = Wanted { uses, ttl: Duration::from_secs(60), name, labels: BTreeMap::new() };
        self.pki.invites().make(wanted, self.pki.pin(), "test", 1_800_000_000_000.min(now_ms())).await.unwrap()
    }

    /// A device that has joined.
    pub async fn device(&self, name: &str) -> Device {
        let (token, _) = self.invite(1, Some(name)).await;
        let key = DeviceKey::fresh().unwrap();
        let joined = self.join(&token, name, &key).await.unwrap();
        Device::of(joined, key)
    }

    pub async fn join(&self, token: &Token, name: &str, key: &DeviceKey) -> Result<Joined, JoinError> {
        let text = token.reveal();
        let csr = key.request(name).unwrap();
        self.pki.join(Newcomer { token: &text, name: name.parse().unwrap(), csr: &csr, from: HERE }).await
    }

    pub async fn heard(&mut self) -> (DeviceName, UpMessage) {
        match timeout(SOON, self.happenings.recv()).await.expect("nothing was heard").unwrap() {
            Happening::Heard { device, message } => (device, message),
            other => panic!("{other:?}"),
        }
    }

    /// Closes the store; the folder stays.
    pub async fn close(mut self) -> TempDir {
        self.writer.take().unwrap().finish().await;
        self.folder
    }
}

pub fn now_ms() -> u64 {
    outrigger_hub::clock::unix_ms()
}

/// A device with its identity.
pub struct Device {
    pub name: String,
    pub key: DeviceKey,
    pub chain: Vec<CertificateDer<'static>>,
    pub authorities: Vec<CertificateDer<'static>>,
}

impl Device {
    pub fn of(joined: Joined, key: DeviceKey) -> Self {
        let Joined { device, chain, authorities, .. } = joined;
        Self { name: device.to_string(), key, chain, authorities }
    }

    pub fn tls(&self) -> Arc<ClientConfig> {
        let identity = Identity { chain: self.chain.clone(), key: self.key.to_der() };
        client_config(&self.authorities, Some(identity), None).unwrap()
    }

    /// As it would connect, with its proper will.
    pub fn options(&self, world: &World) -> MqttOptions {
        let mut options = options(world, &self.name, self.tls());
        options.set_last_will(will(&self.name, 1));
        options
    }

    pub async fn connect(&self, world: &World) -> Client {
        let mut client = Client::dial(self.options(world));
        assert_eq!(client.answer().await.unwrap(), ConnectReturnCode::Success, "{}", self.name);
        client
    }
}

pub fn options(world: &World, id: &str, tls: Arc<ClientConfig>) -> MqttOptions {
    let address = world.broker.address;
    let mut options = MqttOptions::new(id, address.ip().to_string(), address.port());
    options.set_keep_alive(Duration::from_secs(5)).set_clean_start(true).set_max_packet_size(Some(16 * 1024 * 1024));
    options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)));
    options
}

pub fn will(device: &str, session: u64) -> LastWill {
    let bye = UpMessage::Bye(Bye { session: SessionNumber(session), reason: ByeReason::Lost });
    LastWill::new(topic(device, Channel::Bye), encode_up(&bye).unwrap(), QoS::AtLeastOnce, false, None)
}

pub fn topic(device: &str, channel: Channel) -> String {
    Topic::new(&device.parse().unwrap(), channel).to_string()
}

pub fn report(sequence: u32) -> Vec<u8> {
    let report = Report { session: SessionNumber(1), sequence, statuses: 0, held: None, load: None, usage: vec![] };
    encode_up(&UpMessage::Report(report)).unwrap()
}

/// A client with its received packets; dropped, its socket closes without a goodbye.
pub struct Client {
    pub client: AsyncClient,
    packets: mpsc::Receiver<Result<Packet, ConnectionError>>,
    task: JoinHandle<()>,
}

impl Client {
    pub fn dial(options: MqttOptions) -> Self {
        let (client, mut events) = AsyncClient::new(options, 64);
        let (sender, packets) = mpsc::channel(1024);
        let task = tokio::spawn(async move {
            loop {
                let packet = match events.poll().await {
                    Ok(Event::Incoming(packet)) => Ok(packet),
                    Ok(Event::Outgoing(_)) => continue,
                    Err(error) => Err(error),
                };
                let ended = packet.is_err();
                if sender.send(packet).await.is_err() || ended {
                    return;
                }
            }
        });
        Self { client, packets, task }
    }

    pub async fn next(&mut self) -> Result<Packet, ConnectionError> {
        timeout(SOON, self.packets.recv()).await.expect("no packet came").expect("the client has ended")
    }

    /// What the broker says to the connection.
    pub async fn answer(&mut self) -> Result<ConnectReturnCode, ConnectionError> {
        match self.next().await {
            Ok(Packet::ConnAck(ack)) => Ok(ack.code),
            Ok(other) => panic!("{other:?}"),
            Err(ConnectionError::ConnectionRefused(code)) => Ok(code),
            Err(error) => Err(error),
        }
    }

    pub async fn subscribed(&mut self, filter: &str) -> SubscribeReasonCode {
        self.client.subscribe_many([Filter::new(filter, QoS::AtLeastOnce)]).await.unwrap();
        loop {
            if let Packet::SubAck(ack) = self.next().await.unwrap() {
                return ack.return_codes[0];
            }
        }
    }

    /// Says something on its own report topic.
    pub async fn report(&self, device: &str, sequence: u32) {
        assert!(self.try_report(device, sequence).await, "the connection has ended");
    }

    /// The same, if there still is a connection; whether there is.
    pub async fn try_report(&self, device: &str, sequence: u32) -> bool {
        let topic = topic(device, Channel::Report);
        self.client.publish(topic, QoS::AtMostOnce, false, report(sequence)).await.is_ok()
    }

    /// Waits for the end; how long that took.
    pub async fn ends(&mut self) -> Duration {
        let began = outrigger_hub::clock::now();
        while self.next().await.is_ok() {}
        outrigger_hub::clock::now().since(began)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}
