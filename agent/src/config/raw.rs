//! The settings as somebody has written them, each with its line.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Placed, Problem};

/// Keys of the file.
pub const KEYS: [&str; 16] = [
    "name", "hub", "insecure_local", "scope", "state_dir", "engine", "engine_socket", "policy", "heartbeat",
    "image_gc_above", "image_gc_to", "network_pool", "network_port", "proxy_socket", "labels", "generic",
];
/// How like a known key an unknown one must be for us to think that it was meant.
const ALIKE: f64 = 0.7;

/// What has been written, in a file or by flags. Nothing is checked but its form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Raw {
    /// The device's name.
    pub name: Option<Placed<String>>,
    /// The broker's address.
    pub hub: Option<Placed<String>>,
    /// Whether to do without TLS.
    pub insecure_local: Option<Placed<String>>,
    /// The scope.
    pub scope: Option<Placed<String>>,
    /// The state folder.
    pub state_dir: Option<Placed<String>>,
    /// The engine's kind.
    pub engine: Option<Placed<String>>,
    /// The engine's socket.
    pub engine_socket: Option<Placed<String>>,
    /// The file with what the owner allows.
    pub policy: Option<Placed<String>>,
    /// The heartbeat.
    pub heartbeat: Option<Placed<String>>,
    /// From which percentage of the disk on unused images are removed.
    pub image_gc_above: Option<Placed<String>>,
    /// Down to which percentage.
    pub image_gc_to: Option<Placed<String>>,
    /// Where networks get their addresses from.
    pub network_pool: Option<Placed<String>>,
    /// Where other devices are listened to.
    pub network_port: Option<Placed<String>>,
    /// The socket of a proxy that somebody else starts.
    pub proxy_socket: Option<Placed<String>>,
    /// Labels, in the order of their keys.
    pub labels: Vec<(String, Placed<String>)>,
    /// Countable things, in the order of their kinds.
    pub generic: Vec<(String, Placed<String>)>,
    /// What has the wrong form.
    pub problems: Vec<Problem>,
}

impl Raw {
    /// What a file says.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut raw = Self::default();
        let (table, errors) = DeTable::parse_recoverable(text);
        let at = |start: usize| Some(text.get(..start).map_or(1, |before| before.matches('\n').count() + 1));
        for error in errors {
            let line = error.span().and_then(|span| at(span.start));
            raw.problems.push(Problem { line, text: error.message().to_owned() });
        }
        for (key, value) in table.get_ref() {
            raw.take(key.get_ref(), at(key.span().start), value, &at);
        }
        raw
    }

    fn take(
        &mut self,
        key: &str,
        line: Option<usize>,
        value: &Spanned<DeValue<'_>>,
        at: &impl Fn(usize) -> Option<usize>,
    ) {
        let place = match key {
            "name" => &mut self.name,
            "hub" => &mut self.hub,
            "insecure_local" => &mut self.insecure_local,
            "scope" => &mut self.scope,
            "state_dir" => &mut self.state_dir,
            "engine" => &mut self.engine,
            "engine_socket" => &mut self.engine_socket,
            "policy" => &mut self.policy,
            "heartbeat" => &mut self.heartbeat,
            "image_gc_above" => &mut self.image_gc_above,
            "image_gc_to" => &mut self.image_gc_to,
            "network_pool" => &mut self.network_pool,
            "network_port" => &mut self.network_port,
            "proxy_socket" => &mut self.proxy_socket,
            "labels" => {
                self.labels = self.pairs(key, line, value, at);
                return;
            }
            "generic" => {
                self.generic = self.pairs(key, line, value, at);
                return;
            }
            unknown => {
                self.problems.push(Problem { line, text: unknown_key(unknown) });
                return;
            }
        };
        match scalar(value.get_ref()) {
            Some(value) => *place = Some(Placed { value, line }),
            None => self.problems.push(Problem { line, text: format!("{key} must be a text") }),
        }
    }

    fn pairs(
        &mut self,
        key: &str,
        line: Option<usize>,
        value: &Spanned<DeValue<'_>>,
        at: &impl Fn(usize) -> Option<usize>,
    ) -> Vec<(String, Placed<String>)> {
        let Some(table) = value.get_ref().as_table() else {
            self.problems.push(Problem { line, text: format!("{key} must be a table") });
            return Vec::new();
        };
        let mut pairs = Vec::new();
        for (name, value) in table {
            let line = at(name.span().start);
            match scalar(value.get_ref()) {
                Some(value) => pairs.push((name.get_ref().to_string(), Placed { value, line })),
                None => self
                    .problems
                    .push(Problem { line, text: format!("{key}.{} must be a text or number", name.get_ref()) }),
            }
        }
        pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
        pairs
    }

    /// This, with what the other says put in the place of what this says.
    #[must_use]
    pub fn overlaid_by(self, over: Self) -> Self {
        Self {
            name: over.name.or(self.name),
            hub: over.hub.or(self.hub),
            insecure_local: over.insecure_local.or(self.insecure_local),
            scope: over.scope.or(self.scope),
            state_dir: over.state_dir.or(self.state_dir),
            engine: over.engine.or(self.engine),
            engine_socket: over.engine_socket.or(self.engine_socket),
            policy: over.policy.or(self.policy),
            heartbeat: over.heartbeat.or(self.heartbeat),
            image_gc_above: over.image_gc_above.or(self.image_gc_above),
            image_gc_to: over.image_gc_to.or(self.image_gc_to),
            network_pool: over.network_pool.or(self.network_pool),
            network_port: over.network_port.or(self.network_port),
            proxy_socket: over.proxy_socket.or(self.proxy_socket),
            labels: merged(self.labels, over.labels),
            generic: merged(self.generic, over.generic),
            problems: self.problems.into_iter().chain(over.problems).collect(),
        }
    }
}

fn merged(under: Vec<(String, Placed<String>)>, over: Vec<(String, Placed<String>)>) -> Vec<(String, Placed<String>)> {
    let all: std::collections::BTreeMap<_, _> = under.into_iter().chain(over).collect();
    all.into_iter().collect()
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn unknown_key(key: &str) -> String {
    let alike = KEYS.iter().map(|known| (strsim::jaro_winkler(key, known), known));
    match alike.max_by(|(a, _), (b, _)| a.total_cmp(b)) {
        Some((likeness, known)) if likeness >= ALIKE => format!("unknown key `{key}`; did you mean `{known}`?"),
        _ => format!("unknown key `{key}`; known are {}", KEYS.join(", ")),
    }
}
