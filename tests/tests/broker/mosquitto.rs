//! The hub with an external broker: a real mosquitto, which dies, freezes and comes back.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use outrigger_hub::broker::{Account, Answers, External, Happening, Inbox, Outgoing, start_external};
use outrigger_protocol::{
    Assignment, Bye, ByeReason, Channel, DeviceName, DownMessage, Generation, Report, SessionNumber, Stamp, Topic,
    UpMessage, decode_down, encode_up,
};
use outrigger_tests::real::process::Process;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{LastWill, Packet};
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longest that anything here may take on a busy machine.
const SOON: Duration = Duration::from_secs(15);

/// A broker with a port of its own.
struct Mosquitto {
    process: Option<Process>,
    folder: TempDir,
    port: u16,
}

impl Mosquitto {
    fn start() -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut broker = Self { process: None, folder: tempfile::tempdir()?, port };
        let config = format!("listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n");
        std::fs::write(broker.folder.path().join("conf"), config)?;
        broker.again()?;
        Ok(broker)
    }

    fn again(&mut self) -> Result<()> {
        let config = self.folder.path().join("conf");
        let words = ["-c".as_ref(), config.as_os_str()];
        let program =
            ["/usr/sbin/mosquitto", "/usr/bin/mosquitto"].into_iter().map(Path::new).find(|path| path.exists());
        let program = program.context("mosquitto is not installed; tests/setup installs it")?;
        self.process = Some(Process::start(program, words, &self.folder.path().join("log"))?);
        Ok(())
    }

    fn kill(&mut self) -> Result<()> {
        self.process.take().context("it does not run")?.kill()
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        self.process.as_ref().context("it does not run")?.signal(signal)
    }
}

/// The hub's side of the link.
struct Hub {
    happenings: mpsc::Receiver<Happening>,
    outgoing: mpsc::Sender<Outgoing>,
    _client: External,
}

impl Hub {
    fn start(port: u16) -> Self {
        let (inbox, happenings) = Inbox::new(Answers::default());
        let (outgoing, to_broker) = mpsc::channel(64);
        let account = Account {
            host: "127.0.0.1".to_owned(),
            port,
            client_id: "outrigger-hub".to_owned(),
            login: None,
            tls: None,
        };
        Self { happenings, outgoing, _client: start_external(account, None, inbox, to_broker) }
    }

    async fn next(&mut self) -> Result<Happening> {
        timeout(SOON, self.happenings.recv()).await.context("nothing happened")?.context("the link ended")
    }

    async fn up(&mut self) -> Result<()> {
        loop {
            match self.next().await? {
                Happening::Up => return Ok(()),
                Happening::Down { .. } => (),
                other => bail!("{other:?} instead of up"),
            }
        }
    }

    async fn down(&mut self) -> Result<String> {
        loop {
            match self.next().await? {
                Happening::Down { reason } => return Ok(reason),
                Happening::Heard { .. } => (),
                other => bail!("{other:?} instead of down"),
            }
        }
    }

    async fn heard(&mut self) -> Result<(DeviceName, UpMessage)> {
        match self.next().await? {
            Happening::Heard { device, message } => Ok((device, message)),
            other => bail!("{other:?} instead of a message"),
        }
    }

    async fn publish(&self, device: &DeviceName, generation: u64) -> Result<()> {
        let stamp = Stamp { generation: Generation(generation), ..Stamp::default() };
        let message = DownMessage::Want(Assignment { stamp, ..Assignment::default() });
        Ok(self.outgoing.send(Outgoing::Send { device: device.clone(), message }).await?)
    }
}

/// A device, as the broker sees one. Dropped, its connection breaks.
struct Device {
    name: DeviceName,
    client: AsyncClient,
    received: mpsc::Receiver<Packet>,
    task: JoinHandle<()>,
}

impl Drop for Device {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Device {
    async fn connect(port: u16, name: &str) -> Result<Self> {
        let name: DeviceName = name.parse()?;
        let mut options = MqttOptions::new(name.as_str(), "127.0.0.1", port);
        let will = encode_up(&UpMessage::Bye(Bye { session: SessionNumber(7), reason: ByeReason::Lost }))?;
        let topic = Topic::new(&name, Channel::Bye).to_string();
        options.set_last_will(LastWill::new(topic, will, QoS::AtLeastOnce, false, None));
        options.set_keep_alive(Duration::from_secs(5)).set_max_packet_size(Some(16 * 1024 * 1024));
        let (client, mut events) = AsyncClient::new(options, 16);
        let (sender, received) = mpsc::channel(16);
        let task = tokio::spawn(async move {
            while let Ok(event) = events.poll().await {
                if let Event::Incoming(packet) = event
                    && sender.send(packet).await.is_err()
                {
                    return;
                }
            }
        });
        let mut device = Self { name, client, received, task };
        let want = Topic::new(&device.name, Channel::Want).to_string();
        device.client.subscribe(want, QoS::AtLeastOnce).await?;
        while !matches!(device.packet().await?, Packet::SubAck(_)) {}
        Ok(device)
    }

