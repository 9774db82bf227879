//! A hub that gives canned answers and remembers what it was asked, and the program run against it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread;

/// One answer.
#[derive(Clone)]
pub struct Answer {
    status: u16,
    body: Vec<u8>,
}

/// A good answer with this JSON.
pub fn ok(json: &serde_json::Value) -> Answer {
    Answer { status: 200, body: json.to_string().into_bytes() }
}

/// Any answer.
pub fn answer(status: u16, body: impl Into<Vec<u8>>) -> Answer {
    Answer { status, body: body.into() }
}

/// A problem of this kind.
pub fn problem(status: u16, kind: &str, title: &str, more: &serde_json::Value) -> Answer {
    let mut json = serde_json::json!({"kind": kind, "status": status, "title": title});
    json.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    Answer { status, body: json.to_string().into_bytes() }
}

/// What was asked: `METHOD /path?query`, and the body.
#[derive(Debug, Clone)]
pub struct Asked {
    pub line: String,
    pub body: serde_json::Value,
}

/// The hub.
pub struct FakeHub {
    pub address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

type Script = Arc<Mutex<HashMap<String, Vec<Answer>>>>;

impl FakeHub {
    /// A hub that gives these answers to `METHOD /path` (whatever the query): one after the other, the last for ever.
    pub fn with(answers: Vec<(&str, Vec<Answer>)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let script: Script =
            Arc::new(Mutex::new(answers.into_iter().map(|(key, list)| (key.to_owned(), list)).collect()));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let remembered = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, asked) = (Arc::clone(&script), Arc::clone(&remembered));
                thread::spawn(move || serve(stream, &script, &asked));
            }
        });
        Self { address, asked }
    }

    /// All that was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// What was asked, without bodies.
    pub fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }

    /// Runs the program against this hub.
    pub fn run(&self, args: &[&str]) -> Ran {
        run(self.command(args))
    }

    /// The program, ready to be run against this hub.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = program(args);
        command.env("OUTRIGGER_HUB", &self.address);
        command
    }
}

/// The program with a plain environment.
pub fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger"));
    command.args(args).env_clear().env("COLUMNS", "100");
    command
}

/// What a run of the program came to.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a program to its end.
pub fn run(mut command: Command) -> Ran {
    let Output { status, stdout, stderr } = command.output().unwrap();
    Ran {
        code: status.code().unwrap_or(-1),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

fn serve(stream: TcpStream, script: &Script, asked: &Mutex<Vec<Asked>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    while let Some((key, request)) = read_request(&mut reader) {
        asked.lock().unwrap().push(request);
        let answer = match script.lock().unwrap().get_mut(&key) {
            Some(answers) if answers.len() > 1 => answers.remove(0),
            Some(answers) => answers[0].clone(),
            None => problem(404, "not_found", &format!("there is no route {key}"), &serde_json::json!({})),
        };
        let head = format!("HTTP/1.1 {} X\r\nContent-Length: {}\r\n\r\n", answer.status, answer.body.len());
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&answer.body)).is_err() {
            return;
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<(String, Asked)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|&read| read > 0)?;
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok().filter(|&read| read > 2)?;
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        // The empty line ends the head; it has been peeked at, as it is two bytes.
        if reader.fill_buf().ok()?.starts_with(b"\r\n") {
            reader.consume(2);
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    let key = line.split('?').next().unwrap().to_owned();
    Some((key, Asked { line, body: serde_json::from_slice(&body).unwrap_or_default() }))
}

/// A service as the API has it.
pub fn service(name: &str, wanted: u32) -> serde_json::Value {
    serde_json::json!({
        "name": name, "stack": name.split('/').next(), "image": "web:1", "mode": "replicated", "wanted": wanted,
        "running": wanted, "pending": 0, "ports": [], "on_device_loss": "available", "revision": 1,
        "update": {"state": "done", "done": wanted, "total": wanted}
    })
}

/// A replica as the API has it.
pub fn replica(name: &str, state: &str) -> serde_json::Value {
    let (service, number) = name.rsplit_once('.').unwrap();
    serde_json::json!({
        "name": name, "service": service, "number": number.parse::<u32>().unwrap(), "state": state, "up_to_date": true,
        "copy": {
            "placement": "2a", "device": "pi-1", "state": state, "image": "web:1", "revision": 1, "reason": "",
            "restarts": 0
        }
    })
}
