//! A real mosquitto with the configuration that `outrigger-hub broker-config mosquitto` writes: the same rules as those of
//! the embedded broker.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use outrigger_hub::broker::{Account, Answers, External, Happening, Inbox, Outgoing, start_external};
use outrigger_hub::broker_config::{self, Devices, Kind};
use outrigger_hub::pki::{Joined, Newcomer, Pki, Wanted};
use outrigger_hub::store::{Store, Writer, Written};
use outrigger_protocol::{Ask, Channel, DeviceName, DownMessage, Report, SessionNumber, Topic, UpMessage, encode_up};
use outrigger_tests::real::process::Process;
use outrigger_trust::{DeviceKey, Identity, client_config};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use rumqttc::{TlsConfiguration, Transport};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longest that anything here may take on a busy machine.
const SOON: Duration = Duration::from_secs(15);

/// A mosquitto and a hub that uses it.
struct World {
    pki: Pki,
    happenings: mpsc::Receiver<Happening>,
    outgoing: mpsc::Sender<Outgoing>,
    port: u16,
    folder: TempDir,
    _client: External,
    broker: Process,
    _writer: (Writer, mpsc::Receiver<Written>),
}

impl World {
    async fn start() -> Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir()?;
        let state = folder.path().join("hub");
        let mut store = Store::open(&state)?;
        let loaded = store.load()?;
        let writer = Writer::start(store)?;
        let pki = Pki::open(&state, &[], &loaded.side, writer.0.side()).await?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let broker = mosquitto(&folder, &state, port)?;
        let (inbox, happenings) = Inbox::new(Answers::default());
        let (requests, _) = mpsc::channel(8);
        let inbox = inbox.guarded(pki.allow().clone(), requests);
        let (outgoing, to_broker) = mpsc::channel(64);
        let host = "127.0.0.1".to_owned();
        let account = Account { host, port, client_id: "outrigger-hub".to_owned(), login: None, tls: Some(vec![]) };
        let client = start_external(account, Some(pki.clone()), inbox, to_broker);
        let mut world = Self { pki, happenings, outgoing, port, folder, _client: client, broker, _writer: writer };
        while !matches!(world.next().await?, Happening::Up) {}
        Ok(world)
    }

    async fn next(&mut self) -> Result<Happening> {
        timeout(SOON, self.happenings.recv()).await.context("nothing happened")?.context("the link ended")
    }

    async fn heard(&mut self) -> Result<(DeviceName, u32)> {
        match self.next().await? {
            Happening::Heard { device, message: UpMessage::Report(report) } => Ok((device, report.sequence)),
            other => bail!("{other:?} instead of a report"),
        }
    }

    async fn join(&self, name: &str) -> Result<(Joined, DeviceKey)> {
        let wanted =
            Wanted { uses: 1, ttl: Duration::from_secs(60), name: Some(name.parse()?), labels: BTreeMap::new() };
        let now = outrigger_hub::clock::unix_ms();
        let (token, _) = self.pki.invites().make(wanted, self.pki.pin(), "test", now).await?;
        let key = DeviceKey::fresh()?;
        let (token, csr) = (token.reveal(), key.request(name)?);
        let from = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Ok((self.pki.join(Newcomer { token: &token, name: name.parse()?, csr: &csr, from }).await?, key))
    }

    fn dial(&self, id: &str, tls: Arc<rustls::ClientConfig>) -> Client {
        let mut options = MqttOptions::new(id, "127.0.0.1", self.port);
        options.set_keep_alive(Duration::from_secs(5)).set_clean_start(true);
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)));
        Client::dial(options)
    }

    /// Has the broker read rules that name these devices.
    fn reload(&self, devices: &[&str]) -> Result<()> {
        let devices = devices.iter().map(|name| Ok(name.parse()?)).collect::<Result<Vec<DeviceName>>>()?;
        broker_config::write_rules(&self.folder.path().join("broker"), &devices)?;
        self.broker.signal(nix::sys::signal::Signal::SIGHUP)
    }

    async fn say(&self, device: &str) -> Result<()> {
        let message = DownMessage::Ask(Ask::Hello);
        Ok(self.outgoing.send(Outgoing::Send { device: device.parse()?, message }).await?)
    }
}

