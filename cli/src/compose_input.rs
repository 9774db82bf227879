//! What of the user's machine goes to the hub with a Compose file: the file, the variables that it mentions, and the
//! files that it refers to. The hub asks for them; what the Compose file does not mention is not sent, whoever asks.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use outrigger_api::ApplyRequest;

use crate::Failure;
use crate::args::ComposeFile;
use crate::dotenv;

/// Where Docker Compose looks, in this order.
const DEFAULT_FILES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];
/// What Docker Compose merges over the file that it found, in this order.
const OVERRIDE_FILES: [&str; 4] =
    ["compose.override.yml", "compose.override.yaml", "docker-compose.override.yml", "docker-compose.override.yaml"];
/// What a Compose file without a name of its own is called.
const STDIN: &str = "standard input";
/// A file of a Compose project is a few kilobytes; this keeps a wrong path from sending a disk image.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A Compose file with what it is read with.
pub(crate) struct Project {
    folder: PathBuf,
    shown_folder: String,
    explicit_name: Option<String>,
    variables: Variables,
    /// What the hub is sent.
    pub request: ApplyRequest,
}

/// The user's variables: those of the command line win over the environment, and that over `.env`.
struct Variables {
    given: BTreeMap<String, String>,
    environment: fn(&str) -> Option<String>,
    dotenv: BTreeMap<String, String>,
}

impl Variables {
    fn value(&self, name: &str) -> Option<String> {
        let given = self.given.get(name).cloned();
        given.or_else(|| (self.environment)(name)).or_else(|| self.dotenv.get(name).cloned())
    }
}

/// What the hub asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Supplied {
    /// Files that are sent now and were not before.
    pub files: Vec<String>,
    /// Whether anything is new; if not, sending again is in vain.
    pub is_new: bool,
}

impl Project {
    /// Reads the Compose file and `.env` that the user means.
    pub fn open(args: &ComposeFile) -> Result<Self, Failure> {
        Self::open_with(args, |name| std::env::var(name).ok())
    }

    fn open_with(args: &ComposeFile, environment: fn(&str) -> Option<String>) -> Result<Self, Failure> {
        let paths = match args.files.as_slice() {
            [] => default_files(environment("COMPOSE_FILE").as_deref())?,
            named => named.to_vec(),
        };
        if paths.iter().filter(|path| is_stdin(path)).count() > 1 {
            return Err(Failure::Usage {
                message: "standard input can be read only once".into(),
                hint: "give -f - once".into(),
            });
        }
        let folder = paths.first().map(|path| folder_of(path)).unwrap_or_default();
        let mut files = BTreeMap::new();
        let mut names = Vec::new();
        for path in &paths {
            let text = if is_stdin(path) { read_stdin()? } else { read_text(path)? };
            let name = name_in(&folder, path);
            files.insert(name.clone(), Some(text));
            names.push(name);
        }
        let given: BTreeMap<String, String> = args.variables.iter().cloned().collect();
        let dotenv = read_dotenv(args.env_file.as_deref(), &folder, &given, environment)?;
        let variables = Variables { given, environment, dotenv };
        let name =
            args.name.clone().or_else(|| variables.value("COMPOSE_PROJECT_NAME")).filter(|name| !name.is_empty());
        let shown_folder = match folder.to_string_lossy() {
            empty if empty.is_empty() => String::new(),
            folder => format!("{folder}/"),
        };
        let profiles = match args.profiles.as_slice() {
            [] => variables.value("COMPOSE_PROFILES").map(|all| listed(&all, ',')).unwrap_or_default(),
            named => named.to_vec(),
        };
        let main = names.remove(0);
        let request = ApplyRequest { main, overrides: names, profiles, files, variables: BTreeMap::new() };
        Ok(Self { folder, shown_folder, explicit_name: name, variables, request })
    }

    /// The name that the user gave on the command line or in `COMPOSE_PROJECT_NAME`.
    pub fn explicit_name(&self) -> Option<&str> {
        self.explicit_name.as_deref()
    }

    /// The name of a stack whose file gives none: that of its folder, made fit as Docker Compose does it.
    pub fn folder_name(&self) -> Option<String> {
        let folder = if self.folder.as_os_str().is_empty() { Path::new(".") } else { &self.folder };
        let folder = folder.canonicalize().ok()?;
        let name = sanitised(&folder.file_name()?.to_string_lossy());
        (!name.is_empty()).then_some(name)
    }

    /// What stands before the names of files in messages.
    pub fn shown_folder(&self) -> &str {
        &self.shown_folder
    }

    /// Adds what the hub asks for: files by path relative to the Compose file, and variables.
    pub fn supply(&mut self, files: &[String], variables: &[String]) -> Result<Supplied, Failure> {
        let mut supplied = Supplied::default();
        for name in variables.iter().filter(|name| self.is_mentioned(name)).collect::<BTreeSet<_>>() {
            let value = self.variables.value(name);
            supplied.is_new |= self.request.variables.insert(name.clone(), value.clone()) != Some(value);
        }
        for path in files {
            if self.request.files.contains_key(path) {
                continue;
            }
            let text = self.file_for_hub(path)?;
            supplied.is_new = true;
            if text.is_some() {
                supplied.files.push(path.clone());
            }
            self.request.files.insert(path.clone(), text);
        }
        Ok(supplied)
    }

