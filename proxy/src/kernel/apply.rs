//! Hands the rules to `nft` and `ip`, which come with every Debian: as text on their standard input, never by a shell.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv6Addr;
use std::process::Stdio;

use thiserror::Error;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::rules::Rules;

/// Where the programs are, whatever our own environment says.
const PATH: &str = "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin";
/// What is told of a program's complaint.
const MAX_COMPLAINT: usize = 300;

/// Why the kernel is not as it should be.
#[derive(Debug, Error)]
pub(super) enum KernelError {
    #[error("the program `{0}` is missing; install the package {1}")]
    Missing(&'static str, &'static str),
    #[error("cannot run `{0}`: {1}")]
    Run(&'static str, io::Error),
    #[error("{}", refusal(.0, .1))]
    Refused(&'static str, String),
}

/// Says what is missing, where the complaint lets us know.
fn refusal(program: &str, complaint: &str) -> String {
    let needs = if complaint.contains("Operation not permitted") || complaint.contains("must be root") {
        "the proxy needs the capability CAP_NET_ADMIN"
    } else if complaint.contains("No such file or directory") && program == "nft" {
        "the kernel lacks nf_tables with NAT (modules nft_chain_nat, nft_nat, nft_reject_inet)"
    } else {
        "the kernel refuses the rules"
    };
    format!("{needs}; {program} says: {complaint}")
}

/// What has been set up.
#[derive(Debug)]
pub(super) struct Applied {
    table: String,
    rules: Option<Rules>,
    v6: BTreeSet<(String, Ipv6Addr)>,
    guards: bool,
}

impl Applied {
    /// Nothing by us; whatever an earlier process has left is replaced at the first time.
    pub(super) fn new(scope: String) -> Self {
        let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
        let table = format!("outrigger_{}", scope.chars().map(plain).collect::<String>());
        Self { table, rules: None, v6: BTreeSet::new(), guards: false }
    }

    /// Whether rules are in force, of whatever time.
    pub(super) fn guards(&self) -> bool {
        self.guards
    }

    pub(super) async fn apply(&mut self, rules: Rules) -> Result<(), KernelError> {
        if self.rules.as_ref() == Some(&rules) {
            return Ok(());
        }
        // The guard first: no address is there that is not guarded.
        let guarded = run("nft", "nftables", &["-f", "-"], &rules.nft(&self.table)).await;
        if rules == Rules::default() && self.rules.is_none() {
            // What an earlier process may have left is of no use to anybody; where nothing is wanted, nothing can be missing.
            self.rules = Some(rules);
            return Ok(());
        }
        guarded?;
        self.guards = rules != Rules::default();
        self.rules = None;
        let ip = rules.ip();
        if !ip.is_empty() {
            run("ip", "iproute2", &["-batch", "-"], &ip).await?;
        }
        let wanted: BTreeSet<_> = rules.v6_addresses().map(|(bridge, address)| (bridge.to_owned(), address)).collect();
        let gone = self.v6.difference(&wanted);
        let gone: String =
            gone.map(|(bridge, address)| format!("address delete {address}/128 dev {bridge}\n")).collect();
        if !gone.is_empty() {
            // A bridge may have gone, and its addresses with it; that keeps none of the others (`-force`).
            let _ = run("ip", "iproute2", &["-force", "-batch", "-"], &gone).await;
        }
        self.v6 = wanted;
        self.rules = Some(rules);
        Ok(())
    }
}

async fn run(program: &'static str, package: &'static str, arguments: &[&str], input: &str) -> Result<(), KernelError> {
    let command = match program {
        "nft" => Command::new("nft"),
        _ => Command::new("ip"),
    };
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => KernelError::Missing(program, package),
        _ => KernelError::Run(program, source),
    };
    let mut command = command;
    command.args(arguments).env_clear().env("PATH", PATH).env("LC_ALL", "C").kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // It may have ended before it has read all; what it says then is better than what the pipe says.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let output = child.wait_with_output().await.map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let complaint = complaint.split_whitespace().collect::<Vec<_>>().join(" ");
    Err(KernelError::Refused(program, complaint.chars().take(MAX_COMPLAINT).collect()))
}