fn mosquitto(folder: &TempDir, state: &Path, port: u16) -> Result<Process> {
    let at = folder.path().join("broker");
    broker_config::write(Kind::Mosquitto, state, &[], port, &at, Devices::All)?;
    let config = at.join("mosquitto.conf");
    // As root it would become a user who cannot read a test's folder.
    std::fs::write(&config, format!("user root\n{}", std::fs::read_to_string(&config)?))?;
    let program = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto"].into_iter().map(Path::new).find(|path| path.exists());
    let program = program.context("mosquitto is not installed; tests/setup installs it")?;
    Process::start(program, ["-c".as_ref(), config.as_os_str()], &folder.path().join("log"))
}

fn tls(joined: &Joined, key: &DeviceKey) -> Result<Arc<rustls::ClientConfig>> {
    let identity = Identity { chain: joined.chain.clone(), key: key.to_der() };
    Ok(client_config(&joined.authorities, Some(identity), None)?)
}

fn topic(device: &str, channel: Channel) -> Result<String> {
    Ok(Topic::new(&device.parse()?, channel).to_string())
}

struct Client {
    client: AsyncClient,
    packets: mpsc::Receiver<Option<Packet>>,
    task: JoinHandle<()>,
}

impl Client {
    fn dial(options: MqttOptions) -> Self {
        let (client, mut events) = AsyncClient::new(options, 64);
        let (sender, packets) = mpsc::channel(64);
        let task = tokio::spawn(async move {
            loop {
                let packet = match events.poll().await {
                    Ok(Event::Incoming(packet)) => Some(packet),
                    Ok(Event::Outgoing(_)) => continue,
                    Err(_) => None,
                };
                let ended = packet.is_none();
                if sender.send(packet).await.is_err() || ended {
                    return;
                }
            }
        });
        Self { client, packets, task }
    }

    /// The next packet; none at the end of the connection.
    async fn next(&mut self) -> Result<Option<Packet>> {
        timeout(SOON, self.packets.recv()).await.context("no packet came")?.context("the client has ended")
    }

    async fn connected(mut self) -> Result<Self> {
        ensure!(matches!(self.next().await?, Some(Packet::ConnAck(_))), "not let in");
        Ok(self)
    }

    /// Waits until the broker has done what it does with what was said: passed it on, or not.
    async fn acknowledged(&mut self) -> Result<()> {
        while !matches!(self.next().await?.context("thrown out")?, Packet::PubAck(_)) {}
        Ok(())
    }