    fn file_for_hub(&self, path: &str) -> Result<Option<String>, Failure> {
        let local = Path::new(path);
        let name = local.file_name().unwrap_or_default().to_string_lossy();
        // Its variables are given one by one, as they are mentioned; the rest of it concerns nobody.
        if path == ".env" && !self.is_mentioned(".env") {
            return Ok(None);
        }
        let is_below = local.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !is_below && (name.is_empty() || !self.is_mentioned(&name)) {
            return Err(Failure::Stuck {
                message: format!("the hub asks for {path}, which the Compose file does not mention; nothing was sent"),
                hint: "write its path in the Compose file without variables if it is meant".into(),
            });
        }
        let full = self.folder.join(local);
        match std::fs::metadata(&full) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(_) | Ok(_) => read_text(&full).map(Some),
        }
    }

    /// Whether a file that is sent has this word in it: `TAG` is no part of `TAGS`, and `.env` none of `web.env`.
    fn is_mentioned(&self, word: &str) -> bool {
        let goes_on = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        self.request.files.values().flatten().any(|file| {
            file.match_indices(word).any(|(at, _)| {
                !file[..at].ends_with(|c| goes_on(c) || c == '.') && !file[at + word.len()..].starts_with(goes_on)
            })
        })
    }
}

/// Those that the variable COMPOSE_FILE names; else what is in this folder.
fn default_files(named: Option<&str>) -> Result<Vec<PathBuf>, Failure> {
    let named = named.map(|named| listed(named, ':')).unwrap_or_default();
    if !named.is_empty() {
        return Ok(named.into_iter().map(PathBuf::from).collect());
    }
    let here = |names: &[&str]| names.iter().map(PathBuf::from).find(|path| path.exists());
    let main = here(&DEFAULT_FILES).ok_or_else(|| Failure::Usage {
        message: format!("there is no Compose file here ({})", DEFAULT_FILES.join(", ")),
        hint: "name one with -f FILE".into(),
    })?;
    Ok([Some(main), here(&OVERRIDE_FILES)].into_iter().flatten().collect())
}

fn listed(text: &str, separator: char) -> Vec<String> {
    text.split(separator).map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn folder_of(path: &Path) -> PathBuf {
    path.parent().filter(|_| !is_stdin(path)).map(Path::to_owned).unwrap_or_default()
}

/// A file as seen from the folder of the first: below it or beside it by the way there, elsewhere by its whole path.
fn name_in(folder: &Path, path: &Path) -> String {
    if is_stdin(path) {
        return STDIN.to_owned();
    }
    let plain = |path: &Path| path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let name = match path.strip_prefix(folder) {
        Ok(below) => below.to_owned(),
        Err(_) if plain(folder) && plain(path) => {
            let up = folder.components().filter(|part| matches!(part, Component::Normal(_))).map(|_| "..");
            up.collect::<PathBuf>().join(path)
        }
        Err(_) => std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
    };
    name.components().filter(|part| *part != Component::CurDir).collect::<PathBuf>().to_string_lossy().into_owned()
}

fn read_dotenv(
    named: Option<&Path>,
    folder: &Path,
    given: &BTreeMap<String, String>,
    environment: fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, Failure> {
    let path = named.map_or_else(|| folder.join(".env"), Path::to_owned);
    if named.is_none() && !path.is_file() {
        return Ok(BTreeMap::new());
    }
    let text = read_text(&path)?;
    let outer = |name: &str| given.get(name).cloned().or_else(|| environment(name));
    dotenv::parse(&text, &outer)
        .map_err(|bad| Failure::Read { path, reason: format!("line {}: {}", bad.line, bad.message) })
}

fn read_text(path: &Path) -> Result<String, Failure> {
    let failed = |reason: String| Failure::Read { path: path.to_owned(), reason };
    let in_words = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => failed("there is no such file".into()),
        kind => failed(kind.to_string()),
    };
    let file = std::fs::File::open(path).map_err(in_words)?;
    let mut text = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut text).map_err(in_words)?;
    checked_text(text).map_err(failed)
}

fn read_stdin() -> Result<String, Failure> {
    let failed = |reason: String| Failure::Read { path: STDIN.into(), reason };
    let mut text = Vec::new();
    io::stdin().take(MAX_FILE_BYTES + 1).read_to_end(&mut text).map_err(|error| failed(error.kind().to_string()))?;
    checked_text(text).map_err(failed)
}

fn checked_text(bytes: Vec<u8>) -> Result<String, String> {
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("it is larger than {} KiB", MAX_FILE_BYTES / 1024));
    }
    String::from_utf8(bytes)
        .map_err(|error| format!("it is not UTF-8 text (byte {})", error.utf8_error().valid_up_to()))
}

