//! What the words of the command line mean: one table, from which they are read and help is made.
//!
//! clap does the same with 0.12 MiB of code, which the agent would have in memory as long as it runs.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;

use lexopt::{Arg, Parser};
use thiserror::Error;

use super::{Args, Asked, Command, JoinArgs};

const ABOUT: &str = "Runs on each device: says what the device is, and runs the containers that the hub assigns to it";
/// How alike a word must be to be suggested.
const ALIKE: f64 = 0.8;

/// The command line makes no sense.
#[derive(Debug, Error)]
pub enum WordsError {
    /// An option or command that does not exist, or not here.
    #[error("unexpected argument '{word}'{}", alike.as_deref().map(|alike| format!("; did you mean '{alike}'?")).unwrap_or_default())]
    Unknown {
        /// The word.
        word: String,
        /// What may have been meant.
        alike: Option<String>,
    },
    /// An option without its value.
    #[error("a value is required for '--{name} <{value}>'")]
    NoValue {
        /// The option.
        name: &'static str,
        /// What it takes.
        value: &'static str,
    },
    /// An option that can be given once only.
    #[error("'--{0}' cannot be used multiple times")]
    Twice(&'static str),
    /// A value that is no pair.
    #[error("invalid value '{text}' for '--{name} <{value}>': it must be {value}")]
    Pair {
        /// The option.
        name: &'static str,
        /// What it takes.
        value: &'static str,
        /// The value.
        text: String,
    },
    /// Words that are no words, and values where none belongs.
    #[error(transparent)]
    Word(#[from] lexopt::Error),
}

/// All that can be said, whichever command it belongs to.
#[derive(Debug, Default)]
struct Said {
    args: Args,
    join: JoinArgs,
    yes: bool,
}

/// Where the value of an option goes.
enum Slot<'a> {
    Flag(&'a mut bool),
    Text(&'a mut Option<String>),
    Path(&'a mut Option<PathBuf>),
    Pairs(&'a mut Vec<(String, String)>),
}

struct Known {
    /// The command that it belongs to; empty: all.
    of: &'static str,
    name: &'static str,
    /// What its value is; empty: it has none.
    value: &'static str,
    help: &'static str,
    slot: fn(&mut Said) -> Slot<'_>,
}

const fn option(name: &'static str, value: &'static str, help: &'static str, slot: fn(&mut Said) -> Slot<'_>) -> Known {
    Known { of: "", name, value, help, slot }
}

#[rustfmt::skip]
const OPTIONS: [Known; 20] = [
    option("config", "PATH", "Settings file; may be missing unless it is named here [default: /etc/outrigger/agent.toml]", |said| Slot::Path(&mut said.args.config)),
    option("name", "NAME", "Name of the device in the fleet [default: the host's name]", |said| Slot::Text(&mut said.args.name)),
    option("hub", "HOST:PORT", "Where the hub's broker is [default: where the device has joined]", |said| Slot::Text(&mut said.args.hub)),
    option("insecure-local", "", "Without TLS and without joining, to a hub on this very device; for trying things out", |said| Slot::Flag(&mut said.args.insecure_local)),
    option("scope", "SCOPE", "Tells the containers of several agents on one engine apart [default: the device's name]", |said| Slot::Text(&mut said.args.scope)),
    option("state-dir", "DIR", "Where the agent keeps its assignment [default: /var/lib/outrigger-agent]", |said| Slot::Text(&mut said.args.state_dir)),
    option("engine", "ENGINE", "What runs the containers: docker, podman, or memory for nothing real [default: docker]", |said| Slot::Text(&mut said.args.engine)),
    option("engine-socket", "PATH", "The engine's socket [default: DOCKER_HOST, else /var/run/docker.sock]", |said| Slot::Text(&mut said.args.engine_socket)),
    option("policy", "PATH", "What the owner of this device allows [default: /etc/outrigger/policy.toml]", |said| Slot::Text(&mut said.args.policy)),
    option("heartbeat", "TIME", "Time between reports [default: 1s]", |said| Slot::Text(&mut said.args.heartbeat)),
    option("image-gc-above", "PERCENT", "From how much of the disk in use on images that it pulled and nothing uses are removed, or off [default: 85%]", |said| Slot::Text(&mut said.args.image_gc_above)),
    option("image-gc-to", "PERCENT", "Down to how much of the disk [default: 80%]", |said| Slot::Text(&mut said.args.image_gc_to)),
    option("network-pool", "RANGE", "Private addresses that networks of containers are made from [default: 10.212.0.0/14]", |said| Slot::Text(&mut said.args.network_pool)),
    option("network-port", "PORT", "Where the proxies of other devices reach this one's [default: 7643]", |said| Slot::Text(&mut said.args.network_port)),
    option("proxy-socket", "PATH", "The socket of a proxy that the service manager starts [default: the agent starts one where it needs it]", |said| Slot::Text(&mut said.args.proxy_socket)),
    option("label", "KEY=VALUE", "A label of the device; can be given again", |said| Slot::Pairs(&mut said.args.labels)),
    option("generic", "KIND=COUNT", "A countable thing that the device has; can be given again", |said| Slot::Pairs(&mut said.args.generic)),
    Known { of: "join", name: "token", value: "TOKEN", help: "The invite; `-` reads it from standard input [default: a code is shown, for `outrigger device approve`]", slot: |said| Slot::Text(&mut said.join.token) },
    Known { of: "join", name: "again", value: "", help: "Join anew, although the device has joined already: with a new key, and perhaps another hub", slot: |said| Slot::Flag(&mut said.join.again) },
    Known { of: "leave", name: "yes", value: "", help: "Do not ask", slot: |said| Slot::Flag(&mut said.yes) },
];

const URL: &str = "The hub, such as https://hub.local:7640 [default: the one that answers in the local network]";

const COMMANDS: [(&str, &str); 5] = [
    (
        "join",
        "Join the fleet of a hub: with the line that `outrigger device invite` prints, or by a code that it shows",
    ),
    ("doctor", "Look for what would keep this device from its work, and say how to put it right"),
    (
        "leave",
        "Leave the fleet: end and remove the replicas here and forget whose they were, so that another hub can have the device",
    ),
    ("version", "Print the version"),
    ("help", "Print this message or the help of the given command"),
];

/// Reads the words behind the program's name.
///
/// # Errors
/// If they make no sense.
pub fn read(words: impl IntoIterator<Item = OsString>) -> Result<Asked, WordsError> {
    let mut words = Parser::from_args(words);
    let mut said = Said::default();
    let mut command = "";
    let (mut wants_help, mut seen) = (false, Vec::new());
    while let Some(word) = words.next()? {
        match word {
            Arg::Short('h') | Arg::Long("help") => wants_help = true,
            Arg::Short('V') | Arg::Long("version") => return Ok(Asked::Version),
            Arg::Long(name) => {
                let known = known(name, command)?;
                take(known, &mut words, &mut said, &mut seen)?;
            }
            Arg::Short(letter) => return Err(unknown(&format!("-{letter}"), "")),
            Arg::Value(word) => {
                let word = word.to_string_lossy().into_owned();
                let named = COMMANDS.iter().map(|(name, _)| *name).find(|name| *name == word);
                match (command, named) {
                    ("", Some("help")) => wants_help = true,
                    ("", Some(name)) => command = name,
                    ("join", _) if said.join.url.is_none() => said.join.url = Some(word),
                    _ => return Err(unknown(&word, command)),
                }
            }
        }
    }
    if wants_help {
        return Ok(Asked::Help(help(command)));
    }
    said.args.command = match command {
        "join" => Some(Command::Join(said.join)),
        "doctor" => Some(Command::Doctor),
        "leave" => Some(Command::Leave { yes: said.yes }),
        "version" => return Ok(Asked::Version),
        _ => None,
    };
    Ok(Asked::Run(Box::new(said.args)))
}

fn known(name: &str, command: &str) -> Result<&'static Known, WordsError> {
    let found = OPTIONS.iter().find(|known| known.name == name && (known.of.is_empty() || known.of == command));
    found.ok_or_else(|| unknown(&format!("--{name}"), command))
}

/// A word that is not known here, with the one that may have been meant.
fn unknown(word: &str, command: &str) -> WordsError {
    let options = OPTIONS.iter().filter(|known| known.of.is_empty() || known.of == command);
    let options = options.map(|known| format!("--{}", known.name));
    let commands = COMMANDS.iter().filter(|_| command.is_empty()).map(|(name, _)| (*name).to_owned());
    let alike = options.chain(commands).filter(|known| known.starts_with("--") == word.starts_with("--"));
    // All begin with the same dashes, which say nothing.
    let likeness = |known: &str| strsim::jaro_winkler(word.trim_start_matches('-'), known.trim_start_matches('-'));
    let alike = alike.map(|known| (likeness(&known), known)).filter(|(alike, _)| *alike > ALIKE);
    let alike = alike.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, known)| known);
    WordsError::Unknown { word: word.to_owned(), alike }
}

fn take(
    known: &'static Known,
    words: &mut Parser,
    said: &mut Said,
    seen: &mut Vec<&'static str>,
) -> Result<(), WordsError> {
    let Known { name, value, slot, .. } = known;
    let slot = slot(said);
    let is_again = seen.contains(name);
    if is_again && !matches!(slot, Slot::Pairs(_)) {
        return Err(WordsError::Twice(name));
    }
    seen.push(name);
    // A value that was attached to a flag is refused with the next word.
    if let Slot::Flag(flag) = slot {
        *flag = true;
        return Ok(());
    }
    let text = match words.optional_value() {
        Some(text) => text,
        // What looks like an option is one: somebody has forgotten the value.
        None => words
            .value()
            .ok()
            .filter(|text| !text.as_encoded_bytes().starts_with(b"--"))
            .ok_or(WordsError::NoValue { name, value })?,
    };
    if let Slot::Path(path) = slot {
        *path = Some(text.into());
        return Ok(());
    }
    let text = text.into_string().map_err(lexopt::Error::NonUnicodeValue)?;
    match slot {
        Slot::Text(place) => *place = Some(text),
        Slot::Pairs(pairs) => {
            let pair = text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
            pairs.push(pair.ok_or(WordsError::Pair { name, value, text })?);
        }
        Slot::Flag(_) | Slot::Path(_) => (),
    }
    Ok(())
}

/// The help of a command, or of the whole program.
fn help(command: &str) -> String {
    let about = COMMANDS.iter().find(|(name, _)| *name == command && !command.is_empty());
    let mut text = format!("{}\n\n", about.map_or(ABOUT, |(_, about)| about));
    match command {
        "" => {
            text.push_str("Usage: outrigger-agent [OPTIONS] [COMMAND]\n\nCommands:\n");
            for (name, about) in COMMANDS {
                let _ = writeln!(text, "  {name:<7}  {about}");
            }
        }
        "join" => {
            let _ = writeln!(text, "Usage: outrigger-agent join [OPTIONS] [URL]\n\nArguments:\n  [URL]  {URL}");
        }
        other => {
            let _ = writeln!(text, "Usage: outrigger-agent {other} [OPTIONS]");
        }
    }
    text.push_str("\nOptions:\n");
    // Those of the command first.
    let own = OPTIONS.iter().filter(|known| known.of == command && !command.is_empty());
    for known in own.chain(OPTIONS.iter().filter(|known| known.of.is_empty())) {
        let value = if known.value.is_empty() { String::new() } else { format!(" <{}>", known.value) };
        let _ = writeln!(text, "      {:<26}  {}", format!("--{}{value}", known.name), known.help);
    }
    text.push_str("  -h, --help                      Print help\n  -V, --version                   Print version\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(words: &[&str]) -> Result<Asked, String> {
        read(words.iter().map(OsString::from)).map_err(|error| error.to_string())
    }

    fn args(words: &[&str]) -> Args {
        match asked(words) {
            Ok(Asked::Run(args)) => *args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_option_is_read_before_and_behind_a_command_and_stands_in_the_help() {
        for known in &OPTIONS {
            let word = format!("--{}", known.name);
            let words = if known.value.is_empty() { vec![word.as_str()] } else { vec![word.as_str(), "a=b"] };
            let behind: Vec<_> = [known.of].into_iter().filter(|of| !of.is_empty()).chain(words.clone()).collect();
            assert_ne!(args(&behind), args(&behind[..behind.len() - words.len()]), "{word} changes nothing");
            assert!(help(known.of).contains(&word) && help(known.of).contains(known.help));
            if known.of.is_empty() {
                let before: Vec<_> = words.iter().copied().chain(["doctor"]).collect();
                let after: Vec<_> = ["doctor"].into_iter().chain(words).collect();
                assert_eq!(args(&before), args(&after), "{word}");
            }
        }
    }

    #[test]
    fn values_go_where_they_belong() {
        let got = args(&[
            "--config", "/a", "--label=zone=attic", "--label", "disk=ssd", "join", "--token", "-", "https://hub:7640",
        ]);
        assert_eq!(got.config, Some(PathBuf::from("/a")));
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(got.labels, [pair("zone", "attic"), pair("disk", "ssd")]);
        let join = JoinArgs { url: Some("https://hub:7640".to_owned()), token: Some("-".to_owned()), again: false };
        assert_eq!(got.command, Some(Command::Join(join)));
        assert_eq!(args(&["leave", "--yes"]).command, Some(Command::Leave { yes: true }));
        assert_eq!(args(&[]), Args::default());
    }

    #[test]
    fn what_makes_no_sense_is_said_with_what_may_have_been_meant() {
        let told = |words: &[&str]| asked(words).unwrap_err();
        assert_eq!(told(&["--nam", "x"]), "unexpected argument '--nam'; did you mean '--name'?");
        assert_eq!(told(&["jion"]), "unexpected argument 'jion'; did you mean 'join'?");
        assert_eq!(told(&["xyz"]), "unexpected argument 'xyz'");
        assert_eq!(told(&["--yes"]), "unexpected argument '--yes'");
        assert_eq!(told(&["doctor", "--again"]), "unexpected argument '--again'");
        assert_eq!(told(&["join", "a", "b"]), "unexpected argument 'b'");
        assert_eq!(told(&["-x"]), "unexpected argument '-x'");
        for words in [["--name", "--hub"].as_slice(), &["--name"]] {
            assert_eq!(told(words), "a value is required for '--name <NAME>'");
        }
        assert_eq!(told(&["--name", "a", "doctor", "--name=b"]), "'--name' cannot be used multiple times");
        let pair = "invalid value 'x' for '--label <KEY=VALUE>': it must be KEY=VALUE";
        assert_eq!(told(&["--label", "x"]), pair);
        assert!(told(&["--insecure-local=no", "doctor"]).contains("insecure-local"));
    }

    #[test]
    fn help_is_the_programs_or_a_commands() {
        let golden = include_str!("help.txt");
        assert_eq!(help(""), golden, "if the change is wanted, put this into agent/src/args/help.txt:\n{}", help(""));
        for words in [["help"].as_slice(), &["--help"], &["-h", "--name", "a"]] {
            assert_eq!(asked(words), Ok(Asked::Help(help(""))));
        }
        for words in [["help", "join"].as_slice(), &["join", "--help"]] {
            assert_eq!(asked(words), Ok(Asked::Help(help("join"))));
        }
        assert!(help("join").contains("[URL]  The hub") && !help("leave").contains("--token"));
        assert_eq!((asked(&["-V"]), asked(&["version"])), (Ok(Asked::Version), Ok(Asked::Version)));
    }
}