    async fn report(&self, device: &str, sequence: u32) -> Result<()> {
        let report = UpMessage::Report(Report {
            session: SessionNumber(1),
            sequence,
            statuses: 0,
            held: None,
            load: None,
            usage: vec![],
        });
        Ok(self.client.publish(topic(device, Channel::Report)?, QoS::AtLeastOnce, false, encode_up(&report)?).await?)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_speaks_and_hears_only_as_itself() -> Result<()> {
    let mut world = World::start().await?;
    let ((bad, bad_key), (good, good_key)) = (world.join("bad").await?, world.join("good").await?);
    let mut good = world.dial("good", tls(&good, &good_key)?).connected().await?;
    good.client.subscribe(topic("good", Channel::Ask)?, QoS::AtLeastOnce).await?;
    // Under the client id of the other: it comes in as who it is, and the other is not thrown out.
    let mut bad = world.dial("good", tls(&bad, &bad_key)?).connected().await?;
    for filter in
        [topic("good", Channel::Ask)?, "#".to_owned(), "or/1/+/ask".to_owned(), "$share/x/or/1/+/ask".to_owned()]
    {
        bad.client.subscribe(filter, QoS::AtLeastOnce).await?;
    }
    bad.client.subscribe(topic("bad", Channel::Ask)?, QoS::AtLeastOnce).await?;
    bad.report("good", 1).await?;
    bad.report("bad", 2).await?;
    assert_eq!(world.heard().await?, ("bad".parse()?, 2), "what it said as the other is not heard");
    good.report("good", 3).await?;
    assert_eq!(world.heard().await?, ("good".parse()?, 3));
    world.say("good").await?;
    world.say("bad").await?;
    for (client, own) in [(&mut bad, "bad"), (&mut good, "good")] {
        loop {
            if let Packet::Publish(publish) = client.next().await?.context("thrown out")? {
                break assert_eq!(publish.topic, topic(own, Channel::Ask)?);
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_comes_in_without_a_certificate_and_the_hub_hears_nobody_whom_it_has_removed() -> Result<()> {
    let mut world = World::start().await?;
    let nobody = client_config(&[world.pki.authority()], None, None)?;
    assert!(world.dial("pi", nobody).connected().await.is_err());
    let mut plain = MqttOptions::new("pi", "127.0.0.1", world.port);
    plain.set_keep_alive(Duration::from_secs(5));
    assert!(Client::dial(plain).connected().await.is_err());
    let ((gone, gone_key), (stays, stays_key)) = (world.join("gone").await?, world.join("stays").await?);
    let gone = world.dial("gone", tls(&gone, &gone_key)?).connected().await?;
    let stays = world.dial("stays", tls(&stays, &stays_key)?).connected().await?;
    gone.report("gone", 1).await?;
    assert_eq!(world.heard().await?, ("gone".parse()?, 1));
    world.pki.remove(&"gone".parse()?).await?;
    gone.report("gone", 2).await?;
    stays.report("stays", 3).await?;
    assert_eq!(world.heard().await?, ("stays".parse()?, 3));
    drop(world.folder);
    Ok(())
}

/// The rules name the devices: who was removed has no rights at the broker either, on a connection that is open.
#[tokio::test(flavor = "multi_thread")]
async fn rules_that_name_the_devices_take_a_removed_ones_rights_away() -> Result<()> {
    let mut world = World::start().await?;
    let ((gone, gone_key), (stays, stays_key)) = (world.join("gone").await?, world.join("stays").await?);
    let (gone, stays) = (tls(&gone, &gone_key)?, tls(&stays, &stays_key)?);
    world.reload(&["gone", "stays"])?;
    let mut watcher = world.dial("stays", Arc::clone(&stays)).connected().await?;
    let mut open = world.dial("gone", Arc::clone(&gone)).connected().await?;
    open.report("gone", 1).await?;
    open.acknowledged().await?;
    watcher.report("stays", 2).await?;
    let heard = [world.heard().await?, world.heard().await?];
    assert!(heard.contains(&("gone".parse()?, 1)) && heard.contains(&("stays".parse()?, 2)), "{heard:?}");

    // The hub still has it on its list here, so that what is shown is the broker's doing alone.
    world.reload(&["stays"])?;
    watcher.client.subscribe(topic("stays", Channel::Ask)?, QoS::AtLeastOnce).await?;
    // Until the broker has read its rules, it passes on what the device says.
    let mut sequence = 10;
    loop {
        ensure!(sequence < 1000, "it goes on to be heard");
        sequence += 2;
        open.report("gone", sequence).await?;
        open.acknowledged().await?;
        watcher.report("stays", sequence + 1).await?;
        if world.heard().await? == ("stays".parse()?, sequence + 1) {
            break;
        }
        assert_eq!(world.heard().await?, ("stays".parse()?, sequence + 1));
    }
    world.say("gone").await?;
    world.say("stays").await?;
    let mut again = world.dial("gone", gone).connected().await?;
    again.client.subscribe(topic("gone", Channel::Ask)?, QoS::AtLeastOnce).await?;
    again.report("gone", 98).await?;
    again.acknowledged().await?;
    watcher.report("stays", 99).await?;
    assert_eq!(world.heard().await?, ("stays".parse()?, 99), "a new connection has no rights either");
    loop {
        if let Packet::Publish(publish) = watcher.next().await?.context("thrown out")? {
            break assert_eq!(publish.topic, topic("stays", Channel::Ask)?);
        }
    }
    Ok(())
}