/// Small letters, digits, `-` and `_`, a letter or digit first: Docker Compose's rule for names of projects.
fn sanitised(folder: &str) -> String {
    let lower = folder.to_lowercase();
    let fit = lower.chars().filter(|&c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_');
    fit.collect::<String>().trim_start_matches(['-', '_']).chars().take(63).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these files, and the project of its compose.yaml.
    fn project(files: &[(&str, &str)]) -> (tempfile::TempDir, Project) {
        let folder = tempfile::Builder::new().prefix("My Shop.").tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let args = ComposeFile {
            files: vec![folder.path().join("compose.yaml")],
            profiles: Vec::new(),
            name: None,
            variables: vec![("GIVEN".into(), "line".into())],
            env_file: None,
        };
        let environment = |name: &str| match name {
            "TAG" => Some("environment".to_owned()),
            "GIVEN" | "SECRET" => Some("environment".to_owned()),
            _ => None,
        };
        let project = Project::open_with(&args, environment).unwrap();
        (folder, project)
    }

    const COMPOSE: &str = "services: {web: {image: 'x:${TAG} ${GIVEN} ${DOT} ${UNSET}', env_file: [a.env, ../b.env]}}";

    #[test]
    fn the_command_line_wins_over_the_environment_and_that_over_dotenv() {
        let (_folder, mut project) = project(&[("compose.yaml", COMPOSE), (".env", "TAG=file\nDOT=file\nOTHER=1\n")]);
        let asked = ["TAG", "GIVEN", "DOT", "UNSET"].map(String::from);
        assert!(project.supply(&[], &asked).unwrap().is_new);
        let value = |name: &str| project.request.variables[name].as_deref();
        assert_eq!(asked.each_ref().map(|name| value(name)), [Some("environment"), Some("line"), Some("file"), None]);
        assert!(!project.supply(&[], &asked).unwrap().is_new, "asking again brings nothing new");
    }

    #[test]
    fn what_the_file_does_not_mention_is_not_sent() {
        let (_folder, mut project) = project(&[("compose.yaml", COMPOSE), (".env", "OTHER=secret\n")]);
        project.supply(&[".env".into()], &["SECRET".into(), "OTHER".into()]).unwrap();
        assert_eq!(project.request.files[".env"], None);
        assert!(project.request.variables.is_empty());
        assert!(matches!(project.supply(&["/etc/passwd".into()], &[]), Err(Failure::Stuck { .. })));
        assert!(matches!(project.supply(&["../../etc/passwd".into()], &[]), Err(Failure::Stuck { .. })));
    }

    #[test]
    fn files_are_named_as_seen_from_the_first() {
        for (first, path, name) in [
            ("compose.yaml", "prod.yaml", "prod.yaml"),
            ("compose.yaml", "./prod/a.yaml", "prod/a.yaml"),
            ("shop/compose.yaml", "shop/prod.yaml", "prod.yaml"),
            ("a/shop/compose.yaml", "prod.yaml", "../../prod.yaml"),
            ("/srv/shop/compose.yaml", "/srv/prod.yaml", "/srv/prod.yaml"),
            ("shop/compose.yaml", "-", STDIN),
        ] {
            assert_eq!(name_in(&folder_of(Path::new(first)), Path::new(path)), name, "{first} {path}");
        }
    }

    #[test]
    fn files_are_read_relative_to_the_compose_file_and_missing_ones_are_told() {
        let (_folder, mut project) = project(&[("compose.yaml", COMPOSE), ("a.env", "A=1\n")]);
        let supplied = project.supply(&["a.env".into(), "../b.env".into()], &[]).unwrap();
        assert_eq!(supplied, Supplied { files: vec!["a.env".into()], is_new: true });
        assert_eq!(project.request.files["a.env"].as_deref(), Some("A=1\n"));
        assert_eq!(project.request.files["../b.env"], None);
    }

    #[test]
    fn a_stack_without_a_name_is_called_after_its_folder() {
        let (_folder, project) = project(&[("compose.yaml", COMPOSE)]);
        assert!(project.folder_name().unwrap().starts_with("myshop"), "{:?}", project.folder_name());
        assert_eq!(sanitised("_-My Größe_2"), "mygre_2");
        assert_eq!(sanitised("..."), "");
    }

    #[test]
    fn a_binary_or_huge_file_is_refused_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.yaml");
        std::fs::write(&path, b"ab\xff").unwrap();
        assert!(read_text(&path).unwrap_err().to_string().ends_with("x.yaml: it is not UTF-8 text (byte 2)"));
        std::fs::write(&path, vec![b'a'; 1024 * 1024 + 1]).unwrap();
        assert!(read_text(&path).unwrap_err().to_string().ends_with("larger than 1024 KiB"));
        assert!(read_text(folder.path()).unwrap_err().to_string().contains("cannot read"));
    }
}