    async fn packet(&mut self) -> Result<Packet> {
        timeout(SOON, self.received.recv()).await.context("no packet came")?.context("the connection broke")
    }

    async fn say(&self, message: &UpMessage) -> Result<()> {
        let topic = Topic::new(&self.name, message.channel()).to_string();
        Ok(self.client.publish(topic, QoS::AtMostOnce, false, encode_up(message)?).await?)
    }

    async fn wanted(&mut self) -> Result<u64> {
        loop {
            if let Packet::Publish(publish) = self.packet().await?
                && let DownMessage::Want(assignment) = decode_down(Channel::Want, &publish.payload)?
            {
                return Ok(assignment.stamp.generation.0);
            }
        }
    }
}

fn report(sequence: u32) -> UpMessage {
    UpMessage::Report(Report {
        session: SessionNumber(7),
        sequence,
        statuses: 0,
        held: None,
        load: None,
        usage: vec![],
    })
}

#[tokio::test]
async fn a_device_is_heard_and_finds_its_assignment_through_mosquitto() -> Result<()> {
    let broker = Mosquitto::start()?;
    let mut hub = Hub::start(broker.port);
    hub.up().await?;
    hub.publish(&"pi".parse()?, 3).await?;
    let mut pi = Device::connect(broker.port, "pi").await?;
    assert_eq!(pi.wanted().await?, 3);
    pi.say(&report(1)).await?;
    assert_eq!(hub.heard().await?, (pi.name.clone(), report(1)));
    let name = pi.name.clone();
    drop(pi);
    let lost = UpMessage::Bye(Bye { session: SessionNumber(7), reason: ByeReason::Lost });
    assert_eq!(hub.heard().await?, (name, lost));
    Ok(())
}

#[tokio::test]
async fn a_broker_that_dies_is_told_and_so_is_its_return() -> Result<()> {
    let mut broker = Mosquitto::start()?;
    let mut hub = Hub::start(broker.port);
    hub.up().await?;
    broker.kill()?;
    hub.down().await?;
    hub.publish(&"pi".parse()?, 3).await?;
    broker.again()?;
    hub.up().await?;
    hub.publish(&"pi".parse()?, 4).await?;
    let mut pi = Device::connect(broker.port, "pi").await?;
    assert_eq!(pi.wanted().await?, 4, "what was said while it was down is not said late");
    pi.say(&report(9)).await?;
    assert_eq!(hub.heard().await?.1, report(9), "the hub subscribes again by itself");
    Ok(())
}

#[tokio::test]
async fn a_broker_that_freezes_is_noticed_before_a_device_counts_as_lost() -> Result<()> {
    let broker = Mosquitto::start()?;
    let mut hub = Hub::start(broker.port);
    hub.up().await?;
    broker.signal(Signal::SIGSTOP)?;
    let noticed = timeout(Duration::from_secs(4), hub.down()).await;
    broker.signal(Signal::SIGCONT)?;
    noticed.context("it was not noticed within 4 s")??;
    hub.up().await
}

#[tokio::test]
async fn what_the_broker_keeps_for_devices_is_told_so_that_ghosts_can_be_cleared() -> Result<()> {
    let broker = Mosquitto::start()?;
    let mut first = Hub::start(broker.port);
    first.up().await?;
    first.publish(&"ghost".parse()?, 1).await?;
    let mut ghost = Device::connect(broker.port, "ghost").await?;
    assert_eq!(ghost.wanted().await?, 1);
    drop(first);
    let mut second = Hub::start(broker.port);
    let kept = loop {
        match second.next().await? {
            Happening::Kept { device } => break device,
            Happening::Up | Happening::Down { .. } => (),
            other => bail!("{other:?}"),
        }
    };
    second.outgoing.send(Outgoing::Clear { device: kept }).await?;
    loop {
        if let Packet::Publish(publish) = ghost.packet().await? {
            assert!(publish.payload.is_empty());
            return Ok(());
        }
    }
}
