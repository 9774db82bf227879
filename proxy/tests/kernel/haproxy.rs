//! A copy that is a real HAProxy, which takes the client's address from the PROXY protocol and refuses whoever does not speak
//! it.

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::eventually;
use crate::virtuals::{VIRTUAL, VIRTUAL6, scene};

/// Answers each request with the client's address and the one that it has called.
const CONFIG: &str = "defaults
  mode http
  timeout client 5s
  timeout connect 5s
  timeout server 5s
frontend who
  bind :::80 v4v6 accept-proxy
  http-request return status 200 content-type text/plain lf-string \"%[src] %[dst]\"
";

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn get(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET / HTTP/1.0\r\nhost: who\r\n\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    body.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::UnexpectedEof))
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_hears_from_the_proxy_protocol_who_the_client_is() {
    let mut scene = scene(&[]).await;
    let config = scene.device.folder.path().join("haproxy.cfg");
    fs::write(&config, CONFIG).unwrap();
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &scene.server.name, "haproxy", "-db", "-f", config.to_str().unwrap()]);
    let _haproxy = Running(command.spawn().expect("haproxy is needed; tests/setup installs it"));
    scene.device.service().traffic.proxy_protocol = true;
    scene.device.want().await;
    for (called, client) in [(VIRTUAL, "10.99.0.2"), (VIRTUAL6, "fd00:99::2")] {
        let open = SocketAddr::new(called.parse().unwrap(), 80);
        let told = eventually(async || scene.client.run(async move || get(open).await.ok()).await).await;
        assert_eq!(told, format!("{client} {called}"));
    }
    // Without it the copy hangs up, which shows that the header is what made it answer.
    scene.device.service().traffic.proxy_protocol = false;
    scene.device.want().await;
    let open = SocketAddr::new(VIRTUAL.parse().unwrap(), 80);
    scene.client.run(async move || get(open).await).await.unwrap_err();
    scene.device.stop().await;
}
