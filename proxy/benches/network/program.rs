//! The programs under comparison, and what the kernel says of them.

use std::fs::File;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::clock::eventually;
use crate::place::Place;

/// A program that runs; ended when dropped.
pub struct Program(Child);

impl Program {
    /// What it prints goes to a file, and is shown if it does not begin to listen.
    pub fn start(mut command: Command, log: &Path, listens: Option<(&Place, &str)>) -> Result<Self> {
        let file = File::create(log)?;
        command.stdout(file.try_clone()?).stderr(file);
        let program = Self(command.spawn().with_context(|| format!("cannot start {command:?}"))?);
        if let Some((place, address)) = listens {
            let reached = place.inside(0, || eventually(address, || TcpStream::connect(address).ok()));
            reached.with_context(|| std::fs::read_to_string(log).unwrap_or_default())?;
        }
        Ok(program)
    }

    /// Processor time so far (`schedstat`, in the kernel's documentation of the scheduler: the first number, in ns).
    pub fn cpu(&self) -> Result<Duration> {
        let mut nanos = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.0.id()))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
            nanos += text.split_whitespace().next().context("an empty schedstat")?.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Memory of the process, in KiB.
    pub fn rss_kib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

/// What HAProxy is told: one thread, TCP mode.
pub struct Haproxy<'a> {
    pub listen: &'a str,
    pub server: &'a str,
}

impl Haproxy<'_> {
    pub fn write(&self, folder: &Path, name: &str, most: usize) -> Result<PathBuf> {
        let path = folder.join(format!("{name}.cfg"));
        let Self { listen, server } = self;
        let text = format!(
            "global\n nbthread 1\n maxconn {most}\n maxpipes 64\ndefaults\n mode tcp\n timeout connect 5s\n \
             timeout client 1h\n timeout server 1h\nlisten all\n bind {listen}\n server one {server}\n"
        );
        std::fs::write(&path, text)?;
        Ok(path)
    }
}

/// The copy that all of them lead to: nginx with one worker, a small answer and one of 64 KiB.
pub fn nginx_config(folder: &Path, port: u16) -> Result<PathBuf> {
    std::fs::write(folder.join("64k"), vec![b'x'; 64 * 1024])?;
    std::fs::write(folder.join("64m"), vec![b'x'; 64 * 1024 * 1024])?;
    let root = folder.display();
    let text = format!(
        "daemon off; master_process off; user root; pid {root}/nginx.pid; error_log stderr; worker_rlimit_nofile 20000;\n\
         events {{ worker_connections 19000; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; keepalive_timeout 1h; keepalive_requests 100000000;\n\
         client_body_temp_path {root}; proxy_temp_path {root}; fastcgi_temp_path {root};\n\
         uwsgi_temp_path {root}; scgi_temp_path {root};\n\
         server {{ listen 127.0.0.1:{port} backlog=4096; root {root};\n\
         location = /small {{ return 200 \"0123456789abcdef\"; }} }} }}\n"
    );
    let path = folder.join("nginx.conf");
    std::fs::write(&path, text)?;
    Ok(path)
}
