//! The configuration for EMQX, which cannot be run here: that it can be read at all, and says what it must. A reader of the
//! parts of HOCON and of Erlang's terms that it uses; anything else is an error.

use std::collections::BTreeMap;

use outrigger_hub::broker_config::{Devices, Kind, write};

use super::support::World;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Word(String),
    Text(String),
    List(Vec<Value>),
    /// A map of HOCON, with whole paths as keys.
    Map(BTreeMap<String, Value>),
    /// A tuple of Erlang.
    Tuple(Vec<Value>),
}

/// Reads from left to right.
struct Reader<'a>(&'a str);

impl Reader<'_> {
    /// Skips blanks and comments.
    fn blanks(&mut self, comment: char) {
        loop {
            self.0 = self.0.trim_start();
            match self.0.strip_prefix(comment) {
                Some(rest) => self.0 = rest.split_once('\n').map_or("", |(_, rest)| rest),
                None => return,
            }
        }
    }

    fn take(&mut self, piece: char, comment: char) -> bool {
        self.blanks(comment);
        let rest = self.0.strip_prefix(piece);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn word(&mut self) -> String {
        let end = self.0.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '.' | '-')).unwrap();
        let (word, rest) = self.0.split_at(end);
        assert!(!word.is_empty(), "nothing to read at {:?}", &self.0[..self.0.len().min(40)]);
        self.0 = rest;
        word.to_owned()
    }

    fn scalar(&mut self, comment: char) -> Value {
        if !self.take('"', comment) {
            return Value::Word(self.word());
        }
        let (text, rest) = self.0.split_once('"').unwrap();
        assert!(!text.contains(['\\', '\n']), "{text:?}");
        self.0 = rest;
        Value::Text(text.to_owned())
    }

    fn list(&mut self, end: char, comment: char, one: impl Fn(&mut Self) -> Value) -> Vec<Value> {
        let mut list = vec![];
        while !self.take(end, comment) {
            assert!(list.is_empty() || self.take(',', comment), "no comma at {:?}", &self.0[..self.0.len().min(40)]);
            list.push(one(self));
        }
        list
    }

    fn term(&mut self) -> Value {
        if self.take('{', '%') {
            Value::Tuple(self.list('}', '%', Self::term))
        } else if self.take('[', '%') {
            Value::List(self.list(']', '%', Self::term))
        } else {
            self.scalar('%')
        }
    }

    /// Up to the end, or to the end of a block.
    fn hocon(&mut self) -> BTreeMap<String, Value> {
        let mut map = BTreeMap::new();
        while !self.take('}', '#') && !self.0.is_empty() {
            let key = self.word();
            let value = if self.take('{', '#') {
                Value::Map(self.hocon())
            } else {
                assert!(self.take('=', '#'), "no value for {key}");
                self.hocon_value()
            };
            let _ = self.take(',', '#');
            assert_eq!(map.insert(key.clone(), value), None, "{key} twice");
        }
        map
    }

    fn hocon_value(&mut self) -> Value {
        if self.take('[', '#') {
            Value::List(self.list(']', '#', Self::hocon_value))
        } else if self.take('{', '#') {
            Value::Map(self.hocon())
        } else {
            self.scalar('#')
        }
    }
}

fn at<'a>(map: &'a BTreeMap<String, Value>, path: &[&str]) -> &'a Value {
    let (first, rest) = path.split_first().unwrap();
    match map.get(*first) {
        Some(Value::Map(inner)) if !rest.is_empty() => at(inner, rest),
        Some(value) => value,
        None => panic!("no {first} in {map:?}"),
    }
}

fn word(text: &str) -> Value {
    Value::Word(text.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_for_emqx_can_be_read_and_is_as_strict_as_the_embedded_broker() {
    let world = World::start().await;
    let to = world.folder.path().join("emqx");
    write(Kind::Emqx, world.folder.path(), &[], 8883, &to, Devices::All).unwrap();
    let text = std::fs::read_to_string(to.join("emqx.conf")).unwrap();
    let map = Reader(&text).hocon();
    for (path, expected) in [
        (&["mqtt", "peer_cert_as_username"][..], "cn"),
        (&["mqtt", "peer_cert_as_clientid"], "cn"),
        (&["mqtt", "shared_subscription"], "false"),
        (&["listeners.ssl.default", "bind"], "8883"),
        (&["listeners.ssl.default", "ssl_options", "verify"], "verify_peer"),
        (&["listeners.ssl.default", "ssl_options", "fail_if_no_peer_cert"], "true"),
        (&["listeners.tcp.default.enable"], "false"),
        (&["listeners.ws.default.enable"], "false"),
        (&["listeners.wss.default.enable"], "false"),
        (&["authorization", "no_match"], "deny"),
    ] {
        assert_eq!(at(&map, path), &word(expected), "{path:?}");
    }
    for file in ["cacertfile", "certfile", "keyfile"] {
        let Value::Text(path) = at(&map, &["listeners.ssl.default", "ssl_options", file]) else { panic!("{file}") };
        assert!(std::path::Path::new(path).is_file(), "{path}");
    }
    let Value::List(sources) = at(&map, &["authorization", "sources"]) else { panic!("{map:?}") };
    let [Value::Map(source)] = &sources[..] else { panic!("{sources:?}") };
    assert_eq!(source.get("path"), Some(&Value::Text(to.join("acl.conf").display().to_string())));

    let text = std::fs::read_to_string(to.join("acl.conf")).unwrap();
    let mut reader = Reader(&text);
    let mut rules = vec![];
    while !reader.0.is_empty() {
        let Value::Tuple(rule) = reader.term() else { panic!("a rule is a tuple: {text}") };
        assert!(reader.take('.', '%'), "a rule ends with a dot: {text}");
        reader.blanks('%');
        rules.push(rule);
    }
    assert_eq!(rules.last(), Some(&vec![word("deny"), word("all")]));
    assert_eq!(rules.len(), 4, "{rules:?}");
    assert_eq!(rules[0][1], Value::Tuple(vec![word("username"), Value::Text("$hub".into())]));
    // A device: only below its own name, and nothing that reaches further.
    for rule in &rules[1..3] {
        let [_, who, does, Value::List(topics)] = &rule[..] else { panic!("{rule:?}") };
        assert!(*who == word("all") && (*does == word("publish") || *does == word("subscribe")), "{rule:?}");
        assert!(topics.len() >= 6, "{topics:?}");
        for topic in topics {
            let Value::Text(topic) = topic else { panic!("{topic:?}") };
            assert!(topic.starts_with("or/1/${username}/") && !topic.contains(['+', '#']), "{topic}");
        }
    }
}
