//! Our proxy as it ships, told what to do through its control socket as the agent does.

use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use outrigger_protocol::{
    Endpoint, EndpointState, IngressPort, Peer, PlacementId, PortProtocol, Routes, ServiceRef, ServiceRoutes, Traffic,
};
use outrigger_proxy::control::{Client, LocalCopy, Mesh, Observed, Wanted};
use outrigger_trust::testing::TestAuthority;
use outrigger_trust::{DeviceKey, pem_of_certificates, write_private};

use crate::clock::eventually;
use crate::place::Place;
use crate::program::Program;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A proxy of a device.
pub struct Ours<'a> {
    place: &'a Place,
    pub program: Program,
    name: String,
    socket: PathBuf,
    wanted: Wanted,
}

impl<'a> Ours<'a> {
    pub fn start(
        program: &Path,
        fleet: &TestAuthority,
        place: &'a Place,
        cpu: usize,
        name: &str,
        folder: &Path,
    ) -> Result<Self> {
        let identity = identity(fleet, name, folder)?;
        let socket = folder.join(format!("{name}.sock"));
        let scope = format!("bench-{name}");
        let mut command = place.command(cpu, &program.display().to_string());
        command.arg("--socket").arg(&socket).args(["--scope", &scope]);
        let program = Program::start(command, &folder.join(format!("{name}.log")), None)?;
        let mesh = Some(Mesh { identity, port: 0, hub: "localhost".into() });
        let routes = Routes::default();
        let wanted = Wanted { device: name.parse()?, mesh, networks: vec![], copies: vec![], routes };
        let mut ours = Self { place, program, name: name.to_owned(), socket, wanted };
        ours.want()?;
        Ok(ours)
    }

    /// The service `number` of the benchmark, whose one copy listens on `target` here or on `peer`.
    fn service(
        &mut self,
        number: u64,
        published: Option<(u16, u16)>,
        peer: Option<u16>,
        callers: Vec<u16>,
    ) -> Result<()> {
        let service: ServiceRef = format!("bench/s{number}").parse()?;
        let placement = PlacementId(number);
        if peer.is_none() {
            let addresses = vec![(None, LOOPBACK)];
            self.wanted.copies.push(LocalCopy { placement, service: service.clone(), addresses });
        }
        let published = published.into_iter();
        let published = published.map(|(port, target)| IngressPort { port, target, protocol: PortProtocol::Tcp });
        self.wanted.routes.services.push(ServiceRoutes {
            service,
            networks: vec![],
            published: published.collect(),
            traffic: Traffic::default(),
            endpoints: vec![Endpoint { placement, peer, state: EndpointState::Ready }],
            callers,
        });
        Ok(())
    }

    /// Opens `port`, and leads it to a copy here.
    pub fn publish_local(&mut self, number: u64, port: u16, target: u16) -> Result<()> {
        self.service(number, Some((port, target)), None, vec![])?;
        self.opens(port)
    }

    /// Opens `port` here, and leads it to a copy on the device of `other`, which is at `there`, as we are `here` for it.
    pub fn publish_remote(
        &mut self,
        number: u64,
        port: u16,
        target: u16,
        here: IpAddr,
        other: &mut Ours<'_>,
        there: IpAddr,
    ) -> Result<()> {
        let us = self.peer(here)?;
        let them = other.peer(there)?;
        other.wanted.routes.peers.push(us);
        other.service(number, None, None, vec![0])?;
        other.want()?;
        self.wanted.routes.peers.push(them);
        self.service(number, Some((port, target)), Some(0), vec![])?;
        self.opens(port)
    }

    fn opens(&mut self, port: u16) -> Result<()> {
        self.want()?;
        let address = format!("127.0.0.1:{port}");
        self.place.inside(0, || eventually("the port is open", || TcpStream::connect(&address).ok()))?;
        Ok(())
    }

    fn peer(&mut self, address: IpAddr) -> Result<Peer> {
        let port = self.want()?.mesh_port.context("the proxy does not listen for devices")?;
        Ok(Peer { device: self.name.parse()?, addresses: vec![address], port })
    }

    /// Says what is wanted, and waits until it is in force.
    fn want(&mut self) -> Result<Observed> {
        self.wanted.routes.number += 1;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (mut client, mut speaking) =
            eventually("the proxy listens for its agent", || runtime.block_on(Client::connect(&self.socket)).ok())?;
        runtime.block_on(async {
            speaking.say(&self.wanted).await?;
            loop {
                let observed = client.next().await?.context("the proxy is gone")?;
                if observed.held == Some(self.wanted.routes.number) && observed.mesh_port.is_some() {
                    return Ok(observed);
                }
            }
        })
    }
}

/// What a device has after it has joined.
fn identity(fleet: &TestAuthority, name: &str, folder: &Path) -> Result<PathBuf> {
    let folder = folder.join(name);
    std::fs::create_dir(&folder)?;
    let key = DeviceKey::fresh()?;
    let chain = fleet.device(&key.request(name)?);
    write_private(&folder.join("key.pem"), &key.reveal_pem())?;
    write_private(&folder.join("certificate.pem"), &pem_of_certificates(&chain))?;
    write_private(&folder.join("authorities.pem"), &pem_of_certificates(&[fleet.certificate()]))?;
    Ok(folder)
}
